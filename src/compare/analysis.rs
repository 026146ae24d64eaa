//! All that is read out of one trace for a comparison.

use super::calls::Calls;
use super::ledger::Ledger;
use super::shape::ShapeSet;
use super::sweep::Path;
use super::tree::Tree;
use crate::assemble::Trace;

/// One trace, analysed.
#[derive(Debug)]
pub(crate) struct Analysis<'t> {
    pub(crate) tree: Tree<'t>,
    pub(crate) path: Path,
    pub(crate) calls: Calls,
    pub(crate) ledger: Ledger,
    pub(crate) shape: ShapeSet,
}

impl<'t> Analysis<'t> {
    /// `None` where the entry span has no credible times.
    pub(crate) fn of(trace: &'t Trace, entry: usize) -> Option<Self> {
        let tree = Tree::build(trace, entry)?;
        let path = Path::of(&tree);
        let calls = Calls::of(&tree);
        let ledger = Ledger::of(&tree, &path, &calls);
        let shape = ShapeSet::of(&tree);
        Some(Self { tree, path, calls, ledger, shape })
    }

    /// The entries by operation: where inside a service the time of an entry was spent.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let mut operations: Vec<Operation> = Vec::new();
        for number in 0..self.tree.nodes.length() {
            let on_path = self.path.own[number];
            if on_path == 0 {
                continue;
            }
            let key = self.calls.key[self.calls.base[number]];
            let node = &self.tree.nodes[number];
            operations.push(Operation {
                key,
                name: node.name,
                on_path,
                longest: number,
                longest_time: on_path,
            });
        }
        operations.sort_by_key(|operation| (operation.key, operation.name));
        operations.dedup_by(|next, kept| {
            let is_same = next.key == kept.key && next.name == kept.name;
            if is_same {
                kept.on_path += next.on_path;
                if next.longest_time > kept.longest_time {
                    (kept.longest, kept.longest_time) = (next.longest, next.longest_time);
                }
            }
            is_same
        });
        operations
    }
}

/// Time on the path that spans of one name spent within one entry of the ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// [`super::ledger::Entry::key`].
    pub(crate) key: u64,
    pub(crate) name: u64,
    pub(crate) on_path: u64,
    pub(crate) longest: u32,
    longest_time: u64,
}
