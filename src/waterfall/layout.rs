//! Which spans of a trace are drawn, in which order, how deep each stands.

use std::collections::{BTreeSet, HashMap};

use super::push_printable;
use crate::assemble::Trace;
use crate::otlp::{Nanos, SpanId};

/// The stretch of time that is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(crate) start: Nanos,
    /// At least 1.
    pub(crate) length: Nanos,
}

impl Axis {
    pub(crate) fn end(self) -> Nanos {
        self.start.saturating_add(self.length)
    }

    /// Which of `cells` boundaries is nearest to a moment: 0 before the axis, `cells` behind it.
    pub(crate) fn cell(self, moment: Nanos, cells: usize) -> usize {
        let offset = u128::from(moment.saturating_sub(self.start).min(self.length));
        let length = u128::from(self.length);
        let nearest = (offset * cells as u128 * 2 + length) / (length * 2);
        usize::try_from(nearest).unwrap_or(cells)
    }
}

/// A span to draw.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// Its index in the trace.
    pub(crate) span: usize,
    pub(crate) depth: usize,
    pub(crate) service: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) start: Nanos,
    pub(crate) end: Nanos,
    pub(crate) duration: Nanos,
    pub(crate) is_culprit: bool,
    /// Start and end of each child, drawn or not.
    pub(crate) children: Vec<(Nanos, Nanos)>,
}

impl Row<'_> {
    /// Indentation, service and name; no longer than a little more than `limit` columns.
    pub(crate) fn label(&self, limit: usize) -> String {
        // Half of the column stays for the names, however deep the tree is.
        let mut label = " ".repeat((self.depth * 2).min(limit / 2));
        push_printable(&mut label, self.service, limit);
        label.push(' ');
        push_printable(&mut label, self.name, limit);
        label
    }

    /// The stretches of time in which no child is at work, in order.
    pub(crate) fn own(&self) -> Vec<(Nanos, Nanos)> {
        let mut children = self.children.clone();
        children.sort_unstable();
        let mut own = Vec::new();
        let mut from = self.start;
        for (start, end) in children {
            if start.min(self.end) > from {
                own.push((from, start.min(self.end)));
            }
            from = from.max(end);
        }
        if self.end > from {
            own.push((from, self.end));
        }
        own
    }
}

/// What to draw.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    pub(crate) axis: Axis,
    pub(crate) rows: Vec<Row<'a>>,
    /// How many spans are not among the rows.
    pub(crate) hidden: usize,
}

/// Lays out at most `max_rows` spans: the culprit with its callers, then the longest ones.
pub(crate) fn of(trace: &Trace, entry: usize, culprit: Option<SpanId>, max_rows: usize) -> Layout<'_> {
    let tree = Tree::of(trace);
    let culprit = culprit.and_then(|id| trace.heads().position(|head| head.span_id == id));
    let drawn = tree.choose(trace, culprit, max_rows);
    let rows: Vec<Row<'_>> = tree
        .order
        .iter()
        .filter(|place| drawn.contains(&place.span))
        .filter_map(|place| {
            let span = trace.span(place.span)?;
            let child = |child: &usize| trace.span(*child).map(|child| (child.head.start, child.head.end));
            let children = tree.children.get(place.span).map_or(&[][..], Vec::as_slice);
            Some(Row {
                span: place.span,
                depth: place.depth,
                service: match trace.service_of(place.span) {
                    b"" => b"unknown_service",
                    service => service,
                },
                name: span.name(),
                start: span.head.start,
                end: span.head.end,
                duration: span.head.duration(),
                is_culprit: culprit == Some(place.span),
                // A span that ends before it starts would count backwards.
                children: children.iter().filter_map(child).filter(|(start, end)| start < end).collect(),
            })
        })
        .collect();
    let (start, length) = trace.span(entry).map_or((0, 1), |e| (e.head.start, e.head.duration().max(1)));
    let hidden = trace.len() - rows.len();
    Layout { axis: Axis { start, length }, rows, hidden }
}

/// A span's place in the drawing.
#[derive(Debug)]
struct Place {
    span: usize,
    parent: Option<usize>,
    depth: usize,
}

/// All spans, each after its parent.
#[derive(Debug)]
struct Tree {
    order: Vec<Place>,
    children: Vec<Vec<usize>>,
}

impl Tree {
    fn of(trace: &Trace) -> Self {
        let mut by_id: HashMap<SpanId, usize> = HashMap::with_capacity(trace.len());
        for (index, head) in trace.heads().enumerate() {
            by_id.entry(head.span_id).or_insert(index);
        }
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); trace.len()];
        let mut by_start: Vec<(Nanos, usize)> = Vec::with_capacity(trace.len());
        let mut is_root = vec![true; trace.len()];
        for (index, head) in trace.heads().enumerate() {
            by_start.push((head.start, index));
            let parent = head.parent_id.and_then(|id| by_id.get(&id)).filter(|parent| **parent != index);
            if let Some(siblings) = parent.and_then(|parent| children.get_mut(*parent)) {
                siblings.push(index);
                if let Some(is_root) = is_root.get_mut(index) {
                    *is_root = false;
                }
            }
        }
        by_start.sort_unstable();
        let starts: Vec<Nanos> = trace.heads().map(|head| head.start).collect();
        for siblings in &mut children {
            siblings.sort_by_key(|child| (starts.get(*child).copied(), *child));
        }
        let mut tree = Self { order: Vec::with_capacity(trace.len()), children };
        let mut is_placed = vec![false; trace.len()];
        let roots = by_start.iter().filter(|(_, index)| is_root.get(*index) == Some(&true));
        // Spans that call each other in a circle are below no root; the earliest of them stands for one.
        for (_, root) in roots.chain(&by_start) {
            tree.place(*root, &mut is_placed);
        }
        tree
    }

    /// Appends a span and all below it, parents first, without recursion: chains of calls may be long.
    fn place(&mut self, root: usize, is_placed: &mut [bool]) {
        let mut pending = vec![Place { span: root, parent: None, depth: 0 }];
        while let Some(place) = pending.pop() {
            let Some(is_placed) = is_placed.get_mut(place.span) else { continue };
            if std::mem::replace(is_placed, true) {
                continue;
            }
            let children = self.children.get(place.span).map_or(&[][..], Vec::as_slice);
            pending.extend(children.iter().rev().map(|child| Place {
                span: *child,
                parent: Some(place.span),
                depth: place.depth + 1,
            }));
            self.order.push(place);
        }
    }

    /// The spans to draw: the culprit and its callers, then the longest ones whose parents are drawn.
    fn choose(&self, trace: &Trace, culprit: Option<usize>, max_rows: usize) -> BTreeSet<usize> {
        let parents: HashMap<usize, usize> =
            self.order.iter().filter_map(|place| Some((place.span, place.parent?))).collect();
        let mut drawn: BTreeSet<usize> =
            std::iter::successors(culprit, |span| parents.get(span).copied()).take(max_rows).collect();
        let mut by_length: Vec<(Nanos, &Place)> =
            self.longest_below(trace).into_iter().zip(&self.order).collect();
        // Stable: where parent and child are equal, the parent stays first.
        by_length.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        for (_, place) in by_length {
            if drawn.len() >= max_rows {
                break;
            }
            if place.parent.is_none_or(|parent| drawn.contains(&parent)) {
                drawn.insert(place.span);
            }
        }
        drawn
    }

    /// For each place the longest duration of its span and all below it, so that no child comes before its parent.
    fn longest_below(&self, trace: &Trace) -> Vec<Nanos> {
        let mut longest: HashMap<usize, Nanos> = HashMap::with_capacity(self.order.len());
        for place in self.order.iter().rev() {
            let own = trace.span(place.span).map_or(0, |span| span.head.duration());
            let length =
                *longest.entry(place.span).and_modify(|below| *below = own.max(*below)).or_insert(own);
            if let Some(parent) = place.parent {
                longest.entry(parent).and_modify(|below| *below = length.max(*below)).or_insert(length);
            }
        }
        self.order.iter().map(|place| longest.get(&place.span).copied().unwrap_or(0)).collect()
    }
}
