"""Real peers before and behind Laggard: what arrives must equal what was sent, plus Laggard's own attributes.

    main.py LAGGARD PEERS [WORD]

LAGGARD is the program, PEERS the folder that peers are built into, where `collector` is already. With a WORD only rows that have
it in their name are tried. docs/peers.md says what each row checks.
"""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

import rows
from building import PEERS, SOURCES
from processes import Failed
from stage import Stage

PROTOCOLS = {
    "go": ["grpc", "http/protobuf"],
    "python": ["grpc", "http/protobuf", "http/json"],
    "java": ["grpc", "http/protobuf"],
    "javascript": ["grpc", "http/protobuf", "http/json"],
}

# Where the version of what a row tries stands: a file, and the text before it.
PINS = {
    "go": ("go/go.mod", "go.opentelemetry.io/otel/sdk v"),
    "python": ("python/requirements.txt", "opentelemetry-sdk=="),
    "java": ("java/pom.xml", "<artifactId>opentelemetry-bom</artifactId>\n        <version>"),
    "javascript": ("javascript/package.json", '"@opentelemetry/sdk-trace-base": "'),
    "collector": ("collector.builder.yaml", "  version: "),
    "jaeger": ("jaeger/go.mod", "jaegertracing/jaeger v"),
    "telemetrygen": ("telemetrygen/go.mod", "contrib/cmd/telemetrygen v"),
}


class Row(NamedTuple):
    """A line of the table: `run` gets the stage and what was built, and gives how many spans were sent and arrived."""

    peer: str
    protocol: str
    compression: str
    needs: list
    run: Callable

    def name(self):
        return f"{self.peer} {self.protocol} {self.compression}"


def version(peer):
    file, before = PINS[peer]
    return (SOURCES / file).read_text().partition(before)[2].split()[0].split('"')[0].split("<")[0]


def sdk_rows():
    for language, protocols in PROTOCOLS.items():
        peer = f"{language} SDK {version(language)}"
        for protocol in protocols:
            for compression in ("none", "gzip"):
                # Both ways onward get half of the rows.
                onward = "grpc" if compression == "none" else "http/protobuf"
                yield Row(peer, protocol, compression, [language], partial(
                    rows.sdk, language=language, protocol=protocol, compression=compression, onward=onward))
    yield Row(f"go SDK {version('go')}, healthy: 50%", "grpc", "none", ["go"], rows.healthy_share)


def collector_rows():
    def row(exporter, protocol, compression, settings, late=False):
        peer = f"Collector {version('collector')} {exporter}{', retrying' if late else ''}"
        return Row(peer, protocol, compression, ["go"], partial(
            rows.collector_in_front, exporter=exporter, settings=settings, late=late))

    yield row("otlp", "grpc", "gzip, default", {})
    yield row("otlp", "grpc", "zstd", {"compression": "zstd"})
    yield row("otlp", "grpc", "gzip, default", {}, late=True)
    yield row("otlphttp", "http/protobuf", "gzip, default", {})
    yield row("otlphttp", "http/protobuf", "zstd", {"compression": "zstd"})
    yield row("otlphttp", "http/json", "gzip, default", {"encoding": "json"})
    yield row("otlphttp", "http/protobuf", "gzip, default", {}, late=True)


def telemetrygen_rows():
    for protocol in ("grpc", "http/protobuf"):
        for signal in ("traces", "metrics", "logs"):
            run = rows.generated_traces if signal == "traces" else partial(rows.generated_signal, signal=signal)
            peer = f"telemetrygen {version('telemetrygen')} {signal}"
            yield Row(peer, protocol, "none", ["telemetrygen"], partial(run, protocol=protocol))


def jaeger_rows():
    for onward in ("grpc", "http/protobuf"):
        yield Row(f"Jaeger {version('jaeger')} behind", onward, "none", ["go", "jaeger"], partial(rows.jaeger_behind, onward=onward))


def all_rows():
    yield from sdk_rows()
    yield from collector_rows()
    yield from jaeger_rows()
    yield from telemetrygen_rows()


def attempt(row, stage, built):
    """Whether the row passed; its line of the table is printed."""
    started = time.monotonic()
    try:
        sent, arrived = row.run(stage, built)
        counts, outcome = f"{sent} {'=' if sent == arrived else '>'} {arrived}", "ok"
    except Failed as failure:
        counts, outcome = "", f"FAILED: {failure}"
    took = time.monotonic() - started
    print(f"| {row.peer:38} | {row.protocol:13} | {row.compression:13} | {counts:9} | {took:4.1f} s | {outcome} |", flush=True)
    return outcome == "ok"


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    laggard, peers, word = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) == 4 else ""
    chosen = [row for row in all_rows() if word in row.name()]
    if not chosen:
        sys.exit(f"no row has {word!r} in its name")
    needed = {name for row in chosen for name in row.needs}
    built = {name: peer.prepare(peers) for name, peer in PEERS.items() if name in needed}
    possible = [row for row in chosen if all(built[name] for name in row.needs)]

    print(f"| {'peer':38} | {'protocol':13} | {'compression':13} | {'spans':9} | {'took':6} | result |")
    print("|---|---|---|---|---|---|")
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(laggard, peers, directory)
        with stage.recorder.process:
            for row in possible:
                if not attempt(row, stage, built):
                    failed += 1
                    stage.keep_logs(peers / "failed" / row.name().replace("/", "_").replace(" ", "-"))
    print(f"peers: {len(possible) - failed} passed, {failed} failed, {len(chosen) - len(possible)} skipped")
    sys.exit(1 if failed else 0)


main()
