"""rollouts.py LAGGARD COLLECTOR HELM: rolls a rendered pod again and again under traffic that never pauses.

Senders are OTLP/HTTP, OTLP/gRPC, and a Collector that sends on what it gets. Every span that was acknowledged must be in the
file of the pod's Collector once, and every request that was not taken must be taken when it is tried again.
"""

import collections
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error

import collectors
from kubelet import Failed, Kubelet
from network import Network
from senders import OverGrpc, OverHttp, Sender, stop

# After senders, which puts it on the path.
import rendering
import scrape

VALUES = pathlib.Path(__file__).parent / "values.yaml"

# A Collector of somebody else that sends to Laggard, as it does by default but for shorter waits.
IN_FRONT = """
receivers: {otlp: {protocols: {http: {endpoint: "0.0.0.0:4318"}}}}
exporters:
  otlp_grpc:
    endpoint: laggard:4317
    tls: {insecure: true}
    retry_on_failure: {initial_interval: 200ms, max_interval: 1s}
service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp_grpc]}}}
"""


class Accounts:
    """Where the spans of a pod are, by its metrics, while it ends."""

    PARTS = ("receiver_accepted_spans_total", "exporter_sent_spans_total", "dropped_spans_total", "held_spans", "queued_spans")

    def __init__(self, admin):
        self.admin, self.counts, self.looks, self.quiet, self.off = admin, None, 0, 0, []

    def look(self):
        """Exact where nothing has moved since the last look; otherwise noted."""
        try:
            page = scrape.get(f"http://{self.admin}/metrics")
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


def main(laggard, collector, helm, rollouts):
    with tempfile.TemporaryDirectory(prefix="laggard-kubelet-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        network = Network(folder)
        rendered = rendering.objects(helm, "-f", str(VALUES))
        config_maps = {each["metadata"]["name"]: each["data"] for each in rendered if each["kind"] == "ConfigMap"}
        for data in config_maps.values():
            data["config.yaml"] = data["config.yaml"].replace("/tmp/received.json", f"{folder}/received.json")
        pod = rendering.one(rendered, "StatefulSet")["spec"]["template"]
        binaries = {"laggard": [laggard], "collector": [collector]}
        kubelet = Kubelet(pod, config_maps, {}, binaries, folder / "pod", network.place("laggard"))
        front = collectors.pod(collector, [IN_FRONT], folder / "front", network.place("front"))
        ports = {port["name"]: port["containerPort"] for port in rendering.container(rendered)["ports"]}
        try:
            roll(kubelet, front, ports, folder, rollouts, laggard)
        except (Failed, AssertionError) as error:
            kubelet.kill()
            front.kill()
            for log in folder.glob("*/*.log"):
                print(f"--- {log.parent.name}/{log.name}\n" + "\n".join(log.read_text().splitlines()[-30:]), file=sys.stderr)
            sys.exit(f"FAILED: {error}")


def roll(kubelet, front, ports, folder, rollouts, laggard):
    host = kubelet.place.address
    admin = f"{host}:{ports['admin']}"
    starts, ends, accounts = [kubelet.start()], [], []
    # As `helm test` and an image's health check ask.
    health = [laggard, "health", f"--endpoint={admin}"]
    if subprocess.run(health, check=False).returncode:
        raise Failed("laggard health says that the pod is not ready")
    front.start()
    ways = [OverHttp(host, ports["otlp-http"]), OverHttp(host, ports["otlp-http"]), OverGrpc(host, ports["otlp"]), OverGrpc(host, ports["otlp"])]
    ways.append(OverHttp(front.place.address, 4318))
    ways[-1].name = "Collector in front"
    senders = [Sender(number, way) for number, way in enumerate(ways, 1)]
    for sender in senders:
        sender.start()
    for _ in range(rollouts):
        time.sleep(1.5)
        kubelet.check()
        accounts.append(Accounts(admin))
        ends.append(kubelet.stop(accounts[-1].look))
        starts.append(kubelet.start())
    time.sleep(1)
    stop(senders)
    # At its own end a Collector drops what it is still trying to send, so that it ends when all has gone. Its connection tries again
    # at growing intervals.
    wanted = set(senders[-1].acknowledged)
    scrape.wait_for("the Collector in front being done", lambda: check(wanted <= arrived(folder).keys()), seconds=150)
    front.stop()
    accounts.append(Accounts(admin))
    ends.append(kubelet.stop(accounts[-1].look))
    if not subprocess.run(health, check=False, capture_output=True).returncode:
        raise Failed("laggard health says that an ended pod is ready")
    conclude(senders, accounts, starts, ends, folder, kubelet.spec["terminationGracePeriodSeconds"])


def check(holds):
    assert holds


def arrived(folder):
    """How often each span is with the pod's Collector; a line may be half written."""
    lines = (folder / "received.json").read_text().splitlines(keepends=True)
    return collectors.delivered(json.loads(line) for line in lines if line.endswith("\n"))


def conclude(senders, accounts, starts, ends, folder, grace):
    acknowledged = collections.Counter(span for sender in senders for span in sender.acknowledged)
    found = arrived(folder)
    lost, twice = acknowledged - found, [span for span, count in found.items() if count > 1]
    log = (folder / "pod/laggard.log").read_text()
    assert "could not be sent" not in log, "the log names lost spans"
    assert log.count("every accepted span was sent") == len(ends), "not every pod said that all was sent"
    assert not lost, f"{len(lost)} of {acknowledged.total()} acknowledged spans did not arrive: {list(lost)[:3]}"
    assert not twice, f"{len(twice)} spans arrived twice: {twice[:3]}"
    assert found.keys() == acknowledged.keys(), "spans arrived that nobody sent"
    assert all(account.looks for account in accounts), "a pod was never scraped while it ended"
    off = [missing for account in accounts for missing in account.off]
    in_milliseconds = [round(1000 * start) for start in starts]
    print(f"OK: {len(ends) - 1} rollouts; {acknowledged.total()} spans acknowledged and delivered once, 0 lost, 0 twice")
    for name in dict.fromkeys(sender.way.name for sender in senders):
        own = [sender for sender in senders if sender.way.name == name]
        refusals = dict(sum((sender.refusals for sender in own), collections.Counter()))
        spans, tries = sum(len(sender.acknowledged) for sender in own), sum(sender.tries for sender in own)
        longest = max(sender.longest for sender in own)
        print(f"    {name}: {spans} spans in {tries} requests; refused and then taken: {refusals}; longest wait {longest:.1f} s")
    print(f"    start to ready {statistics.median(in_milliseconds)} ms (median; {min(in_milliseconds)} to {max(in_milliseconds)})")
    print(f"    end of a pod {statistics.median(ends):.1f} s (median; at most {max(ends):.1f}), grace period {grace} s")
    quiet = sum(account.quiet for account in accounts)
    print(f"    identity: exact in {quiet} scrapes while nothing moved; off by {min(off)} to {max(off)} spans in the other {len(off) - quiet}")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(os.environ.get("ROLLOUTS", "10")))
