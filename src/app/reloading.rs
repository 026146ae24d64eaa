//! Certificates, keys and tokens are looked at again and again while the process runs.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::secrets::{FileError, Reload};
use crate::telemetry::metrics::Metrics;

/// Everything that files hold and that can change, and what was last wrong with each.
#[derive(Debug)]
pub(super) struct Reloading {
    sources: Vec<(Arc<dyn Reload>, Option<FileError>)>,
    metrics: Arc<Metrics>,
}

impl Reloading {
    pub(super) fn of(sources: impl IntoIterator<Item = Arc<dyn Reload>>, metrics: Arc<Metrics>) -> Self {
        Self { sources: sources.into_iter().map(|source| (source, None)).collect(), metrics }
    }

    /// Looks at the files every `interval` until `stop`. Polled, since a secret that is mounted into a pod changes
    /// by links that notifications do not tell of.
    pub(super) async fn keep(mut self, every: Duration, stop: impl Future<Output = ()>) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = ticks.tick() => self.look(),
            }
        }
    }

    fn look(&mut self) {
        for (source, complaint) in &mut self.sources {
            match source.reload() {
                Ok(has_changed) => {
                    if has_changed || complaint.take().is_some() {
                        tracing::info!("certificates, keys or tokens were read again");
                    }
                    *complaint = None;
                }
                Err(error) => {
                    self.metrics.reload_failures.increment(1);
                    // Once for each mistake: it stays until somebody repairs it.
                    if complaint.as_ref() != Some(&error) {
                        tracing::error!(%error, "what was read before stays in use");
                        *complaint = Some(error);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug)]
    struct Source(Mutex<Vec<Result<bool, FileError>>>);

    impl Reload for Source {
        fn reload(&self) -> Result<bool, FileError> {
            self.0.lock().expect("not poisoned").pop().expect("asked no more often")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_looked_at_until_the_end_and_failures_are_counted() {
        let wrong = || Err(FileError::new("a.file", "must not be empty"));
        let answers = [Ok(false), wrong(), wrong(), Ok(true), Ok(false)];
        let source = Arc::new(Source(Mutex::new(answers.into_iter().rev().collect())));
        let metrics = Arc::new(Metrics::default());
        let reloading = Reloading::of([Arc::clone(&source) as Arc<dyn Reload>], Arc::clone(&metrics));
        let second = Duration::from_secs(1);
        reloading.keep(second, tokio::time::sleep(4 * second + second / 2)).await;
        assert_eq!(source.0.lock().expect("not poisoned").len(), 0);
        assert!(metrics.render().contains("laggard_reload_failures_total 2\n"));
    }
}
