//! Two waterfalls put beside each other: which span of one is which span of the other.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::layout::Row;
use crate::template::template;

/// One line: a call that both traces have, or only one of them. The rows are numbers of its list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) fast: Option<usize>,
    pub(crate) slow: Option<usize>,
    pub(crate) depth: usize,
}

/// The same call: the same caller, service and templated name, and as many like it before it.
type Key = (usize, Vec<u8>, String, usize);

#[derive(Default)]
struct Lines {
    pairs: Vec<Pair>,
    children: Vec<Vec<usize>>,
    by_key: HashMap<Key, usize, FixedState>,
}

/// The lines of both: in the order of the slow trace, calls that only the fast one has behind those before them.
pub(crate) fn of(fast: &[Row<'_>], slow: &[Row<'_>]) -> Vec<Pair> {
    // Line 0 stands above all roots and is not a call.
    let mut lines = Lines { pairs: vec![Pair::default()], children: vec![Vec::new()], ..Lines::default() };
    lines.add(slow, |pair, row| pair.slow = Some(row));
    lines.add(fast, |pair, row| pair.fast = Some(row));
    lines.in_order()
}

impl Lines {
    /// Takes rows, each behind its parent.
    fn add(&mut self, rows: &[Row<'_>], set: impl Fn(&mut Pair, usize)) {
        let mut like: HashMap<(usize, &[u8], String), usize, FixedState> = HashMap::default();
        let mut latest: HashMap<usize, usize, FixedState> = HashMap::default();
        // Depths and lines of the rows around the current one.
        let mut around: Vec<(usize, usize)> = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            while around.last().is_some_and(|(depth, _)| *depth >= row.depth) {
                around.pop();
            }
            let parent = around.last().map_or(0, |(_, line)| *line);
            let name = template(&String::from_utf8_lossy(row.name)).into_owned();
            let ordinal = like.entry((parent, row.service, name.clone())).or_insert(0);
            let key = (parent, row.service.to_vec(), name, *ordinal);
            *ordinal += 1;
            let line = match self.by_key.get(&key) {
                Some(line) => *line,
                None => self.insert(key, parent, around.len(), latest.get(&parent).copied()),
            };
            if let Some(pair) = self.pairs.get_mut(line) {
                set(pair, number);
            }
            latest.insert(parent, line);
            around.push((row.depth, line));
        }
    }

    /// A new line below `parent`, behind its child `before`, or as its first child.
    fn insert(&mut self, key: Key, parent: usize, depth: usize, before: Option<usize>) -> usize {
        let line = self.pairs.len();
        self.pairs.push(Pair { depth, ..Pair::default() });
        self.children.push(Vec::new());
        self.by_key.insert(key, line);
        if let Some(siblings) = self.children.get_mut(parent) {
            let behind = siblings.iter().position(|sibling| Some(*sibling) == before);
            siblings.insert(behind.map_or(0, |at| at + 1), line);
        }
        line
    }

    fn in_order(self) -> Vec<Pair> {
        let mut ordered = Vec::with_capacity(self.pairs.len());
        let mut pending = vec![0];
        while let Some(line) = pending.pop() {
            pending.extend(self.children.get(line).into_iter().flatten().rev());
            ordered.extend(self.pairs.get(line).filter(|_| line != 0));
        }
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<'a>(spans: &[(usize, &'a str)]) -> Vec<Row<'a>> {
        let row = |(span, &(depth, name)): (usize, &(usize, &'a str))| Row {
            span,
            depth,
            service: b"api",
            name: name.as_bytes(),
            start: 0,
            end: 0,
            duration: 0,
            is_culprit: false,
            children: Vec::new(),
        };
        spans.iter().enumerate().map(row).collect()
    }

    /// `name fast slow` of each line, indented; `-` where a side has none.
    fn lines(fast: &[(usize, &str)], slow: &[(usize, &str)]) -> Vec<String> {
        let show = |side: Option<usize>| side.map_or("-".to_owned(), |row| row.to_string());
        let line = |pair: &Pair| {
            let (fast_name, slow_name) = (pair.fast.map(|row| fast[row].1), pair.slow.map(|row| slow[row].1));
            let name = slow_name.or(fast_name).expect("no line is empty");
            format!("{}{name} {} {}", " ".repeat(pair.depth), show(pair.fast), show(pair.slow))
        };
        of(&rows(fast), &rows(slow)).iter().map(line).collect()
    }

    #[test]
    fn calls_that_both_have_share_a_line_in_the_order_of_the_slow_one() {
        let fast = [(0, "root"), (1, "a"), (2, "x"), (1, "b")];
        let slow = [(0, "root"), (1, "b"), (1, "a"), (2, "x")];
        assert_eq!(lines(&fast, &slow), ["root 0 0", " b 3 1", " a 1 2", "  x 2 3"]);
    }

    #[test]
    fn what_only_one_has_gets_a_line_of_its_own_where_it_belongs() {
        let fast = [(0, "root"), (1, "first"), (1, "a"), (2, "gone"), (1, "last")];
        let slow = [(0, "root"), (1, "a"), (2, "new"), (1, "a")];
        let expected = ["root 0 0", " first 1 -", " a 2 1", "  gone 3 -", "  new - 2", " last 4 -", " a - 3"];
        assert_eq!(lines(&fast, &slow), expected);
    }

    #[test]
    fn names_with_ids_are_the_same_call() {
        assert_eq!(lines(&[(0, "GET /users/42")], &[(0, "GET /users/7")]), ["GET /users/7 0 0"]);
        assert_eq!(lines(&[], &[]), [""; 0]);
    }
}
