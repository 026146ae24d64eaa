"""What is tried: each function is one kind of row, gives how many spans were sent and arrived, and raises where they differ."""

from collections import Counter
from contextlib import ExitStack, contextmanager

import comparison
from building import SOURCES
from comparison import require
from processes import Failed, run, wait_for
from stage import THRESHOLD_MS, Address, url

CLIENTS = {
    "python": lambda built: ["env", f"PYTHONPATH={built}", "python3", SOURCES / "python/client.py"],
    "go": lambda built: [built / "go"],
    "java": lambda built: ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{built}/classes:{built}/libraries/*", "Client"],
    "javascript": lambda built: ["env", f"NODE_PATH={built}/node_modules", "node", SOURCES / "javascript/client.js"],
}


class Client:
    """The SDK of one language, which sends the traffic of docs/peers.md."""

    def __init__(self, language, built):
        self.command = CLIENTS[language](built[language])

    def send(self, protocol, compression, prefix, ports):
        """Exports everything to each of the ports; the number of spans that the program says it has ended."""
        return int(run([*self.command, protocol, compression, prefix, *map(url, ports)]).splitlines()[-1])


def received(recording, spans):
    """The spans of a recording, once it has so many."""
    return wait_for(f"{spans} spans in {recording.path.name}", lambda: len(now := recording.spans()) >= spans and now)


def expect_verdicts(sent, arrived, culprit):
    """Each slow trace, and no other, names the service that made it slow, and its span is marked."""
    slow = comparison.slow_traces(sent, THRESHOLD_MS)
    if not slow:
        raise Failed("no slow trace was sent")
    require("the services named as root causes", {trace: culprit for trace in slow}, comparison.verdicts(arrived))
    require("the services of the marked spans", Counter({culprit: len(slow)}), comparison.culprits(arrived))


def expect_figures(laggard, spans, transport):
    """Laggard has counted what came and what went, and has refused and dropped nothing."""
    figures = laggard.settled_figures()
    require("accepted spans", spans, figures.sum("laggard_receiver_accepted_spans_total", transport=transport))
    require("sent spans", spans, figures.sum("laggard_exporter_sent_spans_total"))
    for metric in ("receiver_refused_spans", "receiver_refused_requests", "dropped_spans", "exporter_failed_requests"):
        require(f"laggard_{metric}_total", 0, figures.sum(f"laggard_{metric}_total"))
    require("laggard's exit code", 0, laggard.process.end())


def transport_of(protocol):
    return "grpc" if protocol == "grpc" else "http"


def sdk(stage, built, language, protocol, compression, onward):
    """An SDK with two exporters: one to Laggard, one to the recorder, which must receive the same from both sides."""
    sent, arrived = stage.recordings()
    prefix = "shop"
    with stage.laggard(onward) as laggard:
        ports = [laggard.address.of(protocol), stage.recorder.sent.of(protocol)]
        spans = Client(language, built).send(protocol, compression, prefix, ports)
        before = received(sent, spans)
        received(arrived, spans)
        expect_figures(laggard, spans, transport_of(protocol))
    return compare(before, arrived, f"{prefix}-pre-processor")


def compare(sent, arrived, culprit):
    after = arrived.spans()
    comparison.all_arrived(sent, after)
    if culprit:
        expect_verdicts(sent, after, culprit)
    return len(sent), len(after)


def healthy_share(stage, built):
    """Half of the healthy traces, all slow and failed ones and one copy of the reference arrive."""
    sent, arrived = stage.recordings()
    with stage.laggard(sample={"healthy": "50%"}) as laggard:
        spans = Client("go", built).send("grpc", "none", "shop", [laggard.address.grpc, stage.recorder.sent.grpc])
        before = received(sent, spans)
        figures = laggard.settled_figures()
        copies = figures.sum("laggard_reference_spans_sent_total")
        delivered = figures.sum("laggard_exporter_sent_spans_total") + copies
        received(arrived, delivered)
        require("spans neither sent nor left out on purpose", 0,
                spans + copies - delivered - figures.sum("laggard_dropped_spans_total", reason="not_sampled"))
        require("laggard's exit code", 0, laggard.process.end())
    after = arrived.spans()
    require("delivered spans", delivered, len(after))
    stamped = comparison.sampled(before, after)
    healthy = len({trace for trace, _ in before}) - len(comparison.slow_traces(before, THRESHOLD_MS))
    if not 0 < stamped < healthy:
        raise Failed(f"{stamped} of {healthy} healthy traces were kept and stamped")
    expect_verdicts(before, after, "shop-pre-processor")
    return len(before), len(after)


def collector_in_front(stage, built, exporter, settings, late=False):
    """A Collector's exporter sends to Laggard, with its defaults but for `settings`; with `late`, Laggard is started when
    the Collector has tried already, and everything arrives by its retries."""
    _, arrived = stage.recordings()
    at = Address()
    with ExitStack() as running:
        laggard = None if late else running.enter_context(stage.laggard(address=at))
        front, seen = running.enter_context(stage.collector_in_front(exporter, settings, at))
        spans = Client("go", built).send("grpc", "none", "shop", [front.grpc])
        before = received(seen, spans)
        laggard = laggard or running.enter_context(stage.laggard(address=at))
        received(arrived, spans)
        expect_figures(laggard, spans, transport_of("grpc" if exporter == "otlp" else "http"))
    # Retries bring what is fast and what is slow at once, so that there may be no reference yet.
    return compare(before, arrived, None if late else "shop-pre-processor")


def jaeger_behind(stage, built, onward):
    """Jaeger as the backend: it has every span, and a search for `root_cause.service` finds each slow trace and no other."""
    sent, _ = stage.recordings()
    with stage.jaeger(built["jaeger"] / "jaeger") as (address, search), stage.laggard(onward, to=address) as laggard:
        spans = Client("go", built).send("grpc", "none", "shop", [laggard.address.grpc, stage.recorder.sent.grpc])
        before = received(sent, spans)
        expect_figures(laggard, spans, "grpc")
        entry, culprit = "shop-web-server", "shop-pre-processor"
        after = wait_for("as many spans in Jaeger", lambda: len(now := search.find(entry)) >= spans and now)
        require("the spans that Jaeger has", sorted(before), sorted(after))
        slow = comparison.slow_traces(before, THRESHOLD_MS)
        for service, expected in ((culprit, slow), ("shop-inference-server", set())):
            found = search.find(entry, **{"root_cause.service": service})
            require(f"the traces with root_cause.service={service}", sorted(expected), sorted({trace for trace, _ in found}))
        marked = [span for span in after.values() if any(tag["key"] == "root_cause.culprit" for tag in span["tags"])]
        require("spans that are marked in Jaeger", len(slow), len(marked))
        linked = [span for span in after.values() if any(tag["key"] == "root_cause.baseline.trace_id" for tag in span["tags"])]
        for span in linked:
            reference = next(tag["value"] for tag in span["tags"] if tag["key"] == "root_cause.baseline.trace_id")
            require("links to the reference in Jaeger", 1, sum(ref["traceID"] == reference for ref in span["references"]))
    return len(before), len(after)


def generated_traces(stage, built, protocol):
    """telemetrygen sends fast traces and a slow one to Laggard, and the same again to the recorder."""
    command = [built["telemetrygen"] / "telemetrygen", "traces", "--otlp-insecure", "--child-spans=1", "--rate=0"]
    fast, slow = ["--traces=30", "--span-duration=50ms"], ["--traces=1", "--span-duration=900ms"]

    def send(some, address):
        return run([*command, *some, *target(address, protocol)])

    with generated(stage) as (laggard, recordings):
        for some in (fast, slow):
            send(some, stage.recorder.sent)
            send(some, laggard.address)
            before = settled_items(recordings, laggard)
        expect_figures(laggard, len(before), transport_of(protocol))
    _, after = recordings
    require("verdicts", ["telemetrygen"], list(comparison.verdicts(after.spans()).values()))
    return alike(before, after.items())


def generated_signal(stage, built, signal, protocol):
    """Metrics and logs pass through; they are sent to Laggard, and the same again to the recorder."""
    command = [built["telemetrygen"] / "telemetrygen", signal, "--otlp-insecure", f"--{signal}=20", "--rate=0", "--otlp-attributes=peer=\"a\""]
    with generated(stage) as (laggard, (sent, arrived)):
        run([*command, *target(stage.recorder.sent, protocol)])
        run([*command, *target(laggard.address, protocol)])
        before = wait_for(f"{signal} in sent.json", lambda: len(now := sent.items()) >= 20 and now)
        wait_for(f"{signal} in arrived.json", lambda: len(arrived.items()) >= len(before))
        relayed = laggard.settled_figures().sum("laggard_passthrough_requests_total", signal=signal, outcome="ok")
        if relayed == 0:
            raise Failed(f"no request of {signal} was counted as passed through")
        expect_figures(laggard, 0, transport_of(protocol))
    return alike(before, arrived.items())


@contextmanager
def generated(stage):
    with stage.laggard() as laggard:
        yield laggard, stage.recordings()


def target(address, protocol):
    http = ["--otlp-http"] if protocol != "grpc" else []
    return [*http, f"--otlp-endpoint=127.0.0.1:{address.of(protocol)}"]


def settled_items(recordings, laggard):
    sent, arrived = recordings
    accepted = laggard.settled_figures().sum("laggard_receiver_accepted_spans_total")
    before = wait_for("as many spans sent as accepted", lambda: len(now := sent.items()) == accepted and now)
    wait_for("as many spans arrived as sent", lambda: len(arrived.items()) == len(before))
    return before


def alike(sent, arrived):
    require("what arrived more or less often than it was sent", [], sorted(
        ((Counter(map(comparison.alike, sent)) - Counter(map(comparison.alike, arrived)))
         + (Counter(map(comparison.alike, arrived)) - Counter(map(comparison.alike, sent)))).items()))
    return len(sent), len(arrived)
