"""Rows T32 to T41: documentation, and what clusters differ in."""

import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

import yaml

import checker
import recipes
import refusals
import rendering as r
from rows import none, row, validate


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
    charts = {yaml.safe_load((chart / "Chart.yaml").read_text())["version"] for chart in (c.chart, r.LIBRARY)}
    depends = yaml.safe_load((c.chart / "Chart.yaml").read_text())["dependencies"][0]["version"]
    assert charts == {depends}, "both charts and the dependency have one version"
    none(unreleased(r.ROOT))
    # There may be no release yet; the rule is tried on a repository that has one.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(r.ROOT / "helm", f"{folder}/helm", symlinks=True)
        for command in (["init"], ["add", "--all"], ["commit", "--message=a release"], ["tag", "v0.1.0"]):
            assert not git(folder, *command).returncode, command
        assert not list(unreleased(folder)), "nothing has changed"
        values = pathlib.Path(folder) / "helm/laggard/values.yaml"
        values.write_text(values.read_text() + "more: true\n")
        assert list(unreleased(folder)) == ["helm/ changed since v0.1.0, and the chart's version is still 0.1.0"], list(unreleased(folder))
        chart = pathlib.Path(folder) / "helm/laggard/Chart.yaml"
        chart.write_text(chart.read_text().replace("version: 0.1.0", "version: 0.2.0", 1))
        assert not list(unreleased(folder)), "it has a new version"


def git(folder, *arguments):
    own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "core.hooksPath="]
    return subprocess.run(["git", *own, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def unreleased(folder):
    """A change of the charts since the last release, without a new version."""
    tag = git(folder, "describe", "--tags", "--abbrev=0", "--match", "v*").stdout.strip()
    then = git(folder, "show", f"{tag}:helm/laggard/Chart.yaml").stdout if tag else ""
    version = yaml.safe_load((pathlib.Path(folder) / "helm/laggard/Chart.yaml").read_text())["version"]
    if then and yaml.safe_load(then)["version"] == version and git(folder, "diff", "--name-only", tag, "--", "helm").stdout:
        yield f"helm/ changed since {tag}, and the chart's version is still {version}"


@row("T34", "values that do not work together are refused, and the message says why")
def refused(c):
    for helm in c.helms:
        for arguments, sentence in refusals.TOGETHER:
            message = r.refusal(helm, *arguments, chart=c.chart)
            assert sentence in message, f"{arguments}: {message or 'is taken'}"
            assert "hunter2" not in message, f"{arguments}: {message}"
        for arguments in refusals.TAKEN:
            assert not r.refusal(helm, *arguments, chart=c.chart), f"{arguments}: {r.refusal(helm, *arguments, chart=c.chart)}"


def notes_of(c, *arguments):
    """What helm install says at its end, by Helm 4; Helm 3 shows it only before a cluster."""
    code, out, error = r.helm(c.helm, "install", "rel", str(c.chart), *arguments, "--dry-run=client", "--namespace", "n")
    assert code == 0 and "NOTES:" in out, f"{arguments}: {error}"
    return out.split("NOTES:")[1]


@contextlib.contextmanager
def notes_as_object(c):
    """A chart that renders its NOTES as a ConfigMap, for Helm 3."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(r.ROOT / "helm", f"{folder}/helm", symlinks=True)
        chart = pathlib.Path(folder) / "helm/laggard"
        shutil.copytree(c.chart / "templates", chart / "templates", dirs_exist_ok=True)
        text = (chart / "templates/NOTES.txt").read_text()
        head = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata:\n  notes: |-\n    {{- include "notes" . | nindent 4 }}\n'
        (chart / "templates/notes.yaml").write_text('{{- define "notes" }}' + text + "{{- end }}\n" + head)
        yield chart


def notes_of_helm3(helm, chart, *arguments):
    code, out, error = r.helm(helm, "template", "rel", str(chart), *arguments, "--namespace", "n", "--kube-version", "1.36.0", "--show-only", "templates/notes.yaml")
    assert code == 0, f"{arguments}: {error}"
    return yaml.safe_load(out)["data"]["notes"]


@row("T35", "NOTES name the Service and its ports, and warn")
def notes(c):
    expected = {"sidecar-config": "restartPolicy: Always", "extras": "slow-finder.tracing:4317"}
    expected.update(dict.fromkeys(("loadbalancer", "loadbalancer-secure", "autoscaling"), "rel-laggard-lb.n:4317"))
    with notes_as_object(c) as chart:
        for file in r.ci_files(c.chart):
            name = file.stem.removesuffix("-values")
            text = notes_of(c, "-f", str(file))
            assert expected.get(name, "rel-laggard.n:4317 (otlp)") in text, f"{name}: {text}"
            for helm in c.helms[:-1]:
                theirs = notes_of_helm3(helm, chart, "-f", str(file))
                assert theirs.split() == text.split(), f"{name}: {theirs}"
    for arguments, words in refusals.WARNED:
        text = notes_of(c, *r.MINIMAL, *arguments)
        assert words in text, f"{arguments}: {words}: {text}"
    forwarded = "port-forward statefulset/rel-laggard 13134:13134\n"
    for arguments in ((), ("--set", "ports.admin.enabled=false"), ("--set", "ports.admin.servicePort=80")):
        assert forwarded in notes_of(c, *r.MINIMAL, *arguments), f"{arguments}: nothing to forward to"
    pasted(c, notes_of(c, "-f", str(c.chart / "ci/sidecar-config-values.yaml")))
    pasted(c, notes_of(c, "-f", str(c.chart / "ci/sidecar-config-values.yaml"), "--set", "tls.server.existingSecret=s", "--set", "config.shutdown.delay=40s"), grace=95)


def pasted(c, text, grace=60):
    """What is to be pasted into a pod is YAML, and makes one that would be taken, may read its Secrets, and has time to end."""
    spec = yaml.safe_load("\n".join(line for line in text.split("\nMind:")[0].splitlines() if line.startswith("  ")))
    assert spec["securityContext"] == {"fsGroup": 65532}, "nobody may read the Secrets"
    assert spec["terminationGracePeriodSeconds"] == grace, spec["terminationGracePeriodSeconds"]
    spec["containers"] = []
    assert "127.0.0.1:14317 (gRPC)" in text, text
    none(checker.check([{"kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": spec}, *c.ci("sidecar-config")]))


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


@row("IMAGE", "the Dockerfile is one that hadolint has nothing to say about, with labels, user and health check")
def image(_):
    hadolint = pathlib.Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, "--no-color", r.ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    none(done.stdout.splitlines() + done.stderr.splitlines())
    text = (r.ROOT / "Dockerfile").read_text()
    stage = text.split("FROM scratch\n")[1]
    for instruction in ("LABEL org.opencontainers.image.title=", "USER 65532:65532", "HEALTHCHECK ", 'ENTRYPOINT ["/laggard"]'):
        assert instruction in stage, instruction
    version = yaml.safe_load((r.CHART / "Chart.yaml").read_text())["appVersion"]
    assert f"ARG VERSION={version}\n" in stage, "the image has the version of the chart's appVersion"
