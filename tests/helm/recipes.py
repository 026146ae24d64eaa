"""The YAML blocks of docs/: each has a comment above it that says what it is."""

import re

import jsonschema
import yaml

import checker
import rendering as r
from rows import refused_by_collector

FILES = ("docs/recipes.md", "docs/migrating-from-tail-sampling.md")
BLOCK = re.compile(r"(?:<!-- test: ([a-z-]+) -->\n)?```yaml\n(.*?)```", re.DOTALL)

# What the Operator's v1beta1 CRD has of what is used here.
OPERATOR = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "mode": {"enum": ["deployment", "daemonset", "statefulset", "sidecar"]},
        "terminationGracePeriodSeconds": {"type": "integer"},
        "podSecurityContext": {"type": "object"},
        "initContainers": {"type": "array"},
        "volumes": {"type": "array"},
        "config": {
            "type": "object",
            "required": ["receivers", "exporters", "service"],
            "additionalProperties": False,
            "properties": {key: {"type": "object"} for key in ("receivers", "exporters", "processors", "service")},
        },
    },
}


def blocks():
    for file in FILES:
        for kind, text in BLOCK.findall((r.ROOT / file).read_text()):
            yield file, kind, text


def problems(c, validate):
    """What is wrong with a block."""
    seen = {}
    for number, (file, kind, text) in enumerate(blocks(), 1):
        seen[kind] = seen.get(kind, 0) + 1
        check = {"values": values, "upstream-values": upstream, "operator": operator, "collector-config": collector, "config": config}.get(kind)
        found = check(c, text, validate) if check else [f"has no comment that says what it is: {kind!r}"]
        yield from (f"{file}, block {number}: {each}" for each in found)
    yield from commands(c)
    if len(seen) < 5:
        yield f"only {seen} were found"


def commands(c):
    """Every `helm install` that is to be typed renders."""
    for file in ("README.md", "docs/recipes.md", "helm/laggard/README.md"):
        text = (r.ROOT / file).read_text().replace("\\\n", " ")
        found = re.findall(r"^helm install (\S+) helm/laggard (.*)$", text, re.MULTILINE)
        if not found:
            yield f"{file} does not say how to install"
        for name, arguments in found:
            given = arguments.replace("--wait", "").replace("values.yaml", str(c.chart / "ci/minimal-values.yaml")).split()
            for helm in c.helms:
                code, out, error = r.helm(helm, "template", name, str(c.chart), *given, "--kube-version", "1.29.0")
                if code or "kind: StatefulSet" not in out:
                    yield f"{file}: helm install {name} {arguments}: {error}"


def values(c, text, validate):
    file = r.pathlib.Path(r.HOME.name) / f"{abs(hash(text))}.yaml"
    file.write_text(text)
    for helm in c.helms:
        rendered = r.objects(helm, "-f", str(file), chart=c.chart)
        yield from checker.check(rendered)
        own = next(each for each in rendered if each["kind"] == "ConfigMap" and "telemetry:" in each["data"]["config.yaml"])
        yield from validate(c, own["data"]["config.yaml"], {"LAGGARD_HEADER_X_API_KEY": "k", "LAGGARD_HEADER_AUTHORIZATION": "Bearer k"}.items()).splitlines()
        for each in rendered:
            if each["kind"] == "ConfigMap" and "pipelines:" in each["data"]["config.yaml"]:
                yield from collector(c, each["data"]["config.yaml"], validate)


def config(c, text, validate):
    return validate(c, text).splitlines()


def collector(c, text, _):
    """A Collector's configuration uses what it declares, and is taken by a real one."""
    yield from refused_by_collector(c, text)
    config = yaml.safe_load(text)
    for name, pipeline in config["service"]["pipelines"].items():
        for part in ("receivers", "processors", "exporters"):
            for each in pipeline.get(part) or []:
                if each not in (config.get(part) or {}):
                    yield f"pipeline {name} uses {each}, which is none of {part}"
    yield from (f"extension {each} is not declared" for each in config["service"].get("extensions") or [] if each not in config.get("extensions", {}))


def sidecar(c, container):
    """The container is the one that the library renders, but for its environment."""
    consumer = r.objects(c.helm, chart=r.CONSUMER)
    own = next(each for each in r.one(consumer, "StatefulSet")["spec"]["template"]["spec"]["initContainers"] if each["name"] == "laggard")
    for key in own.keys() | container.keys():
        if key not in ("imagePullPolicy", "terminationMessagePolicy") and own.get(key) != container.get(key):
            yield f"{key} is {container.get(key)}, and in the library {own.get(key)}"


def sends_on(pipelines, exporters):
    """A pipeline ends at Laggard."""
    if exporters.get("otlp_grpc/laggard", {}).get("endpoint") != "127.0.0.1:14317" or pipelines["traces"]["exporters"] != ["otlp_grpc/laggard"]:
        yield "the Collector does not send traces to 127.0.0.1:14317"


def pod(containers, volumes):
    spec = {"terminationGracePeriodSeconds": 60, "securityContext": {}, "initContainers": containers, "containers": [], "volumes": volumes}
    return {"kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": spec}


def upstream(c, text, validate):
    written = yaml.safe_load(text.replace('{{ include "opentelemetry-collector.fullname" . }}', "gateway"))
    yield from sidecar(c, written["initContainers"][0])
    manifests = [{**each, "metadata": {**each["metadata"], "namespace": "n"}} for each in written["extraManifests"]]
    yield from checker.check([pod(written["initContainers"], written["extraVolumes"]), *manifests])
    yield from validate(c, manifests[0]["data"]["config.yaml"]).splitlines()
    yield from sends_on(written["config"]["service"]["pipelines"], written["config"]["exporters"])
    if manifests[0]["metadata"]["name"] != written["extraVolumes"][0]["configMap"]["name"]:
        yield "mounts another ConfigMap than it makes"


def operator(c, text, _):
    written = yaml.safe_load(text)
    yield from (error.message for error in jsonschema.Draft202012Validator(OPERATOR).iter_errors(written["spec"]))
    yield from sidecar(c, written["spec"]["initContainers"][0])
    yield from checker.check([pod(written["spec"]["initContainers"], written["spec"]["volumes"])])
    yield from sends_on(written["spec"]["config"]["service"]["pipelines"], written["spec"]["config"]["exporters"])
    yield from collector(c, yaml.safe_dump(written["spec"]["config"]), None)
