//! What to do after a failed request, and how long to wait before the next one.
//!
//! Follows OTLP 1.11, "OTLP/gRPC: failures" and "throttling".

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::guard::Unread;
use crate::config::Retry;

/// A destination may ask for a longer pause, but waits no longer for us than this.
pub(super) const LONGEST_DEMAND: Duration = Duration::from_mins(5);
/// Each pause is so many times the one before.
const GROWTH: f64 = 1.5;
/// Pauses differ from their interval by at most this share, so that many clients do not return at once.
const JITTER: f64 = 0.5;
const A_YEAR: Duration = Duration::from_hours(365 * 24);

/// What a failure demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The same batch again, after at least so long.
    Retry(Duration),
    /// Smaller batches.
    Halve,
    /// Nothing: the batch will never be taken.
    GiveUp,
}

/// What `status` demands, and the code under which the failure is counted.
pub(super) fn next(status: &Status) -> (Next, Code) {
    let is_ours = std::error::Error::source(status).is_some();
    match (Unread::behind(status), status.code()) {
        (Some(Unread::TooLong), _) => return (Next::GiveUp, Code::ResourceExhausted),
        // Nobody answered: tonic gives each way in which a connection can fail a code of its own.
        _ if is_ours => return (Next::Retry(Duration::ZERO), Code::Unavailable),
        _ => {}
    }
    let demanded = status.get_details_retry_info();
    let pause = demanded.as_ref().and_then(|info| info.retry_delay).unwrap_or_default().min(LONGEST_DEMAND);
    let next = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Next::Retry(pause),
        Code::ResourceExhausted if demanded.is_some() => Next::Retry(pause),
        // Without a hint it means that the request is too large.
        Code::ResourceExhausted => Next::Halve,
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::Unauthenticated => Next::GiveUp,
    };
    (next, status.code())
}

/// A code's name as the gRPC specification writes it.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The pauses between the attempts to send one batch.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    interval: Duration,
    /// The last attempt begins no later.
    until: Instant,
}

impl Backoff {
    /// For a batch whose first attempt begins `now`.
    pub(super) fn new(config: &Retry, now: Instant) -> Self {
        // Whatever is configured, the sums below must not overflow.
        let sane = |duration: Duration| duration.min(A_YEAR);
        let first = sane(config.initial_interval);
        let longest = sane(config.max_interval);
        Self { first, longest, interval: first, until: now + sane(config.max_elapsed_time) }
    }

    /// How long to wait after an attempt that failed `now`; `None` when the batch is to be given up.
    ///
    /// `demanded` is a minimum; `random` lies in 0..1.
    pub(super) fn pause(&mut self, now: Instant, demanded: Duration, random: f64) -> Option<Duration> {
        let left = self.until.saturating_duration_since(now);
        if left.is_zero() || demanded > left {
            return None;
        }
        let own = self.interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random);
        let others = demanded.mul_f64(1.0 + JITTER * random);
        self.interval = self.interval.mul_f64(GROWTH).min(self.longest);
        Some(own.max(others).min(left))
    }

    /// Begins with the first interval again.
    pub(super) fn restart(&mut self) {
        self.interval = self.first;
    }
}

/// A random number in 0..1, from the keys with which the standard library seeds each hasher.
pub(super) fn random() -> f64 {
    (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> Retry {
        Retry { initial_interval: 4 * SECOND, max_interval: 8 * SECOND, max_elapsed_time: 60 * SECOND }
    }

    #[test]
    fn pauses_grow_by_half_up_to_the_longest() {
        let (config, now) = (config(), Instant::now());
        let mut backoff = Backoff::new(&config, now);
        let pauses: Vec<_> = (0..4).map(|_| backoff.pause(now, Duration::ZERO, 0.5)).collect();
        assert_eq!(pauses, [Some(4 * SECOND), Some(6 * SECOND), Some(8 * SECOND), Some(8 * SECOND)]);
        backoff.restart();
        assert_eq!(backoff.pause(now, Duration::ZERO, 0.5), Some(4 * SECOND));
    }

    // C3.
    #[test]
    fn jitter_stays_within_half_of_the_interval() {
        let (config, now) = (config(), Instant::now());
        let pause = |random| Backoff::new(&config, now).pause(now, Duration::ZERO, random);
        assert_eq!(pause(0.0), Some(2 * SECOND));
        assert_eq!(pause(1.0), Some(6 * SECOND));
    }

    #[test]
    fn a_demanded_pause_is_a_minimum() {
        let (config, now) = (config(), Instant::now());
        for random in [0.0, 0.5, 0.999] {
            let pause = |demanded| Backoff::new(&config, now).pause(now, demanded, random).expect("in time");
            assert!((10 * SECOND..=15 * SECOND).contains(&pause(10 * SECOND)));
            assert!(pause(SECOND) >= 2 * SECOND, "the own pause where that is longer");
        }
    }

    #[test]
    fn a_last_attempt_is_made_when_the_time_is_over_and_none_after_it() {
        let (config, now) = (config(), Instant::now());
        let mut backoff = Backoff::new(&config, now);
        assert_eq!(backoff.pause(now + 59 * SECOND, Duration::ZERO, 0.5), Some(SECOND));
        assert_eq!(backoff.pause(now + 60 * SECOND, Duration::ZERO, 0.5), None);
        assert_eq!(backoff.pause(now, 61 * SECOND, 0.5), None, "the demand ends beyond the time");
    }

    #[test]
    fn the_longest_durations_that_can_be_written_do_not_overflow() {
        let config = Retry {
            initial_interval: Duration::MAX,
            max_interval: Duration::MAX,
            max_elapsed_time: Duration::MAX,
        };
        let now = Instant::now();
        assert_eq!(Backoff::new(&config, now).pause(now, Duration::ZERO, 0.999), Some(A_YEAR));
    }

    // C2, F5.
    #[test]
    fn a_demand_is_capped_and_a_negative_one_is_none() {
        let demanding = |details: Vec<u8>| {
            next(&Status::with_details(Code::ResourceExhausted, "later", details.into())).0
        };
        let hour = ErrorDetails::with_retry_info(Some(3600 * SECOND));
        let hour = Status::with_error_details(Code::Unavailable, "later", hour);
        assert_eq!(next(&hour).0, Next::Retry(LONGEST_DEMAND));
        // google.rpc.Status { details: [Any { type_url, value: RetryInfo { retry_delay: { seconds: -1 } } }] }
        let mut delay = Vec::new();
        crate::otlp::wire::put_uint(&mut delay, 1, u64::MAX);
        let mut info = Vec::new();
        crate::otlp::wire::put_bytes(&mut info, 1, &delay);
        let mut any = Vec::new();
        crate::otlp::wire::put_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
        crate::otlp::wire::put_bytes(&mut any, 2, &info);
        let mut details = Vec::new();
        crate::otlp::wire::put_bytes(&mut details, 3, &any);
        assert_eq!(demanding(details), Next::Retry(Duration::ZERO));
        assert_eq!(demanding(b"\x0f\xff".to_vec()), Next::Halve, "undecodable details are no hint");
    }

    #[test]
    fn random_numbers_differ_and_stay_in_range() {
        let numbers: Vec<f64> = (0..64).map(|_| random()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number < 0.5) && numbers.iter().any(|number| *number >= 0.5));
    }
}
