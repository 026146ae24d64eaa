"""The rows T1 to T41 of the chart's tests: each is a function that raises, or returns what was not looked at."""

import functools
import json
import os
import pathlib
import re
import subprocess
import tempfile

import jsonschema
import promql_parser
import yaml
from kubernetes_validate import utils as kubernetes

import checker
import recipes
import refusals
import rendering as r
import schema
import test_checker

KUBES = [f"1.{minor}.0" for minor in range(29, 38)]
GOLDEN = pathlib.Path(__file__).parent / "golden"
ROWS = []


class Context:
    """What the rows work with."""

    def __init__(self, helms, laggard, chart=r.CHART, bless=False):
        self.helms, self.laggard, self.chart, self.bless = helms, laggard, chart, bless

    @property
    def helm(self):
        return self.helms[-1]

    def each(self, kube="1.36.0"):
        """Every Helm with every values file, rendered."""
        for helm in self.helms:
            for file in r.ci_files(self.chart):
                yield file.stem.removesuffix("-values"), r.objects(helm, "-f", str(file), chart=self.chart, kube=kube)

    def rendered(self, *arguments, **where):
        return r.objects(self.helm, *arguments, chart=self.chart, **where)

    def ci(self, name):
        return self.rendered("-f", str(self.chart / f"ci/{name}-values.yaml"))


def row(number, title):
    def register(function):
        ROWS.append((number, title, function))
        return function

    return register


def none(found):
    found = list(found)
    assert not found, "\n    ".join(map(str, found[:20]))


@row("T1", "helm lint --strict")
def lint(c):
    for helm in c.helms:
        for file in r.ci_files(c.chart):
            code, out, error = r.helm(helm, "lint", "--strict", str(c.chart), "-f", str(file))
            assert code == 0, f"{file.name}: {out}{error}"


@row("T2", "an endpoint is all that is needed")
def minimal(c):
    for helm in c.helms:
        kinds = sorted(each["kind"] for each in r.objects(helm, *r.MINIMAL, chart=c.chart))
        assert kinds == ["ConfigMap", "Pod", "Service", "Service", "ServiceAccount", "StatefulSet"], kinds
        assert "config.export.endpoint: say where traces go" in r.refusal(helm, chart=c.chart)


def nulls(value, path=""):
    if value is None or value == "<no value>":
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from nulls(inner, f"{path}.{key}")


@row("T3", "what is rendered is YAML without doubled keys, nulls and missing values")
def clean_yaml(c):
    for name, rendered in c.each():
        none(f"{name}: {each['kind']}{path} is null" for each in rendered for path in nulls(each))
        assert "<no value>" not in json.dumps(rendered), name


@functools.cache
def validator(kube, kind, version):
    folder = f"kubernetes-json-schema/v{kube}-local-strict"
    contents = kubernetes.schema_contents(f"{folder}/{kind.lower()}-{version}.json", kube)
    definitions = kubernetes.Resource.from_contents(kubernetes.schema_contents(f"{folder}/_definitions.json", kube))
    registry = definitions @ (kubernetes.Resource.from_contents(contents) @ kubernetes.Registry())
    return jsonschema.Draft202012Validator(contents, registry=registry)


@row("T4", "every Kubernetes from 1.29 to 1.37 knows every field")
def schemas(c):
    for kube in KUBES:
        # Only the least and the latest can differ in what is rendered; the others check the same text.
        rendering = kube if kube in (KUBES[0], KUBES[-1]) else "1.36.0"
        for file in r.ci_files(c.chart):
            for each in r.objects(c.helm, "-f", str(file), chart=c.chart, kube=rendering):
                if each["kind"] in r.CRDS:
                    continue
                version = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", each["apiVersion"])
                errors = validator(kube, each["kind"], version).iter_errors(each)
                none(f"{file.stem} {kube} {each['kind']}: {list(error.path)} {error.message}" for error in errors)


def closed(required=(), **properties):
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


RULE = closed(["expr"], alert={"type": "string"}, record={"type": "string"}, expr={"type": "string"}, labels={"type": "object"},
              annotations={"type": "object"}, **{"for": {"type": "string"}})
ENDPOINT = closed(["port"], port={"type": "string"}, path={"type": "string"}, interval={"type": "string"},
                  relabelings={"type": "array"}, metricRelabelings={"type": "array"})
SELECTOR = closed(["matchLabels"], matchLabels={"type": "object"})
GROUP = closed(["name", "rules"], name={"type": "string"}, rules={"type": "array", "items": RULE})
CRD_SPECS = {
    "ServiceMonitor": closed(["selector", "endpoints"], selector=SELECTOR, endpoints={"type": "array", "items": ENDPOINT}),
    "PodMonitor": closed(["selector", "podMetricsEndpoints"], selector=SELECTOR, podMetricsEndpoints={"type": "array", "items": ENDPOINT}),
    "PrometheusRule": closed(["groups"], groups={"type": "array", "items": GROUP}),
}


@row("T5", "objects of the Prometheus operator have the fields it has")
def custom_resources(c):
    seen = set()
    for name, rendered in c.each():
        for each in rendered:
            if each["kind"] in CRD_SPECS:
                seen.add(each["kind"])
                errors = jsonschema.Draft202012Validator(CRD_SPECS[each["kind"]]).iter_errors(each["spec"])
                none(f"{name} {each['kind']}: {error.message}" for error in errors)
    assert seen == set(CRD_SPECS), seen


def masked(rendered):
    text = yaml.safe_dump_all(sorted(rendered, key=lambda each: (each["kind"], each["metadata"]["name"])), sort_keys=True)
    text = re.sub(r"(checksum/[a-z-]+): [0-9a-f]{64}", r"\1: masked", text)
    return re.sub(r"(helm.sh/chart|app.kubernetes.io/version): .*", r"\1: masked", text)


@row("T6", "renders are those that were looked at (tests/helm/golden)")
def golden(c):
    for name, rendered in c.each():
        # The dashboard has a row of its own.
        rendered = [each for each in rendered if not each["metadata"]["name"].endswith("-dashboards")]
        file = GOLDEN / f"{name}.yaml"
        if c.bless:
            GOLDEN.mkdir(exist_ok=True)
            file.write_text(masked(rendered))
        assert file.exists() and file.read_text() == masked(rendered), f"{file} differs; tests/helm/run --bless renews it"


@row("T7", "rendering twice gives the same")
def deterministic(c):
    for file in r.ci_files(c.chart):
        first = r.template(c.helm, "-f", str(file), chart=c.chart)
        again = r.template(c.helm, "-f", str(file), "--debug=false", chart=c.chart)
        assert first[1] == again[1], file.name


@row("T8", "no template asks the cluster, chance or the clock")
def self_contained(c):
    files = [*c.chart.glob("templates/**/*"), *r.LIBRARY.glob("templates/*")]
    asking = re.compile(r"{{[^}]*\b(lookup|rand[A-Z]\w+|uuidv4|now|genCA|genSelfSignedCert|htpasswd)\b")
    none(file for file in files if file.is_file() and asking.search(file.read_text()))


@row("T9", "names fit, however long the release's")
def long_names(c):
    everything = [argument for name in ("loadbalancer", "autoscaling", "observability") for argument in ("-f", str(c.chart / f"ci/{name}-values.yaml"))]
    for extra in ([], ["--set", "fullnameOverride=" + "o" * 63]):
        none(checker.check(c.rendered(*everything, *extra, name="r" * 53)))
        none(checker.check(c.rendered("-f", str(c.chart / "ci/collector-values.yaml"), *extra, name="r" * 53)))


@row("T10", "what a schema cannot see holds too (tests/helm/checker.py)")
def structure(c):
    none(test_checker.problems())
    for name, rendered in c.each():
        none(f"{name}: {breach}" for breach in checker.check(rendered))
        labels = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart"}
        own = [each for each in rendered if not each["metadata"]["name"].endswith("-extra")]
        none(f"{name}: {each['kind']} lacks labels" for each in own if not labels <= each["metadata"]["labels"].keys())


@row("D1-D13", "the decisions about order, routing and scaling hold")
def decisions(c):
    collector = c.ci("collector")
    pod = r.one(collector, "StatefulSet")["spec"]["template"]["spec"]
    assert [(each["name"], each.get("restartPolicy")) for each in pod["initContainers"]] == [("collector", "Always")]
    assert [each["name"] for each in pod["containers"]] == ["laggard"]
    # 2 + 90 to drain, 5 to end, 15 for the Collector.
    assert pod["terminationGracePeriodSeconds"] == 112, pod["terminationGracePeriodSeconds"]
    headless = r.one(collector, "Service", r.one(collector, "StatefulSet")["spec"]["serviceName"])
    assert headless["spec"].get("clusterIP") == "None", "pods have no names"
    scaled = c.ci("autoscaling")
    assert "replicas" not in r.one(scaled, "StatefulSet")["spec"], "an upgrade would undo what was scaled"
    assert r.one(scaled, "HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]["selectPolicy"] == "Disabled"
    assert r.one(scaled, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert not [each for each in c.ci("minimal") if each["kind"] == "PodDisruptionBudget"]
    probes = r.container(collector)
    paths = [probes[key]["httpGet"]["path"] for key in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert paths == ["/ready", "/live", "/ready"], paths
    none(checker.check(c.rendered(*r.MINIMAL, "--set", "ports.otlp.servicePort=80")))
    # Exactly the least memory, in each way to write it.
    for limit in ("64Mi", "67109k", "67108864", "0.0625Gi"):
        c.rendered(*r.MINIMAL, "--set-string", f"resources.limits.memory={limit}", "--set", "resources.requests.memory=1Mi")


@row("T11", "two releases share no name")
def two_releases(c):
    for file in r.ci_files(c.chart):
        if "fullnameOverride" not in file.read_text():
            names = [
                {(each["kind"], each["metadata"]["name"]) for each in c.rendered("-f", str(file), name=name)} for name in ("one", "two")
            ]
            assert not names[0] & names[1], f"{file.name}: {names[0] & names[1]}"


def validate(c, text, variables=()):
    """What `laggard validate` says; empty when it is right. What this version does not do yet is not wrong."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([c.laggard, "validate", "--config", file.name], capture_output=True, text=True, env=dict(variables), check=False)
    lines = [line for line in done.stderr.splitlines() if "is not supported yet by this version" not in line]
    assert done.returncode in (0, 64), done
    return "\n".join(lines)


def variables(container):
    """The environment of a container, with a value for each Secret's."""
    return {each["name"]: each.get("value", "secret") for each in container.get("env") or []}


@row("T12", "the program takes every configuration that is rendered")
def configuration(c):
    seen = 0
    for name, rendered in c.each():
        for each in rendered:
            text = (each.get("data") or {}).get("config.yaml")
            if text and "telemetry:" in text:
                environment = variables(r.container(rendered)) if r.workload(rendered) else {}
                assert not validate(c, text, environment), f"{name}: {validate(c, text, environment)}"
                seen += 1
    assert seen >= len(r.ci_files(c.chart)) - 1


@row("T13", "rendered containers run, become ready and forward (tests/kubelet)")
def runs(_):
    return "tests/kubelet/run"


@row("T14", "and end within the rendered grace period, with everything sent (tests/kubelet)")
def ends(_):
    return "tests/kubelet/run"


def keys_of(value, path=""):
    if isinstance(value, dict) and value:
        return {key for name, inner in value.items() for key in keys_of(inner, f"{path}.{name}")}
    return {path}


def keys_in_schema(each, path=""):
    if each.get("properties"):
        return {key for name, inner in each["properties"].items() for key in keys_in_schema(inner, f"{path}.{name}")}
    return {path}


@row("T15", "config.example.yaml has the keys that values take, and what the chart sets")
def example(c):
    own = keys_of(yaml.safe_load((r.ROOT / "config.example.yaml").read_text()))
    taken = keys_in_schema(json.loads((c.chart / "values.schema.json").read_text())["properties"]["config"])
    assert own == taken, own ^ taken
    rendered = keys_of(yaml.safe_load(r.one(c.ci("minimal"), "ConfigMap")["data"]["config.yaml"]))
    assert rendered <= own, rendered - own
    assert not subprocess.run([os.sys.executable, schema.__file__, c.laggard, "--check"], check=False).returncode, "schema.py --check"


@row("T16-T24", "wrong values are refused by name")
def wrong_values(c):
    for helm in c.helms:
        for arguments, words in refusals.WRONG:
            message = r.refusal(helm, *r.MINIMAL, *arguments, chart=c.chart)
            assert message, f"{arguments} is taken"
            assert all(word in message for word in words), f"{arguments}: {message}"


@row("T25", "null takes a default away, and files override files")
def nulls_and_overrides(c):
    for helm in c.helms:
        rendered = r.objects(helm, *r.MINIMAL, "--set", "securityContext.runAsUser=null", chart=c.chart)
        assert "runAsUser" not in r.container(rendered)["securityContext"]
        with tempfile.TemporaryDirectory() as folder:
            values = pathlib.Path(folder) / "values.yaml"
            values.write_text("config: {slow: {threshold: 2s}, baseline: {snapshot_file: null}}\n")
            rendered = r.objects(helm, *r.MINIMAL, "-f", str(values), "--set", "config.slow.threshold=3s", chart=c.chart)
            config = yaml.safe_load(r.one(rendered, "ConfigMap")["data"]["config.yaml"])
            assert config["slow"]["threshold"] == "3s" and "snapshot_file" not in config["baseline"], config
            # As part of another chart. Helm 4.3 keeps a default that a parent's own values set to null; the value stays right.
            parent = pathlib.Path(folder) / "parent"
            (parent / "charts").mkdir(parents=True)
            (parent / "Chart.yaml").write_text("{apiVersion: v2, name: parent, version: 0.1.0, dependencies: [{name: laggard, version: 0.1.0, condition: laggard.enabled}]}\n")
            (parent / "values.yaml").write_text('laggard: {enabled: true, config: {export: {endpoint: "http://p:1"}}, terminationGracePeriodSeconds: null}\n')
            (parent / "charts/laggard").symlink_to(c.chart.resolve())
            rendered = r.objects(helm, chart=parent)
            assert r.one(rendered, "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 30
            assert not r.objects(helm, "--set", "laggard.enabled=false", chart=parent)


@row("T26", "a chart that takes the library has the same container")
def library(c):
    for helm in c.helms:
        consumer = r.objects(helm, chart=r.CONSUMER)
        none(checker.check([each for each in consumer if each["kind"] != "ConfigMap" or "laggard" in each["metadata"]["name"]]))
        theirs = next(each for each in r.one(consumer, "StatefulSet")["spec"]["template"]["spec"]["initContainers"] if each["name"] == "laggard")
        own = r.container(r.objects(helm, *r.MINIMAL, chart=c.chart))
        assert theirs.pop("restartPolicy") == "Always"
        text = json.dumps(theirs, sort_keys=True).replace("laggard-admin", "admin")
        own["ports"] = [port for port in own["ports"] if port["name"] == "admin"]
        assert json.loads(text) == own, (text, own)
        config = r.one([each for each in consumer if each["metadata"]["name"].endswith("-laggard")], "ConfigMap")["data"]["config.yaml"]
        assert yaml.safe_load(config)["receive"]["grpc"]["endpoint"] == "127.0.0.1:14317"
        assert not validate(c, config)
    library_defaults(c)


def library_defaults(c):
    """Where the library and the application chart mean the same, they say the same."""
    text = (r.LIBRARY / "templates/_defaults.tpl").read_text()
    defaults = yaml.safe_load(text.split('"laggard.sidecar.defaults" -}}')[1].split("{{- end }}")[0])
    values = yaml.safe_load((c.chart / "values.yaml").read_text())
    for key, value in defaults.items():
        if key.endswith("Probe"):
            value["httpGet"]["port"] = "admin"
        if key not in ("ports", "persistence"):
            assert values[key] == value, key
    assert defaults["persistence"].items() <= values["persistence"].items()
    versions = {yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"] for chart in (c.chart, r.LIBRARY)}
    program = subprocess.run([c.laggard, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    named = text.split('"laggard.sidecar.appVersion" -}}')[1].split("{{-")[0].strip()
    assert versions == {program, named}, (versions, program, named)


@row("T27", "the restricted Pod Security Standard, and a read-only root")
def restricted(c):
    for name, rendered in c.each():
        none(f"{name}: {breach}" for owner in rendered for pod in checker.pods_of(owner) for breach in checker.pod_security(pod))


@row("T28", "no rights in the cluster, and no token")
def no_rights(c):
    for name, rendered in c.each():
        rights = [each["kind"] for each in rendered if each["apiVersion"].startswith("rbac")]
        assert rights == (["Role", "RoleBinding"] if name == "autoscaling" else []), f"{name}: {rights}"
        for owner in rendered:
            for pod in checker.pods_of(owner):
                is_watching = name == "autoscaling" and owner["kind"] == "Deployment"
                assert pod["spec"].get("automountServiceAccountToken") is is_watching, f"{name} {owner['kind']}"


@row("T29", "no secret in anything that is rendered")
def secrets(c):
    rendered = c.ci("secure")
    config = yaml.safe_load(r.one(rendered, "ConfigMap")["data"]["config.yaml"])
    assert config["export"]["headers"]["authorization"] == "${env:LAGGARD_HEADER_AUTHORIZATION}", config
    assert all("secretKeyRef" in each["valueFrom"] for each in r.container(rendered)["env"])
    message = r.refusal(c.helm, *r.MINIMAL, "--set", "config.export.headers.authorization=Bearer hunter2", chart=c.chart)
    assert "looks like a credential" in message and "hunter2" not in message, message


def expressions(c):
    """Every query of the alerts and of the dashboard, with where it is."""
    for rule in yaml.safe_load((c.chart / "alerts.yaml").read_text())["rules"]:
        yield rule["alert"], rule["expr"]
    for panel in json.loads((c.chart / "dashboards/laggard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@row("T30", "every query is PromQL, and every alert says what to do")
def queries(c):
    for where, query in expressions(c):
        try:
            promql_parser.parse(query)
        except ValueError as error:
            raise AssertionError(f"{where}: {error}") from error
    rules = r.one(c.ci("observability"), "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert len(rules) == 5 and all({"summary", "description"} <= rule["annotations"].keys() for rule in rules)
    assert all(rule["labels"].get("severity") in ("critical", "warning") and rule["labels"]["team"] == "platform" for rule in rules)
    board = r.one([each for each in c.ci("observability") if each["metadata"]["name"].endswith("-dashboards")], "ConfigMap")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1" and json.loads(board["data"]["laggard.json"])["panels"]
    return "promtool's unit tests: PromQL is parsed by another parser, and not evaluated"


@row("T31", "every metric and label of a query is in a scrape of the program")
def metrics(c):
    import scrape

    series = scrape.of(c.laggard)
    for where, query in expressions(c):
        for name, selector in re.findall(r"\b((?:laggard|process)_[a-z_]+)(\{[^}]*\})?", query):
            assert name in series, f"{where}: {name}"
            for label, operator, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selector):
                known = {labels.get(label) for labels in series[name]}
                missing = set(value.split("|")) - known
                assert not missing, f"{where}: {name} has no {label} {missing}, but {known}"
        for labels in re.findall(r"by \(([^)]*)\)", query):
            names = set(re.findall(r"\b(laggard_[a-z_]+)", query))
            known = {label for name in names for each in series[name] for label in each} | {"namespace", "pod", "instance"}
            wanted = {label.strip() for label in labels.split(",")}
            assert wanted <= known | {"le"}, f"{where}: {wanted - known}"


@row("T32", "the README's table is that of values.yaml")
def readme(c):
    import readme as table

    file = c.chart / "README.md"
    made = table.build(file.read_text(), (c.chart / "values.yaml").read_text())
    if c.bless:
        file.write_text(made)
    assert made == file.read_text(), "tests/helm/run --bless renews it"


@row("T33", "a changed chart has a new version")
def versions(c):
    git = functools.partial(subprocess.run, cwd=r.ROOT, capture_output=True, text=True, check=False)
    tag = git(["git", "describe", "--tags", "--abbrev=0", "--match", "v*"]).stdout.strip()
    charts = {yaml.safe_load((chart / "Chart.yaml").read_text())["version"] for chart in (c.chart, r.LIBRARY)}
    depends = yaml.safe_load((c.chart / "Chart.yaml").read_text())["dependencies"][0]["version"]
    assert charts == {depends}, "both charts and the dependency have one version"
    if not tag:
        return "no release has been tagged yet"
    changed = git(["git", "diff", "--name-only", tag, "--", "helm"]).stdout
    then = git(["git", "show", f"{tag}:helm/laggard/Chart.yaml"]).stdout
    assert not changed or not then or {yaml.safe_load(then)["version"]} != charts, f"helm/ changed since {tag}"
    return None


@row("T34", "values that do not work together are refused, and the message says why")
def refused(c):
    for helm in c.helms:
        for arguments, sentence in refusals.TOGETHER:
            message = r.refusal(helm, *arguments, chart=c.chart)
            assert sentence in message, f"{arguments}: {message or 'is taken'}"


def notes_of(c, *arguments):
    """What helm install says at its end. Helm 3 renders it with every template, and shows it only before a cluster."""
    code, out, error = r.helm(c.helm, "install", "rel", str(c.chart), *arguments, "--dry-run=client", "--namespace", "n")
    assert code == 0 and "NOTES:" in out, f"{arguments}: {error}"
    return out.split("NOTES:")[1]


@row("T35", "NOTES name the Service and its ports, and warn")
def notes(c):
    expected = {"sidecar-config": "restartPolicy: Always", "extras": "slow-finder.tracing:4317"}
    expected.update(dict.fromkeys(("loadbalancer", "autoscaling"), "rel-laggard-lb.n:4317"))
    for file in r.ci_files(c.chart):
        name = file.stem.removesuffix("-values")
        text = notes_of(c, "-f", str(file))
        assert expected.get(name, "rel-laggard.n:4317 (otlp)") in text, f"{name}: {text}"
    for arguments, words in refusals.WARNED:
        text = notes_of(c, *r.MINIMAL, *arguments)
        assert words in text, f"{arguments}: {words}: {text}"


@row("T36", "what can never change has not")
def immutable(c):
    selector = {"app.kubernetes.io/name": "laggard", "app.kubernetes.io/instance": "rel", "app.kubernetes.io/component": "sidecar"}
    spec = r.one(c.ci("collector"), "StatefulSet")["spec"]
    assert spec["selector"]["matchLabels"] == selector
    assert spec["serviceName"] == "rel-laggard-headless" and spec["podManagementPolicy"] == "Parallel"
    claim = spec["volumeClaimTemplates"]
    assert [each["metadata"]["name"] for each in claim] == ["laggard-data"]
    assert claim[0]["metadata"]["labels"] == selector
    assert claim[0]["spec"] == {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}


@row("T37", "OpenShift chooses user and group")
def openshift(c):
    for helm in c.helms:
        pod = r.workload(r.objects(helm, "-f", str(c.chart / "ci/openshift-values.yaml"), chart=c.chart))["spec"]
        assert "fsGroup" not in pod["securityContext"] and "runAsUser" not in pod["containers"][0]["securityContext"]
        assert pod["containers"][0]["securityContext"]["runAsNonRoot"] is True


@row("T38", "every listener takes IPv6 and IPv4")
def addresses(c):
    config = yaml.safe_load(r.one(c.ci("minimal"), "ConfigMap")["data"]["config.yaml"])
    found = [config["receive"]["grpc"]["endpoint"], config["receive"]["http"]["endpoint"], config["telemetry"]["admin"]["endpoint"]]
    assert found == ["[::]:4317", "[::]:4318", "[::]:13134"], found
    only_http = yaml.safe_load(r.one(c.rendered(*r.MINIMAL, "--set", "ports.otlp.enabled=false"), "ConfigMap")["data"]["config.yaml"])
    assert only_http["receive"]["grpc"]["endpoint"] == "127.0.0.1:4317"


@row("T39", "as Argo CD renders it, without a cluster and without hooks")
def argo(c):
    for helm in c.helms:
        for file in r.ci_files(c.chart):
            rendered = r.objects(helm, "-f", str(file), "--include-crds", "--no-hooks", chart=c.chart)
            assert not any(each["kind"] == "Pod" for each in rendered), file.name


@row("T40", "images by tag, digest and registry")
def images(c):
    def image(*arguments):
        return r.container(c.rendered(*r.MINIMAL, *arguments))["image"]

    digest = "sha256:" + "a" * 64
    assert image() == "laggard/laggard:0.1.0"
    assert image("--set-string", "image.tag=1.2") == "laggard/laggard:1.2"
    assert image("--set", "image.tag=1.2", "--set", f"image.digest={digest}") == f"laggard/laggard@{digest}"
    assert image("--set", "global.imageRegistry=mirror:5000") == "mirror:5000/laggard/laggard:0.1.0"
    assert image("--set", "global.imageRegistry=mirror", "--set", "image.registry=own") == "own/laggard/laggard:0.1.0"
    assert r.workload(c.ci("secure"))["spec"]["imagePullSecrets"] == [{"name": "pull"}]


@row("T41", "every recipe of docs/ renders, and is what it says it is")
def documented(c):
    none(recipes.problems(c, validate))
