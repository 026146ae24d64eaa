//! What the pipeline should do, said as plainly as possible: a map of vectors.

use std::collections::{BTreeMap, BTreeSet};

use laggard::otlp::Nanos;
use laggard::telemetry::metrics::Class;

use super::Sent;

/// Bytes that a span takes beside its body, towards `maximum_trace_size`.
const HEADER: u64 = 24;

pub(crate) struct Rules {
    pub(crate) wait: Nanos,
    pub(crate) wait_after_root: Nanos,
    pub(crate) maximum_trace_size: u64,
    /// Decisions that are remembered of each kind: `assemble.decision_cache`.
    pub(crate) remembers: usize,
    pub(crate) slow: Nanos,
}

/// What has left for the destination: the spans of a trace, or late ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Left {
    pub(crate) id: Vec<u8>,
    pub(crate) class: Class,
    pub(crate) spans: Vec<Vec<u8>>,
}

#[derive(Clone, Debug)]
struct Held {
    spans: Vec<Sent>,
    /// When it was opened and when its first root came, and how many spans had come by then.
    opened: (Nanos, u64),
    rooted: Option<(Nanos, u64)>,
    bytes: u64,
    /// How many spans had come when it became too large.
    oversized: Option<u64>,
}

/// Past decisions of one kind, in two generations: when the young one is full it becomes the old one.
#[derive(Clone, Default)]
struct Remembered([Vec<u64>; 2]);

#[derive(Clone)]
struct State {
    held: BTreeMap<u64, Held>,
    kept: Remembered,
    thrown_away: Remembered,
    /// Traces that were decided and are not remembered any more.
    forgotten: BTreeSet<u64>,
    expected: Vec<Left>,
    delivered: u64,
    dropped: u64,
    spans_come: u64,
    seen: Seen,
}

/// What a run has met, so that a test knows that it tests it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) late_kept: u64,
    pub(crate) late_dropped: u64,
    pub(crate) come_again_after_their_decision_was_forgotten: u64,
    pub(crate) too_large: u64,
    pub(crate) decided_early: u64,
}

pub(crate) struct Reference {
    rules: Rules,
    state: State,
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
}

impl Reference {
    pub(crate) fn new(rules: Rules) -> Self {
        let state = State {
            held: BTreeMap::new(),
            kept: Remembered::default(),
            thrown_away: Remembered::default(),
            forgotten: BTreeSet::new(),
            seen: Seen::default(),
            expected: Vec::new(),
            delivered: 0,
            dropped: 0,
            spans_come: 0,
        };
        Self { rules, state, delivered: 0, dropped: 0 }
    }

    /// Stores the spans of a request. How many traces had to be decided early before is for the pipeline to say, since
    /// that depends on its layout, but not which ones: `most` is the highest number that may be, `held` and `left` are
    /// what it holds and what has left it afterwards.
    pub(crate) fn store(&mut self, now: Nanos, spans: &[Sent], most: usize, held: (u64, u64), left: &[Left]) {
        let left = by_trace(left);
        let mut found = None;
        for early in 0..=most.min(self.state.held.len()) {
            let mut state = self.state.clone();
            state.decide_early(&self.rules, early);
            state.store(&self.rules, now, spans);
            let is_it = (state.held.len() as u64, state.held_spans()) == held;
            let is_it = is_it && by_trace(&state.expected) == left;
            if early == 0 || is_it {
                state.seen.decided_early += early as u64;
                found = Some(state);
            }
            if is_it {
                break;
            }
        }
        self.state = found.expect("the first one at least");
    }

    pub(crate) fn decide_due(&mut self, now: Nanos) {
        self.state.decide_due(&self.rules, now);
    }

    pub(crate) fn decide_all(&mut self) {
        self.state.decide_early(&self.rules, usize::MAX);
    }

    /// A new process: nothing is held, and nothing remembered.
    pub(crate) fn restart(&mut self) {
        assert!(self.state.held.is_empty(), "the old one has decided everything");
        for remembered in [&mut self.state.kept, &mut self.state.thrown_away] {
            self.state.forgotten.extend(remembered.0.iter().flatten());
            *remembered = Remembered::default();
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.state.seen
    }

    pub(crate) fn held_traces(&self) -> u64 {
        self.state.held.len() as u64
    }

    pub(crate) fn held_spans(&self) -> u64 {
        self.state.held_spans()
    }

    /// Holds what has left since the last time against what should have.
    pub(crate) fn check(&mut self, left: &[Left]) {
        assert_eq!(by_trace(left), by_trace(&std::mem::take(&mut self.state.expected)));
        (self.delivered, self.dropped) = (self.state.delivered, self.state.dropped);
    }
}

/// The spans that left, whatever their order and pieces.
fn by_trace(left: &[Left]) -> BTreeMap<(Vec<u8>, Class), Vec<Vec<u8>>> {
    let mut whole: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
    for Left { id, class, spans } in left {
        whole.entry((id.clone(), *class)).or_default().extend(spans.iter().cloned());
    }
    for spans in whole.values_mut() {
        spans.sort();
    }
    whole
}

impl State {
    fn held_spans(&self) -> u64 {
        self.held.values().map(|held| held.spans.len() as u64).sum()
    }

    fn store(&mut self, rules: &Rules, now: Nanos, spans: &[Sent]) {
        let mut has_oversized = false;
        for span in spans {
            self.spans_come += 1;
            let order = self.spans_come;
            if !self.held.contains_key(&span.trace) {
                if self.kept.has(span.trace) {
                    self.seen.late_kept += 1;
                    self.leave(&[*span], Class::Late);
                    continue;
                }
                if self.thrown_away.has(span.trace) {
                    self.seen.late_dropped += 1;
                    self.dropped += 1;
                    continue;
                }
                if self.forgotten.remove(&span.trace) {
                    self.seen.come_again_after_their_decision_was_forgotten += 1;
                }
            }
            let held = self.held.entry(span.trace).or_insert_with(|| Held {
                spans: Vec::new(),
                opened: (now, order),
                rooted: None,
                bytes: 0,
                oversized: None,
            });
            held.spans.push(*span);
            if span.is_root && held.rooted.is_none() {
                held.rooted = Some((now, order));
            }
            held.bytes += span.body().len() as u64 + HEADER;
            if held.bytes >= rules.maximum_trace_size && held.oversized.is_none() {
                held.oversized = Some(order);
                self.seen.too_large += 1;
                has_oversized = true;
            }
        }
        if has_oversized {
            self.decide_due(rules, 0);
        }
    }

    /// The latest of those that are too large first, then those whose root has come, then the others, the oldest
    /// first: the order says whose decision is forgotten first. At the time 0 nothing but the former is due.
    fn decide_due(&mut self, rules: &Rules, now: Nanos) {
        let place = |held: &Held| match held {
            Held { oversized: Some(order), .. } => Some((0, u64::MAX - order)),
            Held { rooted: Some((at, order)), .. } if now >= at + rules.wait_after_root => Some((1, *order)),
            Held { opened: (at, order), .. } if now >= at + rules.wait => Some((2, *order)),
            _ => None,
        };
        let mut due: Vec<_> = self.held.iter().filter_map(|(id, held)| Some((place(held)?, *id))).collect();
        due.sort_unstable();
        for (_, id) in due {
            self.decide(rules, id);
        }
    }

    /// Those whose root has come first, and then the others, the oldest first.
    fn decide_early(&mut self, rules: &Rules, count: usize) {
        let mut order: Vec<(bool, u64, u64)> = self
            .held
            .iter()
            .map(|(id, held)| (held.rooted.is_none(), held.rooted.unwrap_or(held.opened).1, *id))
            .collect();
        order.sort_unstable();
        for (.., id) in order.into_iter().take(count) {
            self.decide(rules, id);
        }
    }

    fn decide(&mut self, rules: &Rules, id: u64) {
        let Some(held) = self.held.remove(&id) else { return };
        let class = class(&held.spans, rules.slow);
        let remembered = if class.is_some() { &mut self.kept } else { &mut self.thrown_away };
        self.forgotten.extend(remembered.insert(id, rules.remembers / 2));
        match class {
            Some(class) => self.leave(&held.spans, class),
            None => self.dropped += held.spans.len() as u64,
        }
    }

    fn leave(&mut self, spans: &[Sent], class: Class) {
        self.delivered += spans.len() as u64;
        self.expected.push(Left {
            id: spans[0].trace_id().to_vec(),
            class,
            spans: spans.iter().map(|span| (span.span + 1).to_be_bytes().to_vec()).collect(),
        });
    }
}

impl Remembered {
    fn has(&self, id: u64) -> bool {
        self.0.iter().flatten().any(|other| *other == id)
    }

    /// Returns what is forgotten for it.
    fn insert(&mut self, id: u64, generation: usize) -> Vec<u64> {
        if generation == 0 {
            return vec![id];
        }
        let [young, old] = &mut self.0;
        let forgotten =
            if young.len() < generation { Vec::new() } else { std::mem::replace(old, std::mem::take(young)) };
        young.push(id);
        forgotten
    }
}

/// Why a trace is kept, if it is.
fn class(spans: &[Sent], slow: Nanos) -> Option<Class> {
    let lasting = |span: &Sent| span.end - span.start;
    // Of two that are alike, either: what they say is the same.
    let longest = |spans: Vec<&Sent>| {
        spans.into_iter().copied().min_by_key(|span| (u64::MAX - lasting(span), span.start, span.span))
    };
    let root = longest(spans.iter().filter(|span| span.is_root).collect());
    let server = longest(spans.iter().filter(|span| span.is_server).collect());
    let earliest = spans.iter().copied().min_by_key(|span| (span.start, u64::MAX - lasting(span), span.span));
    let entry = root.or(server).or(earliest).expect("a held trace has spans");
    let first = spans.iter().map(|span| span.start).min().unwrap_or(0);
    let last = spans.iter().map(|span| span.end).max().unwrap_or(0);
    let duration = root.as_ref().map_or(last - first, lasting);
    if duration > slow {
        return Some(Class::Slow);
    }
    if entry.is_error || spans.iter().any(|span| span.is_server && span.is_error) {
        return Some(Class::Error);
    }
    // Half of all traces, by the low seven bytes of their ids.
    let id = spans[0].trace_id();
    (id[9] >= 0x80).then_some(Class::Healthy)
}
