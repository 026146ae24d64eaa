"""rollouts.py LAGGARD COLLECTOR HELM [ROLLOUTS]: rolls a rendered pod again and again under traffic that never pauses.

Every span that was acknowledged must be in the Collector's file once, and every request that was not taken must be taken when
it is tried again. Runs in a network namespace of its own (tests/kubelet/run).
"""

import collections
import fcntl
import http.client
import json
import pathlib
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "helm"))
import rendering
import scrape
from kubelet import Failed, Kubelet

VALUES = pathlib.Path(__file__).parent / "values.yaml"
SENDERS = 4
PAUSE = 0.02


def loopback_up():
    with socket.socket() as any_socket:
        up_and_running = struct.pack("16sh14s", b"lo", 0x1 | 0x8 | 0x40, b"")
        fcntl.ioctl(any_socket, 0x8914, up_and_running)


class Sender(threading.Thread):
    """Sends traces one after the other, half of them in two requests, and each request until it is taken."""

    def __init__(self, number, port):
        super().__init__(daemon=True)
        self.number, self.port = number, port
        self.stopping = threading.Event()
        self.acknowledged, self.tries, self.refusals = [], 0, collections.Counter()
        self.longest, self.failure, self.connection = 0.0, None, None

    def run(self):
        count = 0
        try:
            while not self.stopping.is_set():
                # Every twentieth is slow. Ids differ in their last digits, as those of an SDK do everywhere.
                request = json.loads(scrape.trace(self.number * 1_000_000 + count, 900 if count % 20 == 19 else 100 + count % 7))
                halves = [request] if count % 2 else [{"resourceSpans": [each]} for each in reversed(request["resourceSpans"])]
                for half in halves:
                    self.send(half)
                    self.stopping.wait(PAUSE)
                count += 1
        except Exception as error:
            self.failure = error

    def send(self, request):
        body = json.dumps(request)
        spans = [span for resource in request["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]]
        began = time.monotonic()
        while not self.is_taken(body):
            if time.monotonic() - began > 60:
                raise Failed("a request was refused for a minute")
            time.sleep(0.05)
        self.longest = max(self.longest, time.monotonic() - began)
        self.acknowledged += [(span["traceId"], span["spanId"]) for span in spans]

    def is_taken(self, body):
        self.tries += 1
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            self.connection.request("POST", "/v1/traces", body, {"content-type": "application/json"})
            answer = self.connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.refusals[type(error).__name__] += 1
            self.connection = None
            return False
        if answer.status == 200:
            return True
        if answer.status not in (429, 502, 503, 504):
            raise Failed(f"a sender would not try again after {answer.status}")
        self.refusals[str(answer.status)] += 1
        return False


class Accounts:
    """Where the spans of a pod are, by its metrics, while it ends."""

    PARTS = ("receiver_accepted_spans_total", "exporter_sent_spans_total", "dropped_spans_total", "held_spans", "queued_spans")

    def __init__(self, port):
        self.port, self.counts, self.looks, self.quiet, self.off = port, None, 0, 0, []

    def look(self):
        """Exact where nothing has moved since the last look; otherwise noted."""
        try:
            page = scrape.get(f"http://127.0.0.1:{self.port}/metrics")
        except (urllib.error.URLError, OSError):
            return
        found = re.findall(r"^laggard_([a-z_]+)(?:\{[^}]*\})? ([0-9.e+]+)$", page, re.MULTILINE)
        counts = [sum(int(float(value)) for name, value in found if name == part) for part in self.PARTS]
        accepted, *accounted = counts
        missing = accepted - sum(accounted)
        self.looks += 1
        if counts == self.counts:
            self.quiet += 1
            if missing:
                raise Failed(f"nothing moves and {missing} spans are not accounted for: {dict(zip(self.PARTS, counts))}")
        self.off.append(missing)
        self.counts = counts


def delivered(file):
    """How often each span is in what the Collector wrote."""
    found = collections.Counter()
    for line in file.read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            found.update((span["traceId"], span["spanId"]) for scope in resource["scopeSpans"] for span in scope["spans"])
    return found


def main(laggard, collector, helm, rollouts):
    loopback_up()
    with tempfile.TemporaryDirectory(prefix="laggard-kubelet-") as folder:
        rendered = rendering.objects(helm, "-f", str(VALUES))
        config_maps = {each["metadata"]["name"]: each["data"] for each in rendered if each["kind"] == "ConfigMap"}
        pod = rendering.one(rendered, "StatefulSet")["spec"]["template"]
        for data in config_maps.values():
            data["config.yaml"] = data["config.yaml"].replace("/tmp/received.json", f"{folder}/received.json")
        kubelet = Kubelet(pod, config_maps, {"laggard": laggard, "collector": collector}, folder)
        ports = {port["name"]: port["containerPort"] for port in rendering.container(rendered)["ports"]}
        try:
            roll(kubelet, ports, pathlib.Path(folder), rollouts, laggard)
        except (Failed, AssertionError) as error:
            kubelet.kill()
            for log in pathlib.Path(folder).glob("*.log"):
                print(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-30:]), file=sys.stderr)
            sys.exit(f"FAILED: {error}")


def roll(kubelet, ports, folder, rollouts, laggard):
    starts, ends, accounts = [kubelet.start()], [], []
    # As `helm test` and an image's health check ask.
    health = [laggard, "health", f"--endpoint=127.0.0.1:{ports['admin']}"]
    if subprocess.run(health, check=False).returncode:
        raise Failed("laggard health says that the pod is not ready")
    senders = [Sender(number, ports["otlp-http"]) for number in range(1, SENDERS + 1)]
    for sender in senders:
        sender.start()
    for _ in range(rollouts):
        time.sleep(1.5)
        kubelet.check()
        account = Accounts(ports["admin"])
        ends.append(kubelet.stop(account.look))
        accounts.append(account)
        starts.append(kubelet.start())
    time.sleep(1)
    for sender in senders:
        sender.stopping.set()
    for sender in senders:
        sender.join(70)
        if sender.failure or sender.is_alive():
            raise Failed(f"a sender: {sender.failure or 'hangs'}")
    accounts.append(Accounts(ports["admin"]))
    ends.append(kubelet.stop(accounts[-1].look))
    if not subprocess.run(health, check=False, capture_output=True).returncode:
        raise Failed("laggard health says that an ended pod is ready")
    conclude(senders, accounts, starts, ends, folder, kubelet.spec["terminationGracePeriodSeconds"])


def conclude(senders, accounts, starts, ends, folder, grace):
    acknowledged = collections.Counter(span for sender in senders for span in sender.acknowledged)
    arrived = delivered(folder / "received.json")
    lost, twice = acknowledged - arrived, [span for span, count in arrived.items() if count > 1]
    refusals = sum((sender.refusals for sender in senders), collections.Counter())
    log = (folder / "laggard.log").read_text()
    assert "could not be sent" not in log, "the log names lost spans"
    assert log.count("every accepted span was sent") == len(ends), "not every pod said that all was sent"
    assert not lost, f"{len(lost)} of {acknowledged.total()} acknowledged spans did not arrive: {list(lost)[:3]}"
    assert not twice, f"{len(twice)} spans arrived twice: {twice[:3]}"
    assert arrived.keys() == acknowledged.keys(), "spans arrived that nobody sent"
    assert all(account.looks for account in accounts), "a pod was never scraped while it ended"
    off = [missing for account in accounts for missing in account.off]
    in_milliseconds = [round(1000 * start) for start in starts]
    print(f"OK: {len(ends) - 1} rollouts; {acknowledged.total()} spans acknowledged and delivered once, 0 lost, 0 twice")
    print(f"    {sum(sender.tries for sender in senders)} requests; refused and then taken: {dict(refusals)}; longest wait {max(sender.longest for sender in senders):.1f} s")
    print(f"    start to ready {statistics.median(in_milliseconds)} ms (median; {min(in_milliseconds)} to {max(in_milliseconds)})")
    print(f"    end of a pod {statistics.median(ends):.1f} s (median; at most {max(ends):.1f}), grace period {grace} s")
    quiet = sum(account.quiet for account in accounts)
    print(f"    identity: exact in {quiet} scrapes while nothing moved; off by {min(off)} to {max(off)} spans in the other {len(off) - quiet}")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]) if len(sys.argv) > 4 else 10)
