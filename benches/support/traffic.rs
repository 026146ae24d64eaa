//! Requests as a Collector or an SDK sends them: traces of eight spans over four services, with fresh ids in each.

use laggard::otlp::wire::{put_bytes, put_fixed64, put_uint};

/// Spans of a trace: two in each service, every one the parent of the next.
pub(crate) const SPANS_PER_TRACE: usize = 8;

/// Spans of a trace in one service: the one that enters it and the call to the next.
const SPANS_PER_SERVICE: usize = 2;

const SERVICES: [&str; 4] = ["web-server", "pre-processor", "inference-server", "model-store"];

/// 2026-11-01 in nanoseconds.
const EPOCH: u64 = 1_793_491_200_000_000_000;

/// What spans look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Bytes of a span with its field head.
    pub(crate) size: usize,
    /// How many attributes a span has.
    pub(crate) attributes: usize,
    /// Whether it has an event.
    pub(crate) has_event: bool,
}

/// What an instrumented HTTP service sends.
pub(crate) const TYPICAL: Shape = Shape { size: 640, attributes: 12, has_event: true };

/// A lean span.
#[allow(dead_code, reason = "not every program that includes this needs it")]
pub(crate) const SMALL: Shape = Shape { size: 256, attributes: 5, has_event: false };

/// An endless series of encoded requests.
#[derive(Debug)]
pub(crate) struct Requests {
    templates: Vec<Template>,
    traces: u64,
    next: usize,
}

/// An encoded message, and what changes in it.
#[derive(Debug, Default)]
struct Template {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where a request differs from the one before.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: usize,
    trace: u64,
    value: Fresh,
}

#[derive(Clone, Copy, Debug)]
enum Fresh {
    TraceId,
    SpanId(u64),
    Time(u64),
}

impl Requests {
    /// Requests as a Collector sends them: whole traces, from two instances of each service.
    pub(crate) fn from_collector(shape: Shape, spans: usize) -> Self {
        let traces = (spans / SPANS_PER_TRACE) as u64;
        let instances = [0, 1].map(|instance| SERVICES.map(|service| (service, instance)));
        let resources = instances.as_flattened();
        Self { templates: vec![Template::new(shape, traces, resources)], traces, next: 0 }
    }

    /// Requests as SDKs send them: of one service each, so that four of them hold whole traces.
    #[allow(dead_code, reason = "not every program that includes this needs it")]
    pub(crate) fn from_services(shape: Shape, spans: usize) -> Self {
        let traces = (spans / SPANS_PER_SERVICE) as u64;
        let templates = SERVICES.map(|service| Template::new(shape, traces, &[(service, 0)]));
        Self { templates: templates.into(), traces, next: 0 }
    }

    /// Goes on as if so many requests had been made.
    #[allow(dead_code, reason = "not every program that includes this needs it")]
    pub(crate) fn skip_to(&mut self, request: usize) {
        self.next = request;
    }

    /// The next request.
    pub(crate) fn next_request(&mut self) -> &[u8] {
        let count = self.templates.len();
        let (which, first_trace) = (self.next % count, (self.next / count) as u64 * self.traces);
        self.next += 1;
        let Some(template) = self.templates.get_mut(which) else { return &[] };
        for place in &template.places {
            let trace = first_trace + place.trace;
            let (high, low) = (mixed(2 * trace), mixed(2 * trace + 1));
            let id = [high.to_be_bytes(), low.to_be_bytes()];
            let number = match place.value {
                Fresh::TraceId => 0,
                Fresh::SpanId(number) => mixed(low ^ number),
                // A trace lasts 80 to 90 ms.
                Fresh::Time(time) => EPOCH + trace * 1_000 + time * (1_000 + low % 125) / 1_000,
            };
            let value = match place.value {
                Fresh::TraceId => id.as_flattened(),
                Fresh::SpanId(_) | Fresh::Time(_) => &number.to_le_bytes(),
            };
            if let Some(to) = template.bytes.get_mut(place.offset..place.offset + value.len()) {
                to.copy_from_slice(value);
            }
        }
        &template.bytes
    }
}

impl Template {
    /// A request of `traces` traces. A trace takes one of the instances of each service.
    fn new(shape: Shape, traces: u64, resources: &[(&str, u64)]) -> Self {
        let instances = resources.iter().map(|(_, instance)| instance + 1).max().unwrap_or(1);
        let mut request = Self::default();
        for (service, instance) in resources {
            let entry = SERVICES.iter().position(|name| name == service).unwrap_or(0) * SPANS_PER_SERVICE;
            let mut scope_spans = Self::default();
            put_bytes(&mut scope_spans.bytes, 1, &scope());
            for trace in (0..traces).filter(|trace| trace % instances == *instance) {
                for number in entry..entry + SPANS_PER_SERVICE {
                    scope_spans.put(2, span(shape, trace, number as u64));
                }
            }
            let mut resource_spans = Self::default();
            put_bytes(&mut resource_spans.bytes, 1, &resource(service, *instance));
            resource_spans.put(2, scope_spans);
            put_bytes(&mut resource_spans.bytes, 3, b"https://opentelemetry.io/schemas/1.37.0");
            request.put(1, resource_spans);
        }
        request
    }

    fn put(&mut self, number: u32, inner: Self) {
        put_bytes(&mut self.bytes, number, &inner.bytes);
        let start = self.bytes.len() - inner.bytes.len();
        let moved = inner.places.into_iter();
        self.places.extend(moved.map(|place| Place { offset: start + place.offset, ..place }));
    }

    /// The bytes just written, `length` of them, are fresh in every request.
    fn mark(&mut self, length: usize, trace: u64, value: Fresh) {
        self.places.push(Place { offset: self.bytes.len() - length, trace, value });
    }
}

fn span(shape: Shape, trace: u64, number: u64) -> Template {
    const MILLISECOND: u64 = 1_000_000;
    let mut span = Template::default();
    put_bytes(&mut span.bytes, 1, &[1; 16]);
    span.mark(16, trace, Fresh::TraceId);
    put_bytes(&mut span.bytes, 2, &[1; 8]);
    span.mark(8, trace, Fresh::SpanId(number));
    if number > 0 {
        put_bytes(&mut span.bytes, 4, &[1; 8]);
        span.mark(8, trace, Fresh::SpanId(number - 1));
    }
    put_bytes(&mut span.bytes, 5, b"POST /cart/{id}/items");
    // SERVER, then CLIENT.
    put_uint(&mut span.bytes, 6, 2 + number % 2);
    for (field, time) in [(7, number * MILLISECOND), (8, (80 - number) * MILLISECOND)] {
        put_fixed64(&mut span.bytes, field, 0);
        span.mark(8, trace, Fresh::Time(time));
    }
    let texts = [
        ("http.request.method", "POST"),
        ("http.route", "/cart/{id}/items"),
        ("server.address", "shop.example.com"),
        ("network.peer.address", "10.17.3.211"),
        ("url.scheme", "https"),
        ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/144.0"),
        ("thread.name", "worker-7"),
        ("network.protocol.version", "2"),
        ("app.tenant", "blue"),
    ];
    for (key, value) in texts.into_iter().take(shape.attributes - 2) {
        put_bytes(&mut span.bytes, 9, &text_attribute(key, value));
    }
    let mut status = Vec::new();
    put_uint(&mut status, 3, 200);
    put_bytes(&mut span.bytes, 9, &attribute("http.response.status_code", &status));
    if shape.has_event {
        let mut event = Vec::new();
        put_fixed64(&mut event, 1, 0);
        put_bytes(&mut event, 2, b"request validated");
        put_bytes(&mut event, 3, &text_attribute("app.rule", "default"));
        put_bytes(&mut span.bytes, 11, &event);
    }
    put_bytes(&mut span.bytes, 15, &[]);
    // An identifier, of the length that is missing; it compresses as badly as such ones do.
    let mut identifier = String::new();
    for counter in 0.. {
        let with_identifier = text_attribute("app.request.id", &identifier).len() + 3;
        let head = 3;
        if span.bytes.len() + with_identifier + head >= shape.size || counter == 160 {
            break;
        }
        let digit = mixed(trace << 20 | number << 10 | counter) % 16;
        identifier.extend(u32::try_from(digit).ok().and_then(|digit| char::from_digit(digit, 16)));
    }
    put_bytes(&mut span.bytes, 9, &text_attribute("app.request.id", &identifier));
    span
}

fn scope() -> Vec<u8> {
    let mut scope = Vec::new();
    put_bytes(&mut scope, 1, b"io.opentelemetry.http");
    put_bytes(&mut scope, 2, b"2.1.0");
    scope
}

fn resource(service: &str, instance: u64) -> Vec<u8> {
    let mut resource = Vec::new();
    let pod = format!("{service}-7d9f8b6c5-{instance:05}");
    for (key, value) in [
        ("service.name", service),
        ("service.version", "4.2.1"),
        ("service.instance.id", &pod),
        ("k8s.pod.name", &pod),
        ("k8s.namespace.name", "shop"),
        ("telemetry.sdk.language", "java"),
    ] {
        put_bytes(&mut resource, 1, &text_attribute(key, value));
    }
    resource
}

fn text_attribute(key: &str, text: &str) -> Vec<u8> {
    let mut value = Vec::new();
    put_bytes(&mut value, 1, text.as_bytes());
    attribute(key, &value)
}

fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, key.as_bytes());
    put_bytes(&mut attribute, 2, value);
    attribute
}

/// Scrambles a counter: the finaliser of splitmix64.
fn mixed(counter: u64) -> u64 {
    let mut value = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
