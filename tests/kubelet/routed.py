"""routed.py LAGGARD COLLECTOR HELM: several pods behind the tier that routes by trace ID, as rendered.

A real Collector with the rendered load_balancing exporter finds the pods by the headless Service's name. The spans of each trace
are sent to it in several requests; all of them must reach one and the same pod, each pod must get some, and slow traces must name
the service that was slow. Metrics and logs must arrive too. All of that once plainly, and once with TLS, clients' certificates and
a token, where nobody else may send anything. Then each pod is rolled under traffic, and stays away for longer than its name takes
to be forgotten: what the tier has acknowledged must reach another pod, or the same one later. The tier is rolled last.
"""

import collections
import contextlib
import http.client
import json
import pathlib
import ssl
import sys
import tempfile
import time

import collectors
import yaml
from certificates import Certificates
from kubelet import Failed, Kubelet
from network import Network
from senders import OverGrpc, OverHttp, Sender, stop

# After senders, which puts it on the path.
import rendering
import scrape

VALUES = pathlib.Path(__file__).parent / "routed.yaml"
SECURE = pathlib.Path(__file__).parent / "routed-secure.yaml"
SECONDS = 9
# A pod is away for so long. The tier asks for addresses every five seconds, and those of /etc/hosts are five seconds old.
AWAY = 12
TOKEN = "of-a-sender"

# What is relayed, and where it lies at a backend.
RELAYED = {
    "metrics": {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": [{"asInt": "1", "timeUnixNano": "1"}]}}]}]}]},
    "logs": {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "1", "body": {"stringValue": "l"}}]}]}]},
}
TO_ANOTHER_FILE = """
exporters: {file/relayed: {path: /received/relayed.json, flush_interval: 100ms}}
service: {pipelines: {metrics: {receivers: [otlp], exporters: [file/relayed]}, logs: {receivers: [otlp], exporters: [file/relayed]}}}
"""


def verdicts(requests):
    """How often each service was named."""
    found = collections.Counter()
    for request in requests:
        for resource in request["resourceSpans"]:
            spans = [span for scope in resource["scopeSpans"] for span in scope["spans"]]
            attributes = [each for span in spans for each in span.get("attributes", [])]
            found.update(each["value"]["stringValue"] for each in attributes if each["key"] == "root_cause.service")
    return found


class System:
    """Backends, pods and the tier in front; a backend for each pod, to see which pod a span went through."""

    def __init__(self, programs, helm, folder, network, name, values):
        laggard, collector = programs
        folder.mkdir()
        self.network = network
        binaries = {"laggard": [laggard], "collector": [collector]}
        rendered = rendering.objects(helm, *values, name=name)
        maps = {each["metadata"]["name"]: each["data"] for each in rendered if each["kind"] == "ConfigMap"}
        stateful_set = rendering.one(rendered, "StatefulSet")
        tier = rendering.one(rendered, "Deployment")
        service = rendering.one(rendered, "Service", tier["metadata"]["name"])
        self.host = f"{service['metadata']['name']}.{service['metadata']['namespace']}"
        self.ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
        receive = yaml.safe_load(maps[stateful_set["metadata"]["name"]]["config.yaml"])["receive"]
        self.certificates = Certificates(folder, self.host) if "tls" in receive else None
        secrets = self.secrets() if self.certificates else {}
        headless = rendering.one(rendered, "Service", stateful_set["spec"]["serviceName"])
        self.headless = f"{headless['metadata']['name']}.{headless['metadata']['namespace']}"
        self.backends, self.pods = [], []
        for number in range(stateful_set["spec"]["replicas"]):
            backend = f"{name}-backend-{number}"
            configs = [collectors.TO_A_FILE, TO_ANOTHER_FILE]
            self.backends.append(collectors.pod(collector, configs, folder / f"backend-{number}", network.place(backend)))
            own = {key: {"config.yaml": data["config.yaml"].replace("//backend:", f"//{backend}:")} for key, data in maps.items()}
            place = network.place(self.headless, f"{name}-pod-{number}")
            self.pods.append(Kubelet(stateful_set["spec"]["template"], own, secrets, binaries, folder / f"pod-{number}", place))
        place = network.place(self.host)
        self.tier = Kubelet(tier["spec"]["template"], maps, secrets, binaries, folder / "tier", place, collectors.USERS)
        self.every = [*self.backends, *self.pods, self.tier]

    def secrets(self):
        server, client = (self.certificates.secret(each) for each in (self.certificates.server, self.certificates.client))
        return {"laggard-tls": server, "laggard-client": client, "senders": {"tokens": f"{TOKEN}\nof-another\n"}}

    def way(self, kind, is_known=True, token=TOKEN, to=None):
        """A client of the tier, or of what has the name `to`, with what is asked for."""
        port = self.ports["otlp" if kind is OverGrpc else "otlp-http"]
        if not self.certificates:
            return kind(to or self.host, port)
        tls = self.certificates.for_grpc(is_known) if kind is OverGrpc else self.certificates.for_http(is_known)
        return kind(to or self.host, port, tls, {"authorization": f"Bearer {token}"})

    def start(self):
        for each in self.every:
            each.start()

    def send(self, meanwhile):
        """Traffic without pause, for as long as `meanwhile` takes. Returns who sent it."""
        senders = [Sender(1, self.way(OverGrpc)), Sender(2, self.way(OverHttp))]
        for sender in senders:
            sender.start()
        meanwhile()
        stop(senders)
        return senders

    def roll(self):
        """Each pod ends and comes back. It is no longer found once it is not ready, and is again when it is. Then the tier itself."""
        for pod in self.pods:
            time.sleep(2)
            self.network.leave(pod.place.address)
            pod.stop()
            time.sleep(AWAY)
            pod.start()
            self.network.join(pod.place.address, self.headless)
        # Until its name is known again, so that the tier has nothing to try again at its own end.
        time.sleep(AWAY)
        self.tier.stop()
        self.tier.start()
        time.sleep(2)

    def learn_and_name(self):
        """Until each pod has named a service; a busy machine takes its time."""
        time.sleep(SECONDS)
        scrape.wait_for("a verdict of every pod", self.have_named, seconds=60)

    def have_named(self):
        assert all(verdicts(collectors.received(backend)) for backend in self.backends)

    def arrived(self):
        """Each backend's spans."""
        return [collectors.delivered(collectors.received(backend)) for backend in self.backends]

    def have_arrived(self, sent):
        missing = set(sent) - sum(self.arrived(), collections.Counter()).keys()
        assert not missing, f"{len(missing)} of {len(sent)} acknowledged spans did not arrive: {list(missing)[:3]}"

    def relay(self):
        """A request of each other signal, and waits until it has arrived."""
        for signal, request in RELAYED.items():
            way = self.way(OverHttp)
            connection = http.client.HTTPSConnection(way.host, way.port, context=way.tls) if way.tls else http.client.HTTPConnection(way.host, way.port)
            connection.request("POST", f"/v1/{signal}", json.dumps(request), {"content-type": "application/json", **way.headers})
            status = connection.getresponse().status
            if status != 200:
                raise Failed(f"the tier answers {status} to {signal}")
        scrape.wait_for("the arrival of metrics and logs", self.have_relayed)

    def have_relayed(self):
        files = [backend.folder / "received/relayed.json" for backend in self.backends]
        kinds = sorted(next(iter(json.loads(line))) for file in files for line in file.read_text().splitlines())
        assert kinds == ["resourceLogs", "resourceMetrics"], kinds

    def refuses_strangers(self):
        """Neither without a known certificate, nor without a known token, nor without TLS."""
        for kind in (OverGrpc, OverHttp):
            wrong = [self.way(kind, is_known=False), self.way(kind, token="guessed"), kind(self.host, self.ports["otlp"])]
            for way in wrong:
                if is_taken(way):
                    raise Failed(f"the tier takes spans of strangers over {kind.name}")

    def stop(self):
        """From the front to the back, so that each hop outlives the one before it."""
        for each in reversed(self.every):
            each.stop()


def is_taken(way):
    try:
        return way.taken(json.loads(scrape.trace(99_000_000, 100))) is None
    except (Failed, ssl.SSLError):
        return False


def conclude(system, senders):
    sent = acknowledged(senders)
    received = [collectors.received(backend) for backend in system.backends]
    arrived = system.arrived()
    total = sum(arrived, collections.Counter())
    wrong = [span for span in sent if total[span] != 1]
    assert not wrong, f"{len(wrong)} of {len(sent)} spans were not delivered once: {wrong[:3]}"
    strangers = total.keys() - set(sent)
    assert not strangers, f"{len(strangers)} spans arrived that nobody was allowed to send"
    traces = [{trace for trace, _ in spans} for spans in arrived]
    split = set.intersection(*traces)
    assert not split, f"{len(split)} traces reached several pods: {list(split)[:3]}"
    assert all(traces), f"a pod got nothing: {[len(each) for each in traces]}"
    named = [verdicts(requests) for requests in received]
    assert all(each.keys() == {"db"} for each in named), f"named were {[dict(each) for each in named]}"
    parts = " and ".join(f"{len(own)} traces, {each['db']} verdicts" for own, each in zip(traces, named))
    how = "with TLS, certificates and a token, which strangers lacked" if system.certificates else "in plain text"
    print(f"OK: {len(sent)} spans through a Collector that routes by trace ID, {how}, each delivered once, no trace split; pods got {parts}")
    print("    and metrics and logs, relayed")


def acknowledged(senders):
    return [span for sender in senders for span in sender.acknowledged]


def routed(system):
    system.relay()
    if system.certificates:
        system.refuses_strangers()
    senders = system.send(meanwhile=system.learn_and_name)
    system.stop()
    conclude(system, senders)


def rolled(system):
    senders = system.send(meanwhile=system.roll)
    sent = acknowledged(senders)
    # At its own end a Collector drops what it is still trying to send.
    with contextlib.suppress(AssertionError):
        scrape.wait_for("the arrival of every acknowledged span", lambda: system.have_arrived(sent), seconds=60)
    system.stop()
    system.have_arrived(sent)
    total = sum(system.arrived(), collections.Counter())
    twice = sum(count > 1 for count in total.values())
    refused = dict(sum((sender.refusals for sender in senders), collections.Counter()))
    longest = max(sender.longest for sender in senders)
    print(f"OK: {len(system.pods)} pods behind the tier rolled, each away for {AWAY} s, and the tier: {len(sent)} spans acknowledged by it, 0 lost, {twice} twice")
    print(f"    refused and then taken: {refused}; longest wait of a sender {longest:.1f} s")


def main(laggard, collector, helm):
    plain, secure = ("-f", str(VALUES)), ("-f", str(VALUES), "-f", str(SECURE))
    with tempfile.TemporaryDirectory(prefix="laggard-routed-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        network = Network(folder)
        for release, values, check in (("plain", plain, routed), ("secure", secure, routed), ("rolled", plain, rolled)):
            system = System((laggard, collector), helm, folder / release, network, release, values)
            try:
                system.start()
                check(system)
            except (Failed, AssertionError) as error:
                for each in system.every:
                    each.kill()
                for log in folder.glob("*/*/*.log"):
                    print(f"--- {log.parent.name}/{log.name}\n" + "\n".join(log.read_text().splitlines()[-15:]), file=sys.stderr)
                sys.exit(f"FAILED: {release}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
