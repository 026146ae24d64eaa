"""Rows T1 to T15: what is rendered."""

import functools
import json
import os
import pathlib
import re
import subprocess

import jsonschema
import yaml
from kubernetes_validate import utils as kubernetes

import checker
import rendering as r
import schema
import test_checker
from rows import none, refused_by_collector, row, validate, variables

KUBES = [f"1.{minor}.0" for minor in range(29, 38)]
GOLDEN = pathlib.Path(__file__).parent / "golden"


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
    assert r.one(scaled, "PodDisruptionBudget", "rel-laggard")["spec"]["maxUnavailable"] == 1
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


@row("T12", "the program takes every configuration that is rendered, and a real Collector those of Collectors")
def configuration(c):
    seen = 0
    for name, rendered in c.each():
        for each in rendered:
            text = (each.get("data") or {}).get("config.yaml")
            if text and "telemetry:" in text:
                environment = variables(r.container(rendered)) if r.workload(rendered) else {}
                assert not validate(c, text, environment), f"{name}: {validate(c, text, environment)}"
                seen += 1
            elif text and "pipelines:" in text:
                none(f"{name}: {line}" for line in refused_by_collector(c, text))
    assert seen >= len(r.ci_files(c.chart)) - 1
    return None if c.collector else "a real Collector, which tests/peers/build-collector builds"


@row("T13", "rendered containers run, become ready and forward (tests/kubelet)")
def runs(_):
    return "tests/kubelet/run shapes"


@row("T14", "and end within the rendered grace period, with everything sent (tests/kubelet)")
def ends(_):
    return "tests/kubelet/run shapes"


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
