//! The file in which what was learned survives a restart: read at start, written every few minutes and at the end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::future::Future;
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Clock;
use crate::otlp::Nanos;
use crate::pipeline::Pipeline;

/// What a crash can lose: as much as passes between two renewals of a linked reference, and as one bucket of a
/// threshold with a long history.
const PERIOD: Duration = Duration::from_mins(5);

/// So long the end of the process waits for the last write: a file system that hangs must not hold it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A file that cannot be written is complained about so often.
const BETWEEN_COMPLAINTS: Nanos = 3_600 * 1_000_000_000;

/// The file, and how writing it went.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    place: Place,
    /// Bytes; a larger file is not read.
    limit: u64,
    complained_at: Option<Nanos>,
    /// Held for as long as the process lives.
    lock: Option<File>,
}

#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    /// Who has locked it writes the others: beside them, since a file that is renamed takes its locks along.
    lock: PathBuf,
    /// Where it is written before it takes the place of the last one: beside it, so that renaming is atomic.
    temporary: PathBuf,
}

impl SnapshotFile {
    /// `None` where nothing is to be kept. What is learned never takes more than `limit` bytes.
    pub(super) fn new(path: &Path, limit: u64) -> Option<Self> {
        if path.as_os_str().is_empty() {
            return None;
        }
        let path = behind_link(path);
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let place = Place { lock: beside(".lock"), temporary: beside(".tmp"), path };
        Some(Self { place, limit, complained_at: None, lock: None })
    }

    /// Takes back what the file holds. One that cannot be used costs a warning and what it held; `None` where it is
    /// somebody else's: that one is never written over.
    pub(super) fn restore(mut self, now: Nanos, pipeline: &Pipeline) -> Option<Self> {
        let path = self.place.path.display();
        let foreign = |rule: &str| {
            tracing::warn!("baseline.snapshot_file: {path} {rule}; it is left alone, and nothing is kept");
            None
        };
        let unusable = |rule: &str| {
            tracing::warn!("baseline.snapshot_file: {path} {rule}; starting with nothing learned");
        };
        match self.read() {
            Ok(None) => return foreign("must be a regular file"),
            Ok(Some(bytes)) => match pipeline.restore(now, &bytes) {
                Ok(restored) => tracing::info!(
                    routes = restored.routes,
                    baselines = restored.baselines,
                    kinds_of_work = restored.items,
                    left_out = restored.left_out,
                    "read back from {path} what was learned before"
                ),
                Err(unreadable) if unreadable.is_foreign() => return foreign(&unreadable.to_string()),
                Err(unreadable) => unusable(&unreadable.to_string()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::info!("{path} is not there: starting with nothing learned");
            }
            Err(error) => unusable(&format!("cannot be read: {error}")),
        }
        // Better said now than after the first minutes.
        let probe = self.take_lock().and_then(|()| self.place.create()).map(drop);
        let probe = probe.and_then(|()| fs::remove_file(&self.place.temporary));
        self.note(now, probe);
        Some(self)
    }

    /// Makes the file ours to write. Another process may have it that is ending, so this is tried before every write.
    fn take_lock(&mut self) -> io::Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        // Where there cannot be such a file, or no locks, nobody is kept apart.
        let Ok(lock) = owned().create(true).truncate(false).open(&self.place.lock) else { return Ok(()) };
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            let rule = "another process keeps there what it has learned, and each needs a file of its own";
            return Err(io::Error::other(rule));
        }
        self.lock = Some(lock);
        Ok(())
    }

    /// `None` where it is something else than a file, such as a directory or a pipe.
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let about = fs::metadata(&self.place.path)?;
        if !about.is_file() {
            return Ok(None);
        }
        if about.len() > self.limit {
            let (limit, length) = (ByteSize::b(self.limit), ByteSize::b(about.len()));
            return Err(io::Error::other(format!("it must have at most {limit}, and has {length}")));
        }
        let mut bytes = Vec::new();
        File::open(&self.place.path)?.take(self.limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Writes the file every few minutes, and once more when `stop` is given.
    pub(super) async fn keep(
        mut self,
        clock: Clock,
        pipeline: Arc<Pipeline>,
        stop: impl Future<Output = ()>,
    ) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is now, when there is nothing new.
        ticks.tick().await;
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = ticks.tick() => {}
            }
            let written = self.write(clock.now(), Arc::clone(&pipeline)).await;
            self.note(clock.now(), written);
        }
        let written = timeout(PATIENCE, self.write(clock.now(), pipeline)).await;
        let path = self.place.path.display();
        match written {
            Ok(Ok(())) => tracing::info!("what was learned is kept in {path}"),
            Ok(Err(error)) => tracing::warn!("baseline.snapshot_file: {path} cannot be written: {error}"),
            Err(_) => tracing::warn!("baseline.snapshot_file: {path} was not written within {PATIENCE:?}"),
        }
    }

    async fn write(&mut self, now: Nanos, pipeline: Arc<Pipeline>) -> io::Result<()> {
        self.take_lock()?;
        self.place.write(now, pipeline).await
    }

    /// Tells of what went wrong, at most once an hour, and when it goes well again.
    fn note(&mut self, now: Nanos, written: io::Result<()>) {
        let path = self.place.path.display();
        match (written, self.complained_at) {
            (Ok(()), None) => tracing::debug!("what was learned is kept in {path}"),
            (Ok(()), Some(_)) => {
                self.complained_at = None;
                tracing::info!("what was learned is kept in {path} again");
            }
            (Err(_), Some(complained_at)) if now < complained_at.saturating_add(BETWEEN_COMPLAINTS) => {}
            (Err(error), _) => {
                self.complained_at = Some(now);
                tracing::warn!("baseline.snapshot_file: {path} cannot be written: {error}");
            }
        }
    }
}

/// What a link leads to: a file that takes the link's own place would leave the old one behind, elsewhere.
fn behind_link(path: &Path) -> PathBuf {
    if !path.is_symlink() {
        return path.to_owned();
    }
    // Of a file that is not there yet only the link tells where it will be.
    let leads_to = || Some(path.parent()?.join(fs::read_link(path).ok()?));
    fs::canonicalize(path).ok().or_else(leads_to).unwrap_or_else(|| path.to_owned())
}

impl Place {
    /// Writes the file on a thread of its own: neither decisions nor senders wait for the disk.
    async fn write(&self, now: Nanos, pipeline: Arc<Pipeline>) -> io::Result<()> {
        let (place, (done, is_done)) = (self.clone(), oneshot::channel());
        thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            // An error means that nobody waits any longer.
            let _ = done.send(place.write_now(now, &pipeline));
        })?;
        is_done.await.unwrap_or_else(|_| Err(io::Error::other("the thread that writes it has died")))
    }

    fn write_now(&self, now: Nanos, pipeline: &Pipeline) -> io::Result<()> {
        let written = self.create().and_then(|file| {
            pipeline.save(now, BufWriter::new(&file))?;
            file.sync_all()?;
            fs::rename(&self.temporary, &self.path)
        });
        if written.is_err() {
            // What could be written of it would only take room. That failed already, if this does.
            let _ = fs::remove_file(&self.temporary);
            return written;
        }
        // Only then does the new name outlive a crash of the machine.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn create(&self) -> io::Result<File> {
        owned().create(true).truncate(true).open(&self.temporary)
    }
}

/// For a file of ours: spans are for nobody else's eyes.
fn owned() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::pipeline::Limits;
    use crate::telemetry::metrics::Metrics;

    fn pipeline() -> Arc<Pipeline> {
        let limits = Limits { held: 1 << 20, baseline: 1 << 20, tables: 1 << 20 };
        let metrics = Arc::new(Metrics::default());
        Arc::new(Pipeline::new(&Config::default(), limits, 1, metrics))
    }

    fn file(folder: &tempfile::TempDir) -> SnapshotFile {
        SnapshotFile::new(&folder.path().join("learned"), 1 << 20).expect("a path")
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).expect("a folder");
        let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("text");
        let mut names: Vec<_> = entries.map(|entry| name(entry.expect("an entry"))).collect();
        names.sort();
        names
    }

    // H11.
    #[tokio::test]
    async fn of_two_processes_only_the_first_writes_and_the_second_once_that_has_ended() {
        let (folder, pipeline) = (tempfile::tempdir().expect("a folder"), pipeline());
        let path = folder.path().join("learned");
        let mut first = file(&folder).restore(0, &pipeline).expect("ours");
        first.write(0, Arc::clone(&pipeline)).await.expect("writes");
        let before = fs::read(&path).expect("written");
        let mut second = file(&folder).restore(0, &pipeline).expect("it is read all the same");
        assert_eq!(second.complained_at, Some(0));
        fs::write(&path, &before[..8]).expect("writes");
        let refused =
            second.write(1, Arc::clone(&pipeline)).await.expect_err("it is the other's").to_string();
        assert!(refused.starts_with("another process keeps there what it has learned"), "{refused}");
        assert_eq!(fs::read(&path).expect("there"), before[..8]);
        first.write(2, Arc::clone(&pipeline)).await.expect("writes");
        drop(first);
        fs::remove_file(&path).expect("there");
        second.write(3, pipeline).await.expect("writes");
        assert!(path.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_is_written_every_five_minutes_and_once_more_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("learned");
        let (stop, stopped) = oneshot::channel::<()>();
        let pipeline = pipeline();
        let snapshot = file(&folder).restore(0, &pipeline).expect("ours");
        assert_eq!(names(&folder), ["learned.lock"], "trying it out leaves nothing behind");
        let keep = snapshot.keep(Clock::start(), pipeline, async { drop(stopped.await) });
        let mut keep = std::pin::pin!(keep);
        assert!(timeout(PERIOD.mul_f32(0.99), &mut keep).await.is_err());
        assert!(!path.exists());
        while !path.exists() {
            assert!(timeout(Duration::from_secs(1), &mut keep).await.is_err());
        }
        fs::remove_file(&path).expect("it is there");
        drop(stop);
        // On a paused clock patience has ended at once wherever a thread is waited for.
        tokio::time::resume();
        keep.await;
        assert_eq!(names(&folder), ["learned", "learned.lock"]);
    }

    #[test]
    fn a_file_of_ours_that_is_no_good_is_written_over_and_any_other_is_left_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let (path, pipeline) = (folder.path().join("learned"), pipeline());
        for (content, is_ours) in
            [(&b""[..], true), (b"LAGGARD\n\x01\0", true), (b"LAGGARD\n\x01\0\0\0", true), (b"notes", false)]
        {
            fs::write(&path, content).expect("writes");
            let restored = file(&folder).restore(0, &pipeline);
            assert_eq!(restored.is_some(), is_ours, "{content:?}");
            assert_eq!(fs::read(&path).expect("still there"), content);
            if let Some(restored) = restored {
                restored.place.write_now(0, &pipeline).expect("writes");
                let written = restored.read().expect("reads").expect("a file");
                pipeline.restore(0, &written).expect("ours");
                let mode = fs::metadata(&path).expect("there").permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
            }
        }
        fs::remove_file(&path).expect("there");
        fs::create_dir(&path).expect("a folder");
        assert!(file(&folder).restore(0, &pipeline).is_none(), "no file");
    }

    #[test]
    fn a_link_stays_and_the_file_behind_it_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let (link, target) = (folder.path().join("learned"), folder.path().join("volume"));
        std::os::unix::fs::symlink("volume", &link).expect("links");
        for _ in ["there is nothing yet", "there is a file"] {
            file(&folder).place.write_now(0, &pipeline()).expect("writes");
            assert!(link.is_symlink() && target.is_file());
            let read = file(&folder).read().expect("reads").expect("a file");
            assert_eq!(read, fs::read(&target).expect("there"));
        }
    }

    #[test]
    fn a_larger_file_than_could_have_been_written_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = file(&folder);
        fs::write(&file.place.path, [0; 100]).expect("writes");
        file.limit = 99;
        let said = file.read().expect_err("too large").to_string();
        assert_eq!(said, "it must have at most 99 B, and has 100 B");
        file.limit = 100;
        assert!(file.read().is_ok_and(|bytes| bytes.is_some_and(|bytes| bytes.len() == 100)));
    }

    #[test]
    fn a_write_that_fails_leaves_the_last_file_and_is_complained_about_once_an_hour() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut file, pipeline) = (file(&folder), pipeline());
        file.place.write_now(0, &pipeline).expect("writes");
        let before = fs::read(&file.place.path).expect("there");
        file.place.temporary = folder.path().join("nowhere/learned.tmp");
        for (now, complained_at) in
            [(1, 1), (2, 1), (BETWEEN_COMPLAINTS, 1), (BETWEEN_COMPLAINTS + 1, BETWEEN_COMPLAINTS + 1)]
        {
            let written = file.place.write_now(now, &pipeline);
            assert!(written.is_err());
            file.note(now, written);
            assert_eq!(file.complained_at, Some(complained_at));
        }
        assert_eq!(fs::read(&file.place.path).expect("there"), before);
        file.note(5, Ok(()));
        assert_eq!(file.complained_at, None);
    }
}
