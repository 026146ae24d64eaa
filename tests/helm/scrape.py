"""The metrics of the program after every kind of traffic that a query asks for."""

import contextlib
import json
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url, body=None):
    request = urllib.request.Request(url, body, {"content-type": "application/json"} if body else {})
    return urllib.request.urlopen(request, timeout=5).read().decode()


def wait_for(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, AssertionError):
            return condition()
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def trace(number, milliseconds):
    """A request of `web` that spends its time in `db`."""
    start = 1_700_000_000_000_000_000 + number * 2_000_000_000

    def span(own, parent, kind, begin, end):
        ids = {"traceId": f"{number + 1:032x}", "spanId": own, "parentSpanId": parent}
        times = {"startTimeUnixNano": str(start + begin), "endTimeUnixNano": str(start + end)}
        return {**ids, **times, "name": "call", "kind": kind}

    def resource(name, *spans):
        service = {"key": "service.name", "value": {"stringValue": name}}
        return {"resource": {"attributes": [service]}, "scopeSpans": [{"spans": spans}]}

    whole = milliseconds * 1_000_000
    web = resource("web", span("a" * 16, "", 2, 0, whole), span("b" * 16, "a" * 16, 3, 1_000_000, whole - 1_000_000))
    db = resource("db", span("c" * 16, "b" * 16, 2, 1_100_000, whole - 1_100_000))
    return json.dumps({"resourceSpans": [web, db]}).encode()


def of(laggard):
    """The labels of each series, by the metric's name."""
    grpc, http, admin, nowhere = (free_port() for _ in range(4))
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "laggard.yaml"
        file.write_text(
            f"""
            receive: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}
            assemble: {{decision_wait: 1s, decision_wait_after_root_received: 100ms}}
            slow: {{threshold: 300ms}}
            export: {{endpoint: "http://127.0.0.1:{nowhere}"}}
            shutdown: {{delay: 0s, drain_timeout: 0s}}
            telemetry: {{admin: {{endpoint: "127.0.0.1:{admin}"}}}}
            """
        )
        process = subprocess.Popen([laggard, "run", "--config", file], stderr=subprocess.DEVNULL)
        try:
            wait_for("the start", lambda: get(f"http://127.0.0.1:{admin}/ready"))
            # References are taken at most once a second.
            for number in range(4):
                get(f"http://127.0.0.1:{http}/v1/traces", trace(number, 100 + number))
                time.sleep(1.1)
            get(f"http://127.0.0.1:{http}/v1/traces", trace(9, 900))

            def page():
                text = get(f"http://127.0.0.1:{admin}/metrics")
                assert "laggard_root_cause_traces_total{" in text
                return text

            text = wait_for("a verdict", page)
        finally:
            process.terminate()
            process.wait(10)
    series = {}
    for name, labels in re.findall(r"^([a-z_]+)(?:\{([^}]*)\})? ", text, re.MULTILINE):
        series.setdefault(name, []).append(dict(re.findall(r'(\w+)="([^"]*)"', labels)))
    return series
