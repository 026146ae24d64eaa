"""Collectors beside what is rendered: the backend, or somebody else's in front."""

import collections
import json

from kubelet import Kubelet
from senders import spans_of

CERTIFICATES = "/certificates"
# That of the image of the stock Collectors.
USERS = {"collector": 10001}

# Receivers are OTLP, the health check is there, and the Collector has nothing to say about itself.
HARNESS = """
extensions: {health_check: {endpoint: "0.0.0.0:13133"}}
service: {extensions: [health_check], telemetry: {metrics: {level: none}}}
"""
TO_A_FILE = """
receivers: {otlp: {protocols: {grpc: {endpoint: "0.0.0.0:4317"}}}}
exporters: {file: {path: /received/spans.json, flush_interval: 100ms}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [file]}}}
"""


def pod(collector, configs, folder, place, secret=None):
    """A pod with a Collector of these configurations, merged; `secret` is mounted at CERTIFICATES."""
    texts = {f"{number}.yaml": text for number, text in enumerate([HARNESS, *configs])}
    container = {
        "name": "collector",
        "args": [f"--config=/etc/collector/{name}" for name in texts],
        "ports": [{"name": "check", "containerPort": 13133}],
        "startupProbe": {"httpGet": {"path": "/", "port": "check"}, "periodSeconds": 1, "failureThreshold": 60},
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in (("config", "/etc/collector"), ("secret", CERTIFICATES), ("received", "/received"))],
    }
    volumes = [{"name": "config", "configMap": {"name": "config"}}, {"name": "secret", "secret": {"secretName": "secret"}}, {"name": "received", "emptyDir": {}}]
    spec = {"containers": [container], "volumes": volumes}
    return Kubelet({"spec": spec}, {"config": texts}, {"secret": secret or {}}, {"collector": [collector]}, folder, place)


def received(backend):
    """The requests that a Collector wrote; its last line may be half written."""
    lines = (backend.folder / "received/spans.json").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def delivered(requests):
    """How often each span is in them."""
    return collections.Counter(span for request in requests for span in spans_of(request))
