//! The `process_*` metrics that Prometheus' client libraries agree on, read from Linux' `/proc` when asked for.
//!
//! Elsewhere there is no `/proc`, and the metrics are left out.

use std::fs;
use std::path::Path;

/// Linux counts time for programs in 1/100 s on every architecture that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// The text exposition of the metrics that `proc`, that is `/proc`, has.
pub fn render(proc: &Path) -> String {
    let mut page = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let value = value.to_string();
            page.extend([
                "# HELP ",
                name,
                " ",
                help,
                "\n# TYPE ",
                name,
                " ",
                kind,
                "\n",
                name,
                " ",
                &value,
                "\n\n",
            ]);
        }
    };
    let stat = Stat::read(proc);
    metric("process_resident_memory_bytes", "gauge", "Memory that is in RAM", resident_bytes(proc));
    metric(
        "process_cpu_seconds_total",
        "counter",
        "CPU time that was used, in user and system mode",
        stat.as_ref().map(|stat| stat.cpu_seconds),
    );
    metric("process_open_fds", "gauge", "Open file descriptors", open_fds(proc));
    let started = stat.zip(boot_time(proc)).map(|(stat, boot)| boot + stat.started_after_boot);
    metric("process_start_time_seconds", "gauge", "When the process began, Unix time", started);
    page
}

/// What we need of `/proc/self/stat`.
struct Stat {
    cpu_seconds: f64,
    /// In seconds.
    started_after_boot: f64,
}

impl Stat {
    fn read(proc: &Path) -> Option<Self> {
        let text = fs::read_to_string(proc.join("self/stat")).ok()?;
        // The second field is the program's name in parentheses and may have anything in it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // proc(5) counts from 1; the first field behind the name is the third.
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let (user, system, started) = (ticks(14)?, ticks(15)?, ticks(22)?);
        Some(Self {
            cpu_seconds: (user + system) / TICKS_PER_SECOND,
            started_after_boot: started / TICKS_PER_SECOND,
        })
    }
}

fn resident_bytes(proc: &Path) -> Option<f64> {
    let kibibytes = field(&proc.join("self/status"), "VmRSS:")?;
    Some(kibibytes * 1024.0)
}

fn boot_time(proc: &Path) -> Option<f64> {
    field(&proc.join("stat"), "btime")
}

fn open_fds(proc: &Path) -> Option<f64> {
    let open = fs::read_dir(proc.join("self/fd")).ok()?.count();
    // One of them is the directory that is being read.
    Some(open.saturating_sub(1) as f64)
}

/// The first number on the line that begins with `name`.
fn field(file: &Path, name: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_its_manual_has_it() {
        let proc = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(proc.path().join("self/fd")).expect("creates");
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 1234 20\n";
        for (path, content) in [
            ("self/stat", stat),
            ("self/status", "Name:\ta\nVmRSS:\t    2048 kB\n"),
            ("stat", "cpu 1 2\nbtime 1700000000\n"),
            ("self/fd/0", ""),
            ("self/fd/1", ""),
            ("self/fd/2", ""),
        ] {
            fs::write(proc.path().join(path), content).expect("writes");
        }
        let page = render(proc.path());
        let values: Vec<&str> = page.lines().filter(|line| line.starts_with("process_")).collect();
        assert_eq!(
            values,
            [
                "process_resident_memory_bytes 2097152",
                "process_cpu_seconds_total 2",
                "process_open_fds 2",
                "process_start_time_seconds 1700000012.34",
            ]
        );
    }

    #[test]
    fn without_proc_there_are_no_metrics() {
        assert_eq!(render(Path::new("/does/not/exist")), "");
    }
}
