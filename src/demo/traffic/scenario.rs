//! What the three services do, as the simulator is told.

use crate::otlp::Nanos;
use crate::simulate::fault::{Fault, Scenario};
use crate::simulate::random::Latency;
use crate::simulate::system::{Call, Operation, Service, Step, Style, System};

const MICROSECOND: f64 = 1e3;

const WEB_SERVER: usize = 0;
const PRE_PROCESSOR: usize = 1;
const INFERENCE_SERVER: usize = 2;

/// The service of which one instance turns slow.
pub const CULPRIT: &str = "pre-processor";

/// How many instances it has.
pub const INSTANCES: usize = 3;

/// The one that turns slow.
const SICK: usize = 2;

/// How much longer it then works on a request.
pub const ADDED: Nanos = 725_000_000;

/// The system at its normal: three routes, of which two lead to the [`CULPRIT`].
pub fn system() -> System {
    let service = |name: &str, replicas| Service {
        name: name.to_owned(),
        replicas,
        skew: vec![0; replicas],
        is_traced: true,
        is_coarse: false,
        style: Style::Http,
    };
    // Callers stand before those they call.
    let operations = vec![
        Operation::new(
            WEB_SERVER,
            "inference-span",
            "POST /inference",
            vec![work(5_000), call(3), work(3_500)],
        ),
        Operation::new(WEB_SERVER, "preview-span", "POST /preview", vec![work(4_000), call(4), work(3_000)]),
        Operation::new(WEB_SERVER, "models-span", "GET /models", vec![work(3_000), call(6), work(2_000)]),
        Operation::new(
            PRE_PROCESSOR,
            "preprocess-request",
            "POST /preprocess",
            vec![work(40_000), call(5), event("successful_response"), work(10_000)],
        ),
        Operation::new(PRE_PROCESSOR, "preview-request", "POST /preview", vec![work(35_000)]),
        Operation::new(
            INFERENCE_SERVER,
            "inference-service-post",
            "POST /infer",
            vec![
                work(8_459),
                event("File saved"),
                work(2_115),
                event("Starting inference"),
                work(408_163),
                event("Inference completed"),
                work(4_230),
            ],
        ),
        Operation::new(INFERENCE_SERVER, "models-get", "GET /models", vec![work(20_000)]),
    ];
    System {
        services: vec![service("web-server", 1), service(CULPRIT, INSTANCES), service("inference-server", 1)],
        operations,
        routes: vec![(0, 6.0), (1, 2.0), (2, 2.0)],
        hop: Latency { median: 400.0 * MICROSECOND, sigma: 0.2, tail: 0.0 },
        has_mesh: false,
        drift: 0.0,
    }
}

/// One sick instance: whatever it is asked for, it works longer on it.
pub(super) fn fault() -> Fault {
    Fault {
        scenario: Scenario::OwnTime,
        service: PRE_PROCESSOR,
        replica: Some(SICK),
        amount: ADDED,
        step: None,
        other: 0,
    }
}

/// Own work of about so many microseconds.
fn work(microseconds: u32) -> Step {
    Step::Work(Latency { median: f64::from(microseconds) * MICROSECOND, sigma: 0.03, tail: 0.0 })
}

fn call(operation: usize) -> Step {
    Step::Call(Call { operation, attempts: 1, hedge_after: None })
}

fn event(name: &'static str) -> Step {
    Step::Event(name)
}
