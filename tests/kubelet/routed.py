"""routed.py LAGGARD COLLECTOR HELM: several pods behind the tier that routes by trace ID, as rendered.

A real Collector with the rendered load_balancing exporter finds the pods by the headless Service's name. The spans of each trace
are sent to it in several requests; all of them must reach one and the same pod, each pod must get some, and slow traces must name
the service that was slow.
"""

import collections
import pathlib
import sys
import tempfile
import time

import collectors
from kubelet import Failed, Kubelet
from network import Network
from senders import OverGrpc, OverHttp, Sender, stop

# After senders, which puts it on the path.
import rendering

VALUES = pathlib.Path(__file__).parent / "routed.yaml"
SECONDS = 9

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

    def __init__(self, laggard, collector, helm, folder):
        network = Network(folder)
        binaries = {"laggard": [laggard], "collector": [collector]}
        rendered = rendering.objects(helm, "-f", str(VALUES))
        maps = {each["metadata"]["name"]: each["data"] for each in rendered if each["kind"] == "ConfigMap"}
        stateful_set = rendering.one(rendered, "StatefulSet")
        headless = rendering.one(rendered, "Service", stateful_set["spec"]["serviceName"])
        name = f"{headless['metadata']['name']}.{headless['metadata']['namespace']}"
        self.backends, self.pods = [], []
        for number in range(stateful_set["spec"]["replicas"]):
            self.backends.append(collectors.pod(collector, [collectors.TO_A_FILE], folder / f"backend-{number}", network.place(f"backend-{number}")))
            own = {key: {"config.yaml": data["config.yaml"].replace("//backend:", f"//backend-{number}:")} for key, data in maps.items()}
            place = network.place(name, f"pod-{number}")
            self.pods.append(Kubelet(stateful_set["spec"]["template"], own, {}, binaries, folder / f"pod-{number}", place))
        tier = rendering.one(rendered, "Deployment")
        service = rendering.one(rendered, "Service", tier["metadata"]["name"])
        self.ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
        self.tier = Kubelet(tier["spec"]["template"], maps, {}, binaries, folder / "tier", network.place(service["metadata"]["name"]))
        self.every = [*self.backends, *self.pods, self.tier]

    def start(self):
        for each in self.every:
            each.start()

    def send(self):
        host = self.tier.place.address
        senders = [Sender(1, OverGrpc(host, self.ports["otlp"])), Sender(2, OverHttp(host, self.ports["otlp-http"]))]
        for sender in senders:
            sender.start()
        time.sleep(SECONDS)
        stop(senders)
        return [span for sender in senders for span in sender.acknowledged]

    def stop(self):
        """From the front to the back, so that each hop outlives the one before it."""
        for each in reversed(self.every):
            each.stop()


def conclude(system, sent):
    received = [collectors.received(backend) for backend in system.backends]
    arrived = [collectors.delivered(requests) for requests in received]
    total = sum(arrived, collections.Counter())
    wrong = [span for span in sent if total[span] != 1]
    assert not wrong, f"{len(wrong)} of {len(sent)} spans were not delivered once: {wrong[:3]}"
    traces = [{trace for trace, _ in spans} for spans in arrived]
    split = set.intersection(*traces)
    assert not split, f"{len(split)} traces reached several pods: {list(split)[:3]}"
    assert all(traces), f"a pod got nothing: {[len(each) for each in traces]}"
    named = [verdicts(requests) for requests in received]
    assert all(each.keys() == {"db"} for each in named), f"named were {[dict(each) for each in named]}"
    parts = " and ".join(f"{len(own)} traces, {each['db']} verdicts" for own, each in zip(traces, named))
    print(f"OK: {len(sent)} spans through a Collector that routes by trace ID, each delivered once, no trace split; pods got {parts}")


def main(laggard, collector, helm):
    with tempfile.TemporaryDirectory(prefix="laggard-routed-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        system = System(laggard, collector, helm, folder)
        try:
            system.start()
            sent = system.send()
            system.stop()
            conclude(system, sent)
        except (Failed, AssertionError) as error:
            for each in system.every:
                each.kill()
            for log in folder.glob("*/*.log"):
                print(f"--- {log.parent.name}/{log.name}\n" + "\n".join(log.read_text().splitlines()[-15:]), file=sys.stderr)
            sys.exit(f"FAILED: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
