"""The traffic of docs/peers.md, sent with the OpenTelemetry SDK of Python.

    client.py PROTOCOL COMPRESSION SERVICES_PREFIX LAGGARD_URL DIRECT_URL
"""

import random
import sys
import time

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

FAST, SLOW = 30, 2
WITH_REMOTE_PARENT, WITH_ERROR = 3, 7
MILLISECOND = 1_000_000


def exporter(protocol, compression, url):
    if protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        known = {"none": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip}
        return OTLPSpanExporter(endpoint=url, insecure=True, compression=known[compression])
    if protocol == "http/json":
        from opentelemetry.exporter.otlp.common.http import Compression
        from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
    else:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    return OTLPSpanExporter(endpoint=f"{url}/v1/traces", compression=Compression(compression))


class Service:
    def __init__(self, name, new_exporters):
        attributes = {"service.name": name, "service.version": "1.2.3", "host.ip": ["127.0.0.1", "::1"]}
        self.provider = TracerProvider(
            resource=Resource(attributes, schema_url="https://opentelemetry.io/schemas/1.36.0"),
            span_limits=SpanLimits(max_events=2),
        )
        for new in new_exporters:
            self.provider.add_span_processor(BatchSpanProcessor(new()))
        self.tracer = self.provider.get_tracer("peer", "0.1.0", "https://example.com/scope", {"scope.kind": "test"})

    def start(self, parent, name, kind, start, attributes=None, links=()):
        around = parent and trace.set_span_in_context(trace.NonRecordingSpan(parent))
        return self.tracer.start_span(name, around, kind, attributes, links, start)


def remote(context):
    """As the other side of a call knows it."""
    return SpanContext(context.trace_id, context.span_id, True, context.trace_flags, context.trace_state)


def foreign(state):
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(random.getrandbits(128), random.getrandbits(64), True, flags, TraceState(state))


def record(services, number, own):
    inference_server, pre_processor, web_server = services
    start = time.time_ns() - 2_000 * MILLISECOND + number

    def at(milliseconds):
        return start + milliseconds * MILLISECOND

    # Some jitter, so that no two traces last equally long.
    whole = own + 130 + number % 7
    caller = foreign([("vendor", "t61rcWkgMzE"), ("other", "1")]) if number == WITH_REMOTE_PARENT else None
    entry = web_server.start(caller, "GET /checkout", SpanKind.SERVER, at(0), {
        "http.request.method": "GET", "http.route": "/checkout", "user.id": 2**53 - 1, "cart.total": 19.99,
        "cart.express": True, "cart.items": ["caf\u00e9", "\u8336", ""], "cart.counts": [1, -2, 3], "empty": "",
    })
    call = web_server.start(entry.get_span_context(), "POST", SpanKind.CLIENT, at(4), {"server.address": "pre"})
    request = pre_processor.start(remote(call.get_span_context()), "preprocess-request", SpanKind.SERVER, at(5))
    # One more than the limit, so that the SDK counts a dropped one.
    for event in range(3):
        request.add_event(f"step {event}", {"downstream.status_code": 200 + event}, at(6 + event))
    onward = pre_processor.start(request.get_span_context(), "POST", SpanKind.CLIENT, at(5 + own))
    linked = [Link(foreign([("vendor", "linked")]), {"link.reason": "batched"})]
    inference = inference_server.start(remote(onward.get_span_context()), "inference-service-post", SpanKind.SERVER,
                                       at(6 + own), links=linked)
    if number == WITH_ERROR:
        inference.record_exception(MemoryError("no room"), timestamp=at(7 + own))
        inference.set_status(Status(StatusCode.ERROR, "out of memory"))
    else:
        inference.set_status(Status(StatusCode.OK))

    inference.end(at(6 + own + 98))
    onward.end(at(5 + own + 100))
    request.end(at(5 + whole - 10))
    call.end(at(4 + whole - 8))
    entry.end(at(whole))
    return 5


def main():
    protocol, compression, prefix, *urls = sys.argv[1:]
    new_exporters = [lambda url=url: exporter(protocol, compression, url) for url in urls]
    # In the order in which they export: roots come last.
    services = [Service(f"{prefix}-{name}", new_exporters)
                for name in ("inference-server", "pre-processor", "web-server")]

    spans = sum(record(services, number, own=50) for number in range(FAST))
    for service in services:
        service.provider.force_flush()
    # What is slow is compared with what was decided before.
    time.sleep(1)
    spans += sum(record(services, FAST + number, own=775) for number in range(SLOW))
    for service in services:
        service.provider.shutdown()
    print(spans)


main()
