//! The closed sets of label values that metrics have: nothing a sender chooses becomes a series.

use crate::otlp::tracestate::Erased;

/// A closed set of label values.
pub trait Labels: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, in the order of [`Labels::index`].
    const ALL: &'static [Self];
    /// The value as it stands in the exposition.
    fn as_str(self) -> &'static str;
    /// Its place in [`Labels::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident = $label:literal { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl Labels for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $value,)+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// How a request came in.
    Transport = "transport" {
        /// Port 4317.
        Grpc = "grpc",
        /// Port 4318.
        Http = "http",
    }
}

labels! {
    /// Why spans or requests were refused at the door.
    Refusal = "reason" {
        /// Not OTLP, or a span with invalid ids.
        Malformed = "malformed",
        /// Above `receive.max_request_size`, or above what could ever fit.
        TooLarge = "too_large",
        /// No room now; the sender retries.
        Overload = "overload",
        /// No valid token.
        Unauthenticated = "unauthenticated",
        /// The process is ending; the sender retries elsewhere.
        Draining = "draining",
    }
}

labels! {
    /// Why a connection ended before TLS was agreed on.
    Handshake = "reason" {
        /// What came is no TLS.
        NoTls = "no_tls",
        /// No version, cipher or protocol in common.
        Incompatible = "incompatible",
        /// The client has shown no certificate.
        NoCertificate = "no_certificate",
        /// The client's certificate is not good here.
        BadCertificate = "bad_certificate",
        /// The client wants nothing of us: our certificate is not good there, for one.
        Refused = "refused",
        /// The client went away, or said nothing at all.
        Closed = "closed",
        /// It took too long.
        TimedOut = "timed_out",
        /// Anything else that breaks TLS.
        Other = "other",
    }
}

labels! {
    /// Why a span was forwarded.
    Class = "class" {
        /// Its trace was slow.
        Slow = "slow",
        /// Its trace had an error.
        Error = "error",
        /// Its trace was sampled.
        Healthy = "healthy",
        /// Its route was not learned yet.
        Learning = "learning",
        /// It came after the decision to keep its trace.
        Late = "late",
    }
}

labels! {
    /// Why an accepted span was not forwarded.
    DropReason = "reason" {
        /// Its trace was healthy and not sampled.
        NotSampled = "not_sampled",
        /// It came after the decision to drop its trace.
        Late = "late",
        /// No memory.
        Memory = "memory",
        /// The export queue was full.
        QueueFull = "queue_full",
        /// The destination failed for too long.
        RetryExpired = "retry_expired",
        /// The destination refused it for good.
        Rejected = "rejected",
        /// It could not leave before the process had to end.
        Shutdown = "shutdown",
    }
}

labels! {
    /// What was decided for a trace.
    Decided = "decision" {
        /// Kept: slower than its threshold.
        Slow = "slow",
        /// Kept: an error.
        Error = "error",
        /// Kept: sampled.
        Healthy = "healthy",
        /// Kept: its route is not learned yet.
        Learning = "learning",
        /// Not kept.
        Dropped = "dropped",
    }
}

labels! {
    /// What made a trace be decided when it was.
    Trigger = "trigger" {
        /// `decision_wait_after_root_received` was over.
        Root = "root",
        /// `decision_wait` was over.
        Wait = "wait",
        /// `maximum_trace_size` was reached.
        Size = "size",
        /// The memory budget was used up.
        Memory = "memory",
        /// The process is ending.
        Shutdown = "shutdown",
    }
}

labels! {
    /// Where a late span went.
    Late = "decision" {
        /// With its kept trace.
        Sampled = "sampled",
        /// Where its dropped trace went.
        Dropped = "dropped",
    }
}

labels! {
    /// Why an incoming sampling threshold was erased.
    ErasedThreshold = "reason" {
        /// The trace cannot have passed it.
        Inconsistent = "inconsistent",
        /// It is no threshold.
        Unparseable = "unparseable",
    }
}

impl From<Erased> for ErasedThreshold {
    fn from(erased: Erased) -> Self {
        match erased {
            Erased::Inconsistent => Self::Inconsistent,
            Erased::Unparseable => Self::Unparseable,
        }
    }
}

labels! {
    /// A part of the memory limit.
    Part = "part" {
        /// Requests being read.
        InFlight = "in_flight",
        /// Undecided traces.
        Held = "held",
        /// Decided traces that wait for the destination.
        Queue = "queue",
        /// References.
        Baseline = "baseline",
        /// Decision caches, routes, edges.
        Tables = "tables",
    }
}

labels! {
    /// How far a route is.
    RouteState = "state" {
        /// Its threshold is known.
        Learned = "learned",
        /// It is not.
        Learning = "learning",
    }
}

labels! {
    /// A signal that is relayed.
    Signal = "signal" {
        /// Metrics.
        Metrics = "metrics",
        /// Logs.
        Logs = "logs",
        /// Profiles.
        Profiles = "profiles",
    }
}

labels! {
    /// What became of a relayed request.
    RelayOutcome = "outcome" {
        /// The destination took it.
        Ok = "ok",
        /// The destination refused it, or could not be reached.
        Failed = "failed",
        /// Not relayed: switched off, or in a form that the destination does not speak.
        Refused = "refused",
    }
}

/// The verdict on a slow trace and, where it names nobody, why; the labels of `laggard_verdicts_total`.
pub type Verdict = Option<crate::compare::Reason>;

impl Labels for Verdict {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &{
        use crate::compare::Reason as R;
        [
            None,
            Some(R::NoBaseline),
            Some(R::BaselineMismatch),
            Some(R::NotSlower),
            Some(R::IncompleteTrace),
            Some(R::ClockSkew),
            Some(R::UnknownService),
            Some(R::AsyncOnly),
            Some(R::Tie),
            Some(R::Diffuse),
            Some(R::LimitExceeded),
            Some(R::Overload),
        ]
    };

    fn as_str(self) -> &'static str {
        self.map_or("", crate::compare::Reason::as_str)
    }

    fn index(self) -> usize {
        self.map_or(0, |reason| reason as usize + 1)
    }
}
