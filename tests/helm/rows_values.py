"""Rows T16 to T29: values that are wrong, the library, and what must not be rendered."""

import json
import pathlib
import subprocess
import tempfile

import yaml

import checker
import refusals
import rendering as r
from rows import none, row, validate


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
            # To a Collector a component without settings is one; a default of the chart is taken away all the same.
            values.write_text("collector: {enabled: true, config: {processors: {batch: null}, extensions: {zpages: null, health_check: null}, service: {pipelines: {traces: {exporters: [debug]}}}}}\n")
            behind = yaml.safe_load(r.one(r.objects(helm, "-f", str(values), chart=c.chart), "ConfigMap", "rel-laggard-collector")["data"]["config.yaml"])
            assert behind["processors"] == {"batch": None} and behind["extensions"] == {"zpages": None}, behind
            # As part of another chart. Helm 4.3 keeps a default that a parent's own values set to null; the value stays right.
            parent = pathlib.Path(folder) / "parent"
            (parent / "charts").mkdir(parents=True)
            (parent / "Chart.yaml").write_text("{apiVersion: v2, name: parent, version: 0.1.0, dependencies: [{name: laggard, version: 0.1.0, condition: laggard.enabled}]}\n")
            (parent / "values.yaml").write_text('laggard: {enabled: true, config: {export: {endpoint: "http://p:1"}}, terminationGracePeriodSeconds: null}\n')
            (parent / "charts/laggard").symlink_to(c.chart.resolve())
            rendered = r.objects(helm, chart=parent)
            assert r.one(rendered, "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 30
            assert not r.objects(helm, "--set", "laggard.enabled=false", chart=parent)


def paths_of(value, path=""):
    """Every key of the values, with those within it."""
    for key, inner in value.items():
        yield f"{path}{key}"
        if isinstance(inner, dict):
            yield from paths_of(inner, f"{path}{key}.")


EVERYTHING = (
    "--set", "tls.exporter.ca=ca.crt", "--set", "tls.exporter.existingSecret=s", "--set", "config.export.endpoint=https://c:4317",
    "--set", "tls.server.existingSecret=s", "--set", "secrets.existingSecret=s", "--set", "secrets.headers.x-key=k", "--set", "auth.existingSecret=s",
    "--set", "routing.loadBalancer.enabled=true", "--set", "autoscaling.enabled=true", "--set", "networkPolicy.enabled=true",
    "--set", "persistence.enabled=true", "--set", "serviceMonitor.enabled=true", "--set", "prometheusRule.enabled=true", "--set", "dashboards.enabled=true",
)  # fmt: skip


@row("NULL", "any value that is null is its default, is left out, or is asked for by name")
def null(c):
    default = yaml.safe_load((c.chart / "values.yaml").read_text())
    for path in paths_of(default):
        helms = c.helms if "." not in path else c.helms[-1:]
        for helm in helms:
            message = r.refusal(helm, *EVERYTHING, "--set", f"{path}=null", chart=c.chart)
            is_told = "missing propert" in message and path.rsplit(".", 1)[-1] in message
            is_told |= "These values do not work" in message or "is required" in message
            assert not message or is_told, f"{path}=null: {message}"
    for arguments in (("--set-json", 'config={"export": {"endpoint": "http://c:1", "tls": null}, "assemble": null, "slow": {"learned": null}}'),):
        assert not r.refusal(c.helm, *arguments, chart=c.chart), arguments


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
        message = r.refusal(helm, "--set", "laggard.tls.server.clientCA=ca.crt", "--set", "laggard.secrets.existingSecret=s", chart=r.CONSUMER)
        assert "tls.server.clientCA: needs" in message and "secrets.existingSecret: does nothing" in message, message
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
        over_api = name in ("autoscaling", "loadbalancer-secure")
        assert rights == (["Role", "RoleBinding"] if over_api else []), f"{name}: {rights}"
        for owner in rendered:
            for pod in checker.pods_of(owner):
                is_watching = over_api and owner["kind"] == "Deployment"
                assert pod["spec"].get("automountServiceAccountToken") is is_watching, f"{name} {owner['kind']}"


@row("T29", "no secret in anything that is rendered")
def secrets(c):
    rendered = c.ci("secure")
    config = yaml.safe_load(r.one(rendered, "ConfigMap")["data"]["config.yaml"])
    assert config["export"]["headers"]["authorization"] == "${env:LAGGARD_HEADER_AUTHORIZATION}", config
    assert all("secretKeyRef" in each["valueFrom"] for each in r.container(rendered)["env"])
    message = r.refusal(c.helm, *r.MINIMAL, "--set", "config.export.headers.authorization=Bearer hunter2", chart=c.chart)
    assert "looks like a credential" in message and "hunter2" not in message, message
