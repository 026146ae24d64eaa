//! The path of calls to each span: which span stands for it, and under which key.

use super::column::Column;
use super::dependency;
use super::memo::Memo;
use super::tree::{NONE, Node, Tree, hash_of};
use crate::otlp::span::Kind;

/// Which spans cross a process border, and what is folded into them.
#[derive(Debug)]
pub(crate) struct Calls {
    /// For each node, the one that stands for it: the entry span, a call, or what answered one.
    pub(crate) base: Column<u32>,
    /// Of bases: the hash of the path of calls down to it.
    pub(crate) key: Column<u64>,
    /// Of bases: the hash of the last element of that path.
    pub(crate) last_element: Column<u64>,
    /// Of bases: the kind of work that it is, on whatever path.
    pub(crate) item: Column<u64>,
    /// Of bases: whether it waits for an answer.
    pub(crate) is_call: Column<bool>,
    /// Of calls: the index of the service that answered, if one did.
    pub(crate) callee: Column<Option<u32>>,
    /// Of calls: whether the answer went on after the call had ended.
    pub(crate) has_cut_answer: Column<bool>,
    /// Of bases: whether it failed and nothing that it called and waited for did.
    pub(crate) fails_itself: Column<bool>,
    /// Of calls that failed and that nobody answered: the hash of what the peer may be called as a service.
    pub(crate) peer: Column<Option<u64>>,
}

/// Which services answer below a span of the same process.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Nobody,
    One(u32),
    Several,
}

impl Calls {
    pub(crate) fn of(tree: &Tree<'_>) -> Self {
        let nodes = &tree.nodes;
        let count = nodes.as_slice().len();
        let answers = answers(nodes);
        let mut calls = Self {
            base: Column::with_capacity(count),
            key: Column::filled(0, count),
            last_element: Column::filled(0, count),
            item: Column::filled(0, count),
            is_call: Column::filled(false, count),
            callee: Column::filled(None, count),
            has_cut_answer: Column::filled(false, count),
            fails_itself: Column::filled(false, count),
            peer: Column::filled(None, count),
        };
        // The outermost call of the same process around each node: a driver's span inside a client's is one call. But where
        // one of them was answered, it alone waited for the answer, and those around it are work that made it.
        let mut inside: Column<u32> = Column::with_capacity(count);
        let asks_itself = asking(nodes);
        let wraps_answered = wrapping(nodes, &asks_itself, &answers);
        let mut peers = Memo::new();
        for number in 0..nodes.length() {
            let node = &nodes[number];
            let around = if number == 0 || node.is_remote { NONE } else { inside[node.caller] };
            // A span over calls to several services is work that makes them, whatever its kind.
            let is_call = number != 0
                && around == NONE
                && asks_itself[number]
                && answers[number] != Answer::Several
                && !wraps_answered[number];
            inside.push(if is_call { number } else { around });
            let is_base = number == 0 || node.is_remote || is_call;
            calls.base.push(if is_base { number } else { calls.base[node.caller] });
            if is_base {
                calls.is_call[number] = is_call;
                calls.callee[number] = match answers[number] {
                    Answer::One(service) if is_call => Some(service),
                    _ => None,
                };
                calls.set_key(tree, number, &mut peers);
            }
            if node.is_cut {
                let asking = calls.base[node.caller];
                calls.has_cut_answer[asking] = true;
            }
        }
        calls.find_failures(nodes);
        calls
    }

    /// An error is passed on from the call that met it to all around it that wait.
    fn find_failures(&mut self, nodes: &Column<Node>) {
        let mut has_failed_below = Column::filled(false, nodes.as_slice().len());
        // Callers stand before those they call.
        for number in (0..nodes.length()).rev() {
            let node = &nodes[number];
            if self.base[number] != number || !node.is_error {
                continue;
            }
            self.fails_itself[number] = !has_failed_below[number];
            if number != 0 && node.is_blocking {
                has_failed_below[self.base[node.caller]] = true;
            }
        }
    }

    fn set_key(&mut self, tree: &Tree<'_>, number: u32, peers: &mut Memo) {
        let node = &tree.nodes[number];
        let service = tree.service(node).id;
        if number == 0 {
            // The route says which entry this is; its span's name may differ between conventions.
            self.last_element[0] = hash_of((service, node.kind as u8));
            self.key[0] = self.last_element[0];
            self.item[0] = hash_of((service, node.kind as u8, node.name));
            return;
        }
        let element = if self.is_call[number] {
            let peer = match self.callee[number] {
                Some(callee) => tree.services[callee].id,
                None => {
                    let service = if node.is_error { dependency::service(tree, node) } else { None };
                    self.peer[number] = service.map(|name| hash_of(&*name));
                    dependency::hash(tree, node, peers)
                }
            };
            hash_of(("call", service, node.name, peer))
        } else {
            hash_of((service, node.kind as u8, node.name))
        };
        self.last_element[number] = element;
        self.item[number] = element;
        self.key[number] = hash_of((self.key[self.base[node.caller]], element));
    }
}

/// For each node, who answers the calls that it or local spans below it make.
fn answers(nodes: &Column<Node>) -> Column<Answer> {
    let mut answers = Column::filled(Answer::Nobody, nodes.as_slice().len());
    // Callers stand before those they call, so from the back each is complete when it is reached.
    for number in (1..nodes.length()).rev() {
        let node = &nodes[number];
        // Whoever takes a message from its broker has no part in how long sending it takes.
        let is_message = node.kind == Kind::Consumer || nodes[node.caller].kind == Kind::Producer;
        let below = match answers[number] {
            _ if is_message => Answer::Nobody,
            _ if node.is_remote => Answer::One(node.service),
            answer => answer,
        };
        let so_far = answers[node.caller];
        answers[node.caller] = match (so_far, below) {
            (Answer::Nobody, other) | (other, Answer::Nobody) => other,
            (one, other) if one == other => one,
            _ => Answer::Several,
        };
    }
    answers
}

/// Which nodes have a span of the same process below them that asks and was answered.
fn wrapping(nodes: &Column<Node>, asks_itself: &Column<bool>, answers: &Column<Answer>) -> Column<bool> {
    let mut wraps = Column::filled(false, nodes.as_slice().len());
    // Callers stand before those they call.
    for number in (1..nodes.length()).rev() {
        let node = &nodes[number];
        let is_answered = asks_itself[number] && matches!(answers[number], Answer::One(_));
        if !node.is_remote && (is_answered || wraps[number]) {
            wraps[node.caller] = true;
        }
    }
    wraps
}

/// Which nodes ask: by their kind, or where none is said because all that is below them is in another process.
fn asking(nodes: &Column<Node>) -> Column<bool> {
    let count = nodes.as_slice().len();
    let (mut has_remote, mut has_local) = (Column::filled(false, count), Column::filled(false, count));
    for node in nodes.iter().skip(1) {
        let below = if node.is_remote { &mut has_remote } else { &mut has_local };
        below[node.caller] = true;
    }
    (0..nodes.length())
        .map(|number| {
            let node = &nodes[number];
            node.asks() || (node.kind == Kind::Unspecified && has_remote[number] && !has_local[number])
        })
        .collect::<Vec<_>>()
        .into()
}

#[cfg(test)]
mod tests {
    use crate::compare::Category;
    use crate::compare::testing::{TraceSpec, both_verdicts, culprit_of};

    const MS: i64 = 1000;

    /// An SDK of web, with a client span of its own, works `before` milliseconds until it sends a request and `after` once
    /// the answer is there; store works 50, and `more`.
    fn sdk(before: i64, after: i64, more: i64) -> TraceSpec {
        let (sent, end) = (10 + before, 70 + before + more);
        TraceSpec::default()
            .server((1, 0), ("web", "GET /"), (0, (end + after + 10) * MS))
            .client((2, 1), ("web", "Store.Get"), (5 * MS, (end + after + 5) * MS))
            .client((3, 2), ("web", "GET"), (sent * MS, end * MS))
            .server((4, 3), ("store", "GET /object"), ((sent + 5) * MS, (end - 5) * MS))
    }

    #[test]
    fn of_client_spans_inside_one_another_the_one_that_was_answered_is_the_call() {
        let fast = [sdk(2, 2, 0)];
        for (slow, service, category) in [
            (sdk(200, 2, 0), "web", Category::OwnTime),
            (sdk(2, 200, 0), "web", Category::OwnTime),
            (sdk(2, 2, 200), "store", Category::OwnTime),
        ] {
            for verdict in both_verdicts(&fast, &slow) {
                let culprit = culprit_of(&verdict);
                assert_eq!((culprit.service.as_str(), culprit.category), (service, category));
            }
        }
    }
}
