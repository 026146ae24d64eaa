"""Runs Helm and reads what it renders; every result is kept, for many rows ask for the same."""

import functools
import os
import pathlib
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "helm/laggard"
LIBRARY = ROOT / "helm/laggard-lib"
CONSUMER = ROOT / "helm/examples/collector-with-laggard"
MINIMAL = ("--set", "config.export.endpoint=http://c:4317")
CRDS = ("ServiceMonitor", "PodMonitor", "PrometheusRule")
# Helm's own files stay out of the home of whoever runs this.
HOME = tempfile.TemporaryDirectory(prefix="laggard-helm-")
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": HOME.name, "TMPDIR": tempfile.gettempdir()}


class Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice."""


def mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


@functools.cache
def helm(binary, *arguments):
    """Exit code and both outputs."""
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    return done.returncode, done.stdout, done.stderr


def template(binary, *arguments, chart=CHART, name="rel", kube="1.36.0"):
    """Exit code, text and error of helm template; arguments are paths of values or Helm's own."""
    apis = [f"--api-versions=monitoring.coreos.com/v1/{kind}" for kind in CRDS]
    return helm(binary, "template", name, str(chart), "--kube-version", kube, *apis, *arguments)


def objects(binary, *arguments, **where):
    """What is rendered, parsed."""
    code, text, error = template(binary, *arguments, **where)
    if code:
        raise AssertionError(f"helm template {' '.join(arguments)} fails: {error}")
    return [each for each in yaml.load_all(text, Loader) if each]


def refusal(binary, *arguments, **where):
    """The message with which rendering fails; empty when it does not."""
    code, _, error = template(binary, *arguments, **where)
    return error if code else ""


def ci_files(chart=CHART):
    return sorted((chart / "ci").glob("*-values.yaml"))


def one(rendered, kind, name=None):
    """The object of this kind."""
    found = [each for each in rendered if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def workload(rendered):
    """The pod of Laggard."""
    owners = [each for each in rendered if each["kind"] in ("StatefulSet", "Deployment")]
    own = [each for each in owners if each["metadata"]["labels"]["app.kubernetes.io/component"] == "sidecar"]
    return own[0]["spec"]["template"] if own else None


def container(rendered, name="laggard"):
    spec = workload(rendered)["spec"]
    return next(each for each in (spec.get("initContainers") or []) + spec["containers"] if each["name"] == name)
