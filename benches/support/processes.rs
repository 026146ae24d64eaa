//! Child processes on a CPU of their own, and what the kernel says of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A process that ends with this value.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command`, which must not outlive the value, with no output.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("cannot start {command:?}"))?))
    }

    /// CPU time of all threads that it has, in nanoseconds, from `/proc/PID/task/*/schedstat`: `stat` counts in ticks of
    /// 10 ms, of which a round takes a dozen.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let statistics = fs::read_to_string(task?.path().join("schedstat"))?;
            sum += statistics.split_whitespace().next().context("schedstat is empty")?.parse::<u64>()?;
        }
        Ok(sum)
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It holds nothing that anybody wants.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The CPUs that this process may use: one to measure on, and one for everybody else, where there are two.
pub(crate) fn cpus() -> anyhow::Result<(usize, usize)> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let first = cpus.next().context("no CPU")?;
    Ok((first, cpus.next().unwrap_or(first)))
}

/// Keeps this process, and what it starts from now on, on one CPU.
pub(crate) fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Becomes another program, pinned; returns only if that fails.
pub(crate) fn become_pinned(cpu: usize, program: &str, arguments: &[String]) -> anyhow::Result<()> {
    pin(cpu)?;
    Err(Command::new(program).args(arguments).exec()).context("cannot start the pinned program")
}

/// A loopback address that nobody listens on.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Waits until something listens on `address`.
pub(crate) fn await_listener(address: SocketAddr) -> anyhow::Result<()> {
    for _ in 0..500 {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("nothing listens on {address}")
}

/// The sum of all series of a metric, from a Prometheus page.
pub(crate) fn metric(admin: SocketAddr, name: &str) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    ensure!(page.starts_with("HTTP/1.1 200"), "{}", page.lines().next().unwrap_or_default());
    let of_metric =
        page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    let values = of_metric.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
    let values: Vec<_> = values.collect::<Result<_, _>>()?;
    ensure!(!values.is_empty(), "no {name}");
    Ok(values.iter().sum())
}

/// Writes a file into a directory, and returns its path as text.
pub(crate) fn write(directory: &Path, name: &str, text: &str) -> anyhow::Result<String> {
    let path = directory.join(name);
    fs::write(&path, text)?;
    path.into_os_string().into_string().ok().context("a temporary directory whose name is no text")
}
