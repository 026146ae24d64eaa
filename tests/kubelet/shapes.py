"""shapes.py LAGGARD COLLECTOR HELM: rows T13 and T14, for every shape of the chart (ci/*-values.yaml), and for the chart that takes
the library.

Each is run as a pod, some at once: it becomes ready as its probes are rendered, takes traces on every port that is rendered, with
the certificates and tokens that are rendered, and ends within the rendered grace period. Every span must then be with a real
Collector, which goes by the names of the backends, and asks for TLS, client certificates and a token where the shape has them.
"""

import concurrent.futures
import json
import pathlib
import sys
import tempfile

import collectors
import yaml
from certificates import Certificates
from kubelet import Failed, Kubelet
from network import Network
from senders import OverGrpc, OverHttp, Sender

# After senders, which puts it on the path.
import rendering
import scrape

TOKEN, BACKENDS_TOKEN = "of-a-sender", "of-the-vendor"
TRACES = 4
AT_ONCE = 5

# Beside the plain one: with TLS and a token, and with TLS that asks for a certificate.
LISTENERS = """
receivers:
  otlp/token: {protocols: {grpc: {endpoint: "0.0.0.0:443", auth: {authenticator: bearertokenauth}, tls: {cert_file: /certificates/tls.crt, key_file: /certificates/tls.key}}}}
  otlp/certificate: {protocols: {http: {endpoint: "0.0.0.0:8443", tls: {cert_file: /certificates/tls.crt, key_file: /certificates/tls.key, client_ca_file: /certificates/ca.crt}}}}
extensions: {bearertokenauth: {token: of-the-vendor}}
service:
  extensions: [health_check, bearertokenauth]
  pipelines: {traces: {receivers: [otlp, otlp/token, otlp/certificate]}}
"""


class Shape:
    """A pod with what is rendered beside it."""

    def __init__(self, number, name, rendered, run):
        self.number, self.name, self.run = number, name, run
        config_maps = {each["metadata"]["name"]: each["data"] for each in rendered if each["kind"] == "ConfigMap"}
        config_maps.setdefault("rel-mine", {"laggard.yml": run.config_of_minimal})
        owner = next(each for each in rendered if each["kind"] in ("StatefulSet", "Deployment") and not each["metadata"]["name"].endswith("-lb"))
        pod = owner["spec"]["template"]
        place = run.network.place(f"{name}.pod")
        self.kubelet = Kubelet(pod, config_maps, run.secrets, run.binaries, run.folder / name, place, collectors.USERS)
        self.specs = self.kubelet.all_specs()
        laggard = next(each for each in self.specs if each["name"] == "laggard")
        volume = next(each for each in pod["spec"]["volumes"] if each["name"] == "laggard-config")["configMap"]
        self.config = yaml.safe_load(config_maps[volume["name"]][volume["items"][0]["key"]])
        self.admin = next(port["containerPort"] for port in laggard["ports"] if port["name"].endswith("admin"))
        # In front is Laggard, or the Collector that has the ports.
        ports = {port["name"]: port["containerPort"] for each in self.specs for port in each.get("ports") or []}
        self.ways = [way for port, way in (("otlp", OverGrpc), ("otlp-http", OverHttp)) if port in ports]
        self.ports = {OverGrpc: ports.get("otlp"), OverHttp: ports.get("otlp-http")}

    def way(self, kind, **wrong):
        """A client with what the shape asks for, save what is `wrong`."""
        receive = self.config.get("receive", {})
        certificates = self.run.certificates
        tls = None
        if "tls" in receive:
            is_known = wrong.get("certificate", "client_ca_file" in receive["tls"])
            tls = certificates.for_grpc(is_known) if kind is OverGrpc else certificates.for_http(is_known)
        headers = {"authorization": f"Bearer {wrong.get('token', TOKEN)}"} if "auth" in receive else {}
        return kind(f"{self.name}.pod", self.ports[kind], tls, headers)

    def live(self):
        """The life of the pod. Returns its spans, and a line about it."""
        ready = self.kubelet.start()
        senders = [Sender(self.number * 10 + number, self.way(kind)) for number, kind in enumerate(self.ways)]
        for sender in senders:
            for count in range(TRACES):
                sender.send_trace(count)
        if "auth" in self.config.get("receive", {}):
            self.refuses_strangers()
        spans = [span for sender in senders for span in sender.acknowledged]
        # At once, save where a Collector sends them on.
        scrape.wait_for(f"the count of {len(spans)} accepted spans", lambda: self.counts(len(spans)))
        self.kubelet.check()
        ended = self.kubelet.stop()
        if "every accepted span was sent" not in (self.kubelet.folder / "laggard.log").read_text():
            raise Failed("it did not say that every accepted span was sent")
        names = " and ".join(sender.way.name for sender in senders)
        grace = self.kubelet.spec["terminationGracePeriodSeconds"]
        return spans, f"{self.name}: ready after {ready * 1000:.0f} ms, {len(spans)} spans over {names}, ended after {ended:.1f} of {grace} s"

    def counts(self, accepted):
        page = scrape.get(f"http://{self.name}.pod:{self.admin}/metrics")
        lines = [line for line in page.splitlines() if line.startswith("laggard_receiver_accepted_spans_total{")]
        assert sum(float(line.split()[-1]) for line in lines) == accepted

    def refuses_strangers(self):
        """No certificate of a known client, or no token that is known."""
        for kind in self.ways:
            for wrong in ({"certificate": False}, {"token": "guessed"}):
                if self.is_taken(self.way(kind, **wrong)):
                    raise Failed(f"{kind.name} takes spans with a wrong {next(iter(wrong))}")

    def is_taken(self, way):
        try:
            return way.taken(json.loads(scrape.trace(self.number * 10_000_000, 100))) is None
        except Failed:
            return False


class Run:
    """What all shapes share."""

    def __init__(self, laggard, collector, helm, folder):
        self.helm, self.folder, self.network = helm, folder, Network(folder)
        idle = ["sh", "-c", 'trap "kill $!; exit 0" TERM; sleep 1000 & wait']
        self.binaries = {"laggard": [laggard], "collector": [collector], "wait": ["true"], "beside": idle}
        self.config_of_minimal = rendering.one(rendering.objects(helm, *rendering.MINIMAL), "ConfigMap")["data"]["config.yaml"]
        backends = ("c", "otel-collector", "jaeger", "backend", "rel-collector", "otlp.example.com")
        files = rendering.ci_files()
        names = [file.stem.removesuffix("-values") for file in files]
        self.certificates = Certificates(folder, "otlp.example.com", *(f"{name}.pod" for name in names))
        server, client = (self.certificates.secret(each) for each in (self.certificates.server, self.certificates.client))
        self.secrets = {
            "vendor": {"api-key": "k", "token": f"Bearer {BACKENDS_TOKEN}"},
            "senders": {"tokens": f"of-another\n{TOKEN}\n", "token": TOKEN},
            "laggard-tls": server,
            "backend-ca": {"ca.crt": self.certificates.authority},
            "laggard-client": client,
        }
        configs = [collectors.TO_A_FILE, LISTENERS]
        self.backend = collectors.pod(collector, configs, folder / "backend", self.network.place(*backends), server)
        rendered = {name: rendering.objects(helm, "-f", str(file)) for name, file in zip(names, files)}
        rendered["library"] = rendering.objects(helm, "--set", "laggard.config.sample.healthy=100%", chart=rendering.CONSUMER)
        with_pods = [(name, every) for name, every in rendered.items() if any(each["kind"] in ("StatefulSet", "Deployment") for each in every)]
        self.shapes = [Shape(number, name, every, self) for number, (name, every) in enumerate(with_pods, 1)]


def main(laggard, collector, helm):
    with tempfile.TemporaryDirectory(prefix="laggard-shapes-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        run = Run(laggard, collector, helm, folder)
        run.backend.start()
        failures = []
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
            lives = [(shape, threads.submit(shape.live)) for shape in run.shapes]
        sent = []
        for shape, life in lives:
            if life.exception():
                failures.append(f"{shape.name}: {life.exception()}")
                for log in shape.kubelet.folder.glob("*.log"):
                    print(f"--- {shape.name}/{log.name}\n" + "\n".join(log.read_text().splitlines()[-15:]), file=sys.stderr)
            else:
                spans, line = life.result()
                sent += spans
                print(f"    {line}")
            shape.kubelet.kill()
        run.backend.stop()
        arrived = collectors.delivered(collectors.received(run.backend))
        # More than once is what a sender does that was not answered in time, as on a busy machine.
        failures += [f"span {span} did not arrive" for span in sent if not arrived[span]][:5]
        if failures:
            sys.exit("FAILED: " + "\n".join(failures))
        print(f"OK: {len(lives)} shapes of the chart ran as rendered; {len(sent)} spans acknowledged, and all delivered")


if __name__ == "__main__":
    main(*sys.argv[1:4])
