//! How much memory the process may use, and how much of it each part.

use std::fs;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::Config;
use super::units::{Budget, MemoryLimit, share_of};

/// What the process may use where no cgroup says anything.
const WITHOUT_CGROUP: u64 = 1 << 30;
/// What `auto` takes of the cgroup's limit; the rest is for buffers of the kernel and for allocator slack.
const AUTO: f64 = 0.80;
/// Decision caches, routes and edges.
const TABLES: f64 = 0.10;
/// Version 1 writes "no limit" as a number near 2^63, version 2 as `max`.
const NO_LIMIT: u64 = 1 << 60;
/// Below this share of memory for held traces nothing could be assembled.
const LEAST_HELD: f64 = 0.10;

/// The memory limit of the process in bytes; `cgroup` is the limit of its cgroup, see [`cgroup_limit`].
pub fn limit(limit: &MemoryLimit, cgroup: Option<u64>) -> u64 {
    match limit {
        MemoryLimit::Auto => cgroup.map_or(WITHOUT_CGROUP, |bytes| share_of(bytes, AUTO)),
        MemoryLimit::Given(budget) => budget.of(cgroup.unwrap_or(WITHOUT_CGROUP)),
    }
}

/// The lowest memory limit that a cgroup of this process has, its ancestors' included; version 2 and 1.
/// `root` is `/` save in tests.
pub fn cgroup_limit(root: &Path) -> Option<u64> {
    let membership = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounts = root.join("sys/fs/cgroup");
    // In a container the named group may lie outside of what is mounted; its own is the mount's root then.
    let mut files = vec![mounts.join("memory.max"), mounts.join("memory/memory.limit_in_bytes")];
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (mount, file) = if controllers.is_empty() {
            (mounts.clone(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (mounts.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let group = PathBuf::from(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|ancestor| mount.join(ancestor).join(file)));
    }
    let limits = files.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    limits.filter(|limit| (1..NO_LIMIT).contains(limit)).min()
}

/// The memory limit, divided; all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Of the whole process.
    pub memory_limit: u64,
    /// Requests being read.
    pub in_flight: u64,
    /// Undecided traces: what the others leave.
    pub held: u64,
    /// Decided traces that wait for the destination.
    pub queue: u64,
    /// References.
    pub baseline: u64,
    /// Decision caches, routes, edges.
    pub tables: u64,
    /// The largest request, which must fit into `in_flight`.
    pub max_request_size: u64,
    /// The largest trace, which must leave room for others in `held` and in `queue`.
    pub maximum_trace_size: u64,
    /// The largest export request, which must fit into `queue`.
    pub max_batch_size: u64,
}

impl Budgets {
    /// Divides `memory_limit` bytes as `config` says. What does not fit is cut; a sentence tells of each cut.
    pub fn divide(config: &Config, memory_limit: u64) -> (Self, Vec<String>) {
        let mut cuts = Vec::new();
        let mut cut = |key: &str, wanted: u64, allowed: u64| {
            if wanted > allowed {
                let (wanted, allowed) = (shown(wanted), shown(allowed));
                let limit = shown(memory_limit);
                cuts.push(format!(
                    "{key} is cut from {wanted} to {allowed} to fit a memory_limit of {limit}"
                ));
            }
            wanted.min(allowed)
        };
        let tables = share_of(memory_limit, TABLES);
        let parts = parts(config);
        let room = room(memory_limit);
        let bytes: u64 = parts.iter().map(|(_, budget)| bytes_in(*budget)).fold(0, u64::saturating_add);
        let shares: u64 = parts.iter().map(|(_, budget)| budget.of(memory_limit) - bytes_in(*budget)).sum();
        // Bytes are taken at their word, so it is the shares that make room.
        let fitting = room.saturating_sub(bytes) as f64 / shares.max(1) as f64;
        let [in_flight, queue, baseline] = parts.map(|(key, budget)| match budget {
            Budget::Bytes(bytes) => cut(key, bytes, room),
            Budget::Share(_) => {
                let wanted = budget.of(memory_limit);
                cut(key, wanted, if fitting < 1.0 { share_of(wanted, fitting) } else { wanted })
            }
        });
        let held =
            memory_limit.saturating_sub(in_flight.saturating_add(queue).saturating_add(baseline) + tables);
        let budgets = Self {
            memory_limit,
            in_flight,
            held,
            queue,
            baseline,
            tables,
            max_request_size: cut("receive.max_request_size", config.receive.max_request_size, in_flight),
            maximum_trace_size: cut(
                "assemble.maximum_trace_size",
                config.assemble.maximum_trace_size,
                (held / 2).min(queue / 2),
            ),
            max_batch_size: cut("export.batch.max_size", config.export.batch.max_size, queue),
        };
        (budgets, cuts)
    }
}

/// The keys that divide the memory limit.
pub(super) fn parts(config: &Config) -> [(&'static str, Budget); 3] {
    [
        ("receive.max_in_flight", config.receive.max_in_flight),
        ("export.queue.size", config.export.queue.size),
        ("baseline.max_size", config.baseline.max_size),
    ]
}

/// What the parts may have together.
pub(super) fn room(memory_limit: u64) -> u64 {
    share_of(memory_limit, ROOM_SHARE)
}

/// The same as a share.
pub(super) const ROOM_SHARE: f64 = 1.0 - TABLES - LEAST_HELD;

/// Bytes as a person reads them.
pub(super) fn shown(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// The bytes of a budget that is given in bytes.
pub(super) fn bytes_in(budget: Budget) -> u64 {
    match budget {
        Budget::Bytes(bytes) => bytes,
        Budget::Share(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a file in a folder")).expect("creates");
            fs::write(path, content).expect("writes");
        }
        root
    }

    // E4.
    #[test]
    fn the_lowest_limit_of_the_cgroup_and_its_ancestors_counts() {
        for (files, expected) in [
            (&[][..], None),
            (&[("sys/fs/cgroup/memory.max", "268435456\n")][..], Some(256 * MIB)),
            (&[("sys/fs/cgroup/memory.max", "max\n")][..], None),
            (
                &[
                    ("proc/self/cgroup", "0::/kubepods/pod1\n"),
                    ("sys/fs/cgroup/kubepods/pod1/memory.max", "max\n"),
                    ("sys/fs/cgroup/kubepods/memory.max", "104857600\n"),
                ][..],
                Some(100 * MIB),
            ),
            (
                &[
                    ("proc/self/cgroup", "5:cpu:/a\n4:hugetlb,memory:/docker/b\n"),
                    ("sys/fs/cgroup/memory/docker/b/memory.limit_in_bytes", "52428800\n"),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ][..],
                Some(50 * MIB),
            ),
            (
                &[
                    ("proc/self/cgroup", "4:memory:/not/mounted/here\n"),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "52428800\n"),
                ][..],
                Some(50 * MIB),
            ),
        ] {
            assert_eq!(cgroup_limit(root(files).path()), expected, "{files:?}");
        }
    }

    #[test]
    fn auto_is_four_fifths_of_the_cgroup_and_1_gib_without_one() {
        assert_eq!(limit(&MemoryLimit::Auto, Some(1000)), 800);
        assert_eq!(limit(&MemoryLimit::Auto, None), 1 << 30);
        assert_eq!(limit(&MemoryLimit::Given(Budget::Share(0.5)), Some(1000)), 500);
        assert_eq!(limit(&MemoryLimit::Given(Budget::Bytes(7)), Some(1000)), 7);
    }

    #[test]
    fn held_traces_get_what_the_others_leave() {
        let (budgets, cuts) = Budgets::divide(&Config::default(), 1000 * MIB);
        assert_eq!(cuts, Vec::<String>::new());
        assert_eq!(
            [budgets.in_flight, budgets.queue, budgets.baseline, budgets.tables, budgets.held],
            [100 * MIB, 200 * MIB, 100 * MIB, 100 * MIB, 500 * MIB]
        );
        assert_eq!(budgets.max_request_size, 64 * MIB);
    }

    // E4.
    #[test]
    fn what_does_not_fit_a_small_limit_is_cut_with_a_warning() {
        let mut config = Config::default();
        config.export.queue.size = Budget::Bytes(30 * MIB);
        let (budgets, cuts) = Budgets::divide(&config, 40 * MIB);
        assert_eq!((budgets.queue, budgets.in_flight, budgets.baseline), (30 * MIB, MIB, MIB));
        assert_eq!((budgets.max_request_size, budgets.maximum_trace_size), (MIB, 2 * MIB));
        assert_eq!(
            cuts,
            [
                "receive.max_in_flight is cut from 4.0 MiB to 1.0 MiB to fit a memory_limit of 40.0 MiB",
                "baseline.max_size is cut from 4.0 MiB to 1.0 MiB to fit a memory_limit of 40.0 MiB",
                "receive.max_request_size is cut from 64.0 MiB to 1.0 MiB to fit a memory_limit of 40.0 MiB",
                "assemble.maximum_trace_size is cut from 16.0 MiB to 2.0 MiB to fit a memory_limit of 40.0 MiB",
            ]
        );
        let used = budgets.in_flight + budgets.queue + budgets.baseline + budgets.tables + budgets.held;
        assert_eq!(used, budgets.memory_limit);
    }
}
