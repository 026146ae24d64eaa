"""Rows T30 to T41: queries, documentation, and what clusters differ in."""

import functools
import json
import re
import subprocess

import promql_parser
import yaml

import recipes
import refusals
import rendering as r
from rows import none, row, validate


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
