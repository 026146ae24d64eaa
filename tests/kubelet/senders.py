"""Senders as OTLP wants them: each sends traces one after the other, half of them in two requests, and a request that was not taken
again until it is. Over HTTP as JSON, or over gRPC."""

import collections
import http.client
import json
import pathlib
import sys
import threading
import time

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helm"))
import scrape
from kubelet import Failed

PAUSE = 0.02
METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
# Those that OTLP says to try again.
RETRYABLE = {
    grpc.StatusCode[name] for name in ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED")
}
# As quick as an SDK in the same cluster; the default waits longer with each failure.
CHANNEL = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))


def spans_of(request):
    """Which spans a request has."""
    every = [span for resource in request["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]]
    return [(span["traceId"], span["spanId"]) for span in every]


def protobuf(request):
    """A request of scrape.trace as protobuf."""

    def span(each):
        ids = {"trace_id": bytes.fromhex(each["traceId"]), "span_id": bytes.fromhex(each["spanId"])}
        times = {"start_time_unix_nano": int(each["startTimeUnixNano"]), "end_time_unix_nano": int(each["endTimeUnixNano"])}
        return Span(**ids, **times, parent_span_id=bytes.fromhex(each["parentSpanId"]), name=each["name"], kind=each["kind"])

    def resource(each):
        attributes = [KeyValue(key=one["key"], value=AnyValue(string_value=one["value"]["stringValue"])) for one in each["resource"]["attributes"]]
        scopes = [ScopeSpans(spans=map(span, scope["spans"])) for scope in each["scopeSpans"]]
        return ResourceSpans(resource=Resource(attributes=attributes), scope_spans=scopes)

    return ExportTraceServiceRequest(resource_spans=map(resource, request["resourceSpans"])).SerializeToString()


class OverHttp:
    """Sends a request once. `tls` is an ssl.SSLContext, `headers` go with each request."""

    name = "OTLP/HTTP"

    def __init__(self, host, port, tls=None, headers=()):
        self.host, self.port, self.tls, self.headers = host, port, tls, dict(headers)
        self.connection = None

    def taken(self, request):
        """Nothing, or why it was not taken; what must not be tried again fails."""
        try:
            if self.connection is None:
                self.connection = (
                    http.client.HTTPSConnection(self.host, self.port, timeout=10, context=self.tls)
                    if self.tls
                    else http.client.HTTPConnection(self.host, self.port, timeout=10)
                )
            self.connection.request("POST", "/v1/traces", json.dumps(request), {"content-type": "application/json", **self.headers})
            answer = self.connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection = None
            return type(error).__name__
        if answer.status == 200:
            return None
        if answer.status not in (429, 502, 503, 504):
            raise Failed(f"a sender would not try again after {answer.status}")
        return str(answer.status)


class OverGrpc:
    """The same; `tls` are grpc.ChannelCredentials."""

    name = "OTLP/gRPC"

    def __init__(self, host, port, tls=None, headers=()):
        target = f"{host}:{port}"
        self.channel = grpc.secure_channel(target, tls, CHANNEL) if tls else grpc.insecure_channel(target, CHANNEL)
        self.export = self.channel.unary_unary(METHOD)
        self.headers = tuple(dict(headers).items())

    def taken(self, request):
        try:
            answer = self.export(protobuf(request), timeout=10, metadata=self.headers)
        except grpc.RpcError as error:
            if error.code() not in RETRYABLE:
                raise Failed(f"a sender would not try again after {error.code().name}: {error.details()}") from error
            return error.code().name
        refused = ExportTraceServiceResponse.FromString(answer).partial_success
        if refused.rejected_spans:
            raise Failed(f"{refused.rejected_spans} spans were refused: {refused.error_message}")
        return None


class Sender(threading.Thread):
    """Sends until it is told to stop. `number` tells its traces from those of others."""

    def __init__(self, number, way):
        super().__init__(daemon=True)
        self.number, self.way = number, way
        self.stopping = threading.Event()
        self.acknowledged, self.tries, self.refusals = [], 0, collections.Counter()
        self.longest, self.failure = 0.0, None

    def run(self):
        count = 0
        try:
            while not self.stopping.is_set():
                self.send_trace(count)
                count += 1
        except Exception as error:
            self.failure = error

    def send_trace(self, count):
        """Every twentieth is slow. Ids differ in their last digits, as those of an SDK do everywhere."""
        request = json.loads(scrape.trace(self.number * 1_000_000 + count, 900 if count % 20 == 19 else 100 + count % 7))
        halves = [request] if count % 2 else [{"resourceSpans": [each]} for each in reversed(request["resourceSpans"])]
        for half in halves:
            self.send(half)
            self.stopping.wait(PAUSE)

    def send(self, request):
        began = time.monotonic()
        while not self.is_taken(request):
            if time.monotonic() - began > 60:
                raise Failed(f"a request was refused for a minute: {dict(self.refusals)}")
            time.sleep(0.05)
        self.longest = max(self.longest, time.monotonic() - began)
        self.acknowledged += spans_of(request)

    def is_taken(self, request):
        self.tries += 1
        why_not = self.way.taken(request)
        if why_not:
            self.refusals[why_not] += 1
        return not why_not


def stop(senders):
    """Ends them; raises Failed where one has not got its last request through."""
    for sender in senders:
        sender.stopping.set()
    for sender in senders:
        sender.join(70)
        if sender.failure or sender.is_alive():
            raise Failed(f"a sender over {sender.way.name}: {sender.failure or 'hangs'}")
