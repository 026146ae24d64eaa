//! The spans below an entry span as a tree: duplicates resolved, cycles cut, clocks brought into line.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::column::Column;
use super::memo::Memo;
use super::skew;
use crate::assemble::Trace;
use crate::decide::stream;
use crate::otlp::SpanId;
use crate::otlp::attribute::AnyValue;
use crate::otlp::span::{Kind, SpanHead};
use crate::template::template;

/// Hashes that are the same in every process, so that rings and snapshots of one agree with another.
const HASHER: FixedState = FixedState::with_seed(0x6c61_6767_6172_6400);

/// A hash of content: the same value for the same bytes, always.
pub(crate) fn hash_of(content: impl Hash) -> u64 {
    HASHER.hash_one(content)
}

/// No node.
pub(crate) const NONE: u32 = u32::MAX;

/// No time of a node lies further from the entry span's start, in nanoseconds (36 years): sums and differences of
/// a few such times cannot overflow.
pub(crate) const FAR: i64 = 1 << 60;

/// One span of a tree. Times are nanoseconds since the entry span's start, on the entry service's clock.
#[allow(clippy::struct_excessive_bools, reason = "four independent facts, each asked for by its name")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// Its index in the trace.
    pub(crate) span: u32,
    /// The node it names as its parent; the entry names itself.
    pub(crate) caller: u32,
    /// The node whose time it may take: the caller, or the nearest ancestor that was still open.
    pub(crate) parent: u32,
    /// Index into [`Tree::services`].
    pub(crate) service: u32,
    /// Hash of its templated name.
    pub(crate) name: u64,
    pub(crate) kind: Kind,
    pub(crate) is_error: bool,
    /// Whether a request crossed from one process into another between the caller and this.
    pub(crate) is_remote: bool,
    /// Whether the parent waited for it.
    pub(crate) is_blocking: bool,
    /// Whether it outlived the client that waited for it.
    pub(crate) is_cut: bool,
    /// Nanoseconds by which it ends after a caller that may have waited for it, where no client span says; else 0.
    pub(crate) adrift: u64,
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Node {
    /// Nanoseconds.
    pub(crate) fn duration(&self) -> u64 {
        u64::try_from(self.end - self.start).unwrap_or(0)
    }

    /// Whether it is the asking side of a call.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.kind, Kind::Client | Kind::Producer)
    }
}

/// A service as spans name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// The same for the same namespace and name, everywhere.
    pub(crate) id: u64,
    /// `service.name`.
    pub(crate) name: String,
}

impl Service {
    /// Whether its spans say which service they are of.
    pub(crate) fn is_known(name: &str) -> bool {
        !name.is_empty() && !name.starts_with("unknown_service")
    }
}

/// The spans below one entry span.
#[derive(Debug)]
pub(crate) struct Tree<'t> {
    pub(crate) trace: &'t Trace,
    /// The entry span first, callers always before those they call.
    pub(crate) nodes: Column<Node>,
    pub(crate) services: Column<Service>,
    /// Spans whose parent is not in the trace, the entry span apart.
    pub(crate) orphans: usize,
    /// Nanoseconds that those of them took in all that somebody may have waited for.
    pub(crate) astray: u64,
    /// Different spans without credible times.
    pub(crate) untimed: usize,
    /// Spans that are their own ancestors, and those below them.
    pub(crate) circling: usize,
    /// Different spans of the trace that have credible times.
    pub(crate) spans: usize,
    /// Nanoseconds, the largest correction of a clock.
    pub(crate) skew: u64,
    /// Nanoseconds from the entry span's start to the last end in the trace.
    pub(crate) envelope: u64,
}

impl<'t> Tree<'t> {
    /// The tree below span `entry` of `trace`; `None` where that span has no credible times.
    pub(crate) fn build(trace: &'t Trace, entry: usize) -> Option<Self> {
        let heads: Vec<&SpanHead> = trace.heads().collect();
        let entry_head = heads.get(entry).filter(|head| head.has_credible_times())?;
        let unique = Unique::of(trace, &heads);
        let entry = unique.representative(entry_head)?;

        let mut services = Services::new(trace);
        let service_of: Column<u32> =
            unique.spans.iter().map(|span| services.of(*span)).collect::<Vec<_>>().into();
        let (mut orphans, mut astray) = (0, 0_u64);
        let parents: Column<u32> = (0..unique.spans.length())
            .map(|number| {
                let parent = unique.parent(number, &heads, &service_of);
                let head = unique.head(number, &heads);
                if parent == NONE && number != entry && head.parent_id.is_some() {
                    orphans += 1;
                    let took = if head.kind == Kind::Consumer { 0 } else { head.duration() };
                    astray = astray.saturating_add(took);
                }
                parent
            })
            .collect::<Vec<_>>()
            .into();

        let mut nodes = Column::with_capacity(unique.spans.as_slice().len());
        let mut names = Memo::new();
        let origin = entry_head.start;
        breadth_first(entry, &parents, |number, caller| {
            let head = unique.head(number, &heads);
            let service = service_of[number];
            let is_remote = caller != NONE && {
                let caller: &Node = &nodes[caller];
                caller.service != service || (caller.asks() && head.kind.is_entry())
            };
            let span = unique.spans[number];
            let kind =
                if is_remote || caller == NONE { head.kind } else { local_kind(trace, span, head.kind) };
            let caller = if caller == NONE { 0 } else { caller };
            nodes.push(Node {
                span,
                caller,
                parent: caller,
                service,
                name: names.hash(raw_name(trace, span), || hash_of(&*templated(trace, span))),
                kind,
                is_error: head.is_error,
                is_remote,
                is_blocking: false,
                is_cut: false,
                adrift: 0,
                start: since(origin, head.start),
                end: since(origin, head.end),
            })
        });
        let skew = skew::settle(&mut nodes);
        let untimed = heads.iter().filter(|head| !head.has_credible_times());
        let mut untimed: Vec<SpanId> = untimed.map(|head| head.span_id).collect();
        untimed.sort_unstable();
        untimed.dedup();
        let placed = nodes.length();
        let last_end = heads
            .iter()
            .filter(|head| head.has_credible_times())
            .map(|head| head.end)
            .max()
            .unwrap_or(origin);
        Some(Self {
            trace,
            nodes,
            services: services.known,
            orphans,
            astray,
            untimed: untimed.len(),
            circling: circling(&parents, placed),
            spans: unique.spans.as_slice().len(),
            skew,
            envelope: last_end.saturating_sub(origin),
        })
    }

    /// Spans that could not be put in their places.
    pub(crate) fn broken(&self) -> usize {
        self.orphans + self.untimed + self.circling
    }

    /// The entry span's node.
    pub(crate) fn entry(&self) -> &Node {
        &self.nodes[0]
    }

    /// The service of a node.
    pub(crate) fn service(&self, node: &Node) -> &Service {
        &self.services[node.service]
    }

    /// The templated name of a node's span.
    pub(crate) fn name(&self, node: &Node) -> Cow<'t, str> {
        templated(self.trace, node.span)
    }

    /// The id of a node's span.
    pub(crate) fn span_id(&self, node: &Node) -> Option<SpanId> {
        Some(self.trace.span(node.span as usize)?.head.span_id)
    }
}

/// The kind of a span below another one of its process. Who asks for messages there asks a broker, and waits: by older
/// conventions such a span is a CONSUMER all the same, as is work that a message began.
fn local_kind(trace: &Trace, span: u32, kind: Kind) -> Kind {
    let asks = || trace.span(span as usize).is_some_and(|span| stream::is_stream(&span));
    if kind == Kind::Consumer && asks() { Kind::Client } else { kind }
}

/// The name of a span as it came; a long one is cut.
fn raw_name(trace: &Trace, span: u32) -> &[u8] {
    const LONGEST: usize = 256;
    let name = trace.span(span as usize).map_or(&[][..], |span| span.name());
    name.get(..LONGEST).unwrap_or(name)
}

/// The same without what varies from call to call; invalid UTF-8 is replaced.
fn templated(trace: &Trace, span: u32) -> Cow<'_, str> {
    match String::from_utf8_lossy(raw_name(trace, span)) {
        Cow::Borrowed(name) => template(name),
        Cow::Owned(name) => Cow::Owned(template(&name).into_owned()),
    }
}

fn since(origin: u64, time: u64) -> i64 {
    let difference = i128::from(time) - i128::from(origin);
    i64::try_from(difference.clamp(-i128::from(FAR), i128::from(FAR))).unwrap_or(0)
}

/// Calls `visit` with each number reachable from `root` and what it returned for the parent, parents first.
/// Numbers on a cycle that `root` is not above are never reached.
fn breadth_first(root: u32, parents: &Column<u32>, mut visit: impl FnMut(u32, u32) -> u32) {
    let children = Children::of(parents.iter().copied());
    let mut queue = vec![(root, NONE)];
    let mut next = 0;
    while let Some((number, parent)) = queue.get(next).copied() {
        next += 1;
        let visited = visit(number, parent);
        queue
            .extend(children.of_parent(number).iter().filter(|child| **child != root).map(|c| (*c, visited)));
    }
}

/// How many numbers stand on a cycle of parents or below one; `reached` of them are known to be below an entry span.
fn circling(parents: &Column<u32>, reached: u32) -> usize {
    if parents.length() == reached {
        return 0;
    }
    let tops = (0..parents.length()).filter(|number| parents[*number] == NONE);
    let children = Children::of(parents.iter().copied());
    let mut below: Vec<u32> = tops.collect();
    let mut placed = 0;
    while let Some(number) = below.pop() {
        placed += 1;
        below.extend(children.of_parent(number));
    }
    parents.as_slice().len() - placed
}

/// The children of each node, in one allocation.
#[derive(Debug)]
pub(crate) struct Children {
    starts: Vec<u32>,
    children: Vec<u32>,
}

impl Children {
    /// From the parent of each number; [`NONE`] and numbers that are their own parent are nobody's children.
    pub(crate) fn of(parents: impl ExactSizeIterator<Item = u32> + Clone) -> Self {
        let count = parents.len();
        let mut starts = vec![0_u32; count + 1];
        let is_child = |(number, parent): &(u32, u32)| *parent != NONE && number != parent;
        for (_, parent) in (0..).zip(parents.clone()).filter(is_child) {
            if let Some(slot) = starts.get_mut(parent as usize + 1) {
                *slot += 1;
            }
        }
        let mut sum = 0;
        for slot in &mut starts {
            sum += *slot;
            *slot = sum;
        }
        let mut children = vec![0; sum as usize];
        let mut free = starts.clone();
        for (number, parent) in (0..).zip(parents).filter(is_child) {
            if let Some(slot) = free.get_mut(parent as usize) {
                if let Some(child) = children.get_mut(*slot as usize) {
                    *child = number;
                }
                *slot += 1;
            }
        }
        Self { starts, children }
    }

    pub(crate) fn of_parent(&self, number: u32) -> &[u32] {
        let range = self.range(number);
        self.children.get(range).unwrap_or(&[])
    }

    pub(crate) fn of_parent_mut(&mut self, number: u32) -> &mut [u32] {
        let range = self.range(number);
        self.children.get_mut(range).unwrap_or(&mut [])
    }

    fn range(&self, number: u32) -> std::ops::Range<usize> {
        let at = |number: usize| self.starts.get(number).map_or(0, |start| *start as usize);
        at(number as usize)..at(number as usize + 1)
    }
}

/// The different spans of a trace, ordered by id. Zipkin gives both sides of a call one id: they stay two,
/// the asking side first.
struct Unique {
    ids: Column<SpanId>,
    spans: Column<u32>,
}

impl Unique {
    fn of(trace: &Trace, heads: &[&SpanHead]) -> Self {
        let mut by_id: Vec<(SpanId, u32)> = (0_u32..)
            .zip(heads)
            .filter(|(_, head)| head.has_credible_times())
            .map(|(span, head)| (head.span_id, span))
            .collect();
        by_id.sort_unstable();
        let mut ids = Vec::with_capacity(by_id.len());
        let mut spans = Vec::with_capacity(by_id.len());
        let mut keep = |id: SpanId, span: u32| {
            ids.push(id);
            spans.push(span);
        };
        for same in by_id.chunk_by(|a, b| a.0 == b.0) {
            if let [(id, span)] = same {
                keep(*id, *span);
                continue;
            }
            // Of different spans with one id the longer counts; which of two equally long ones, their bytes say.
            let rank = |(_, span): &&(SpanId, u32)| {
                trace.span(*span as usize).map(|span| (span.head.duration(), span.body))
            };
            let answers = |(_, span): &&(SpanId, u32)| {
                heads.get(*span as usize).is_some_and(|head| head.kind.is_entry())
            };
            let asking = same.iter().filter(|span| !answers(span)).max_by_key(rank);
            let answering = same.iter().filter(answers).max_by_key(rank);
            for (id, span) in asking.into_iter().chain(answering) {
                keep(*id, *span);
            }
        }
        Self { ids: ids.into(), spans: spans.into() }
    }

    fn head<'h>(&self, number: u32, heads: &[&'h SpanHead]) -> &'h SpanHead {
        heads.get(self.spans[number] as usize).copied().expect("only spans of the trace are kept")
    }

    /// The numbers with this id: none, one, or the two sides of a call.
    fn with_id(&self, id: SpanId) -> std::ops::Range<u32> {
        let ids = self.ids.as_slice();
        let start = ids.partition_point(|other| *other < id);
        let length = ids.get(start..).map_or(0, |rest| rest.iter().take_while(|other| **other == id).count());
        let number = |at: usize| u32::try_from(at).unwrap_or(NONE);
        number(start)..number(start + length)
    }

    /// What stands for a span that may itself have been left out as a duplicate.
    fn representative(&self, head: &SpanHead) -> Option<u32> {
        let mut same = self.with_id(head.span_id);
        let first = same.next()?;
        Some(if head.kind.is_entry() { same.next().unwrap_or(first) } else { first })
    }

    fn parent(&self, number: u32, heads: &[&SpanHead], service_of: &Column<u32>) -> u32 {
        // The two sides of one call stand beside each other, the asking one first.
        if let Some(asking) = number.checked_sub(1).filter(|before| self.ids[*before] == self.ids[number]) {
            return asking;
        }
        let Some(parent) = self.head(number, heads).parent_id else { return NONE };
        let mut candidates = self.with_id(parent);
        let Some(first) = candidates.next() else { return NONE };
        match candidates.next() {
            // What runs below a shared id runs on the answering side, unless its service says otherwise.
            Some(answering)
                if service_of[answering] == service_of[number] || service_of[first] != service_of[number] =>
            {
                answering
            }
            _ => first,
        }
    }
}

/// The services of a trace, each resource read once.
struct Services<'t> {
    trace: &'t Trace,
    by_resource: Vec<u32>,
    by_id: HashMap<u64, u32, FixedState>,
    known: Column<Service>,
}

impl<'t> Services<'t> {
    fn new(trace: &'t Trace) -> Self {
        Self { trace, by_resource: Vec::new(), by_id: HashMap::with_hasher(HASHER), known: Column::default() }
    }

    fn of(&mut self, span: u32) -> u32 {
        let resource = self.trace.resource_of(span as usize).unwrap_or(0);
        if self.by_resource.len() <= resource {
            self.by_resource.resize(resource + 1, NONE);
        }
        let Some(slot) = self.by_resource.get_mut(resource) else { return 0 };
        if *slot == NONE {
            let (mut name, mut namespace): (&[u8], &[u8]) = (&[], &[]);
            for attribute in self.trace.resource_attributes(resource) {
                match (attribute.key, attribute.value) {
                    (b"service.name", AnyValue::String(value)) => name = value,
                    (b"service.namespace", AnyValue::String(value)) => namespace = value,
                    _ => {}
                }
            }
            let id = hash_of((namespace, name));
            *slot = *self.by_id.entry(id).or_insert_with(|| {
                self.known.push(Service { id, name: String::from_utf8_lossy(name).into_owned() })
            });
        }
        *slot
    }
}
