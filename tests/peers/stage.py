"""The processes of a row: a Collector that records, Laggard, and where the row has it a Collector in front."""

import json
import shutil
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import figures
from processes import Process, free_port
from recording import Recording

THRESHOLD_MS = 400


def local(port):
    return f"127.0.0.1:{port}"


def url(port):
    return f"http://{local(port)}"


def write(path, tree):
    """A configuration: JSON is YAML."""
    path.write_text(json.dumps(tree, indent=1))
    return path


class Address:
    """One place to send OTLP to."""

    def __init__(self):
        self.grpc, self.http = free_port(), free_port()

    def receiver(self):
        return {"protocols": {"grpc": {"endpoint": local(self.grpc)}, "http": {"endpoint": local(self.http)}}}

    def of(self, protocol):
        return self.grpc if protocol == "grpc" else self.http


class Recorder:
    """A Collector with two addresses, each of which writes all that it receives to a file of its own: `sent` takes what
    peers export beside their export to Laggard, `arrived` is where Laggard sends."""

    def __init__(self, collector, directory):
        self.sent, self.arrived = Address(), Address()
        self.sent_file, self.arrived_file = directory / "sent.json", directory / "arrived.json"
        pipelines = {f"{signal}/{name}": {"receivers": [f"otlp/{name}"], "exporters": [f"file/{name}"]}
                     for signal in ("traces", "metrics", "logs") for name in ("sent", "arrived")}
        config = write(directory / "recorder.yaml", {
            "receivers": {"otlp/sent": self.sent.receiver(), "otlp/arrived": self.arrived.receiver()},
            "exporters": {"file/sent": {"path": str(self.sent_file), "flush_interval": "50ms"},
                          "file/arrived": {"path": str(self.arrived_file), "flush_interval": "50ms"}},
            "service": {"telemetry": {"metrics": {"level": "none"}}, "pipelines": pipelines},
        })
        ports = [self.sent.grpc, self.sent.http, self.arrived.grpc, self.arrived.http]
        self.process = Process([collector, "--config", config], directory / "recorder.log", ports)


class Stage:
    """Starts what a row needs, with files in one directory that ends with the run."""

    def __init__(self, laggard, peers, directory):
        self.laggard_program, self.peers, self.directory = laggard, Path(peers), Path(directory)
        self.recorder = Recorder(self.peers / "collector", self.directory)

    def recordings(self):
        return Recording(self.recorder.sent_file), Recording(self.recorder.arrived_file)

    @contextmanager
    def laggard(self, onward="grpc", sample=None, address=None, to=None):
        """Laggard between its address and `to`, the recorder where nothing else is said."""
        laggard = Laggard(self, onward, sample or {"dry_run": True}, address or Address(), to or self.recorder.arrived)
        with laggard.process:
            yield laggard

    @contextmanager
    def collector_in_front(self, exporter, settings, laggard):
        """A Collector that writes what it receives to a file and exports it with `exporter` to Laggard's address. Gives
        its own address and the recording of what it has received."""
        address, seen = Address(), self.directory / "front.json"
        seen.unlink(missing_ok=True)
        endpoint = local(laggard.grpc) if exporter == "otlp" else url(laggard.http)
        config = write(self.directory / "front.yaml", {
            "receivers": {"otlp": address.receiver()},
            "exporters": {"file": {"path": str(seen), "flush_interval": "50ms"},
                          exporter: {"endpoint": endpoint, "tls": {"insecure": True}} | settings},
            "service": {"telemetry": {"metrics": {"level": "none"}},
                        "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file", exporter]}}},
        })
        command = [self.peers / "collector", "--config", config]
        with Process(command, self.directory / "front.log", [address.grpc, address.http]):
            yield address, Recording(seen)

    @contextmanager
    def jaeger(self, program):
        """Jaeger with its store in memory. Gives its address and what searches it."""
        address, query, others = Address(), free_port(), [free_port() for _ in range(4)]
        listens = {"collector.otlp.grpc.host-port": address.grpc, "collector.otlp.http.host-port": address.http,
                   "query.http-server.host-port": query}
        listens |= zip(["collector.grpc-server.host-port", "collector.http-server.host-port", "query.grpc-server.host-port",
                        "admin.http.host-port"], others)
        flags = [f"--{name}={local(port)}" for name, port in listens.items()]
        # It would send traces of its own to where OTLP usually goes.
        command = ["env", "OTEL_TRACES_SAMPLER=always_off", program, *flags]
        with Process(command, self.directory / "jaeger.log", [address.grpc, address.http, query]):
            yield address, Search(query)

    def keep_logs(self, to):
        """What each process last said, for whoever looks at a row that failed."""
        shutil.copytree(self.directory, to, dirs_exist_ok=True)


class Search:
    """What a person does with the search form of Jaeger's page, by the API behind it."""

    def __init__(self, port):
        self.traces = f"{url(port)}/api/traces"

    def find(self, service, **tags):
        """The spans of all traces that have a span of the service with these tags, by trace and span id."""
        asked = {"service": service, "lookback": "1h", "limit": 1000}
        if tags:
            asked["tags"] = json.dumps(tags)
        with urllib.request.urlopen(f"{self.traces}?{urllib.parse.urlencode(asked)}", timeout=10) as answer:
            found = json.load(answer)["data"]
        return {(trace["traceID"], span["spanID"]): span for trace in found for span in trace["spans"]}


class Laggard:
    def __init__(self, stage, onward, sample, address, to):
        self.address, self.admin = address, free_port()
        config = write(stage.directory / "laggard.yaml", {
            "receive": {"grpc": {"endpoint": local(address.grpc)}, "http": {"endpoint": local(address.http)}},
            "assemble": {"decision_wait": "2s", "decision_wait_after_root_received": "1s"},
            "slow": {"threshold": f"{THRESHOLD_MS}ms"},
            "sample": sample,
            "export": {
                "endpoint": url(to.of(onward)), "protocol": onward,
                # On loopback nothing is compressed unless it is said.
                "compression": "none" if onward == "grpc" else "gzip",
            },
            "shutdown": {"delay": "0s", "drain_timeout": "10s"},
            "telemetry": {"admin": {"endpoint": local(self.admin)}},
        })
        command = [stage.laggard_program, "run", "--config", config]
        self.process = Process(command, stage.directory / "laggard.log", [address.grpc, address.http, self.admin])

    def settled_figures(self):
        return figures.settled(self.admin)
