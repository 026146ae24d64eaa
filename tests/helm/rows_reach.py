"""Rows about what values lead to: each reaches what it is for, a change rolls pods, and every path that is named is mounted."""

import pathlib
import re

import yaml

import rendering as r
from rows import none, row

COLLECTOR = (
    "--set", "collector.enabled=true",
    "--set", "collector.config.exporters.debug.verbosity=basic",
    "--set", "collector.config.service.pipelines.traces.exporters={debug}",
)  # fmt: skip
SEVERAL = ("--set", "replicaCount=2", "--set", "routing.loadBalancer.enabled=true")

# Values (in JSON, on top of the least), the object they are for, where in it, and what must be there.
REACH = [
    ("replicaCount=0", "StatefulSet", "spec.replicas", 0),
    ("minReadySeconds=7", "StatefulSet", "spec.minReadySeconds", 7),
    ('annotations={"a": "b"}', "StatefulSet", "metadata.annotations.a", "b"),
    ('podAnnotations={"a": "b"}', "StatefulSet", "spec.template.metadata.annotations.a", "b"),
    ('podLabels={"l": "m"}', "StatefulSet", "spec.template.metadata.labels.l", "m"),
    ('additionalLabels={"c": "d"}', "Service", "metadata.labels.c", "d"),
    ('nodeSelector={"a": "b"}', "StatefulSet", "spec.template.spec.nodeSelector.a", "b"),
    ('tolerations=[{"key": "a", "operator": "Exists"}]', "StatefulSet", "spec.template.spec.tolerations.0.key", "a"),
    ('affinity={"podAffinity": {}}', "StatefulSet", "spec.template.spec.affinity", {"podAffinity": {}}),
    ('topologySpreadConstraints=[{"maxSkew": 1}]', "StatefulSet", "spec.template.spec.topologySpreadConstraints.0.maxSkew", 1),
    ('priorityClassName="a"', "StatefulSet", "spec.template.spec.priorityClassName", "a"),
    ('runtimeClassName="a"', "StatefulSet", "spec.template.spec.runtimeClassName", "a"),
    ('imagePullSecrets=[{"name": "a"}]', "StatefulSet", "spec.template.spec.imagePullSecrets.0.name", "a"),
    ("terminationGracePeriodSeconds=99", "StatefulSet", "spec.template.spec.terminationGracePeriodSeconds", 99),
    ('podSecurityContext={"fsGroup": 7}', "StatefulSet", "spec.template.spec.securityContext.fsGroup", 7),
    ('resources={"limits": {"memory": "2Gi"}}', "StatefulSet", "spec.template.spec.containers.0.resources.limits.memory", "2Gi"),
    ('lifecycleHooks={"preStop": {"sleep": {"seconds": 3}}}', "StatefulSet", "spec.template.spec.containers.0.lifecycle.preStop.sleep.seconds", 3),
    ('command={"extraArgs": ["--more"]}', "StatefulSet", "spec.template.spec.containers.0.args.2", "--more"),
    ('extraEnvs=[{"name": "A", "value": "b"}]', "StatefulSet", "spec.template.spec.containers.0.env.0.value", "b"),
    ('extraEnvsFrom=[{"secretRef": {"name": "a"}}]', "StatefulSet", "spec.template.spec.containers.0.envFrom.0.secretRef.name", "a"),
    ('livenessProbe={"httpGet": {"path": "/live", "port": "admin"}, "periodSeconds": 77}', "StatefulSet", "spec.template.spec.containers.0.livenessProbe.periodSeconds", 77),
    ('image={"pullPolicy": "Always"}', "StatefulSet", "spec.template.spec.containers.0.imagePullPolicy", "Always"),
    ('persistence={"emptyDirSizeLimit": "9Mi"}', "StatefulSet", "spec.template.spec.volumes.1.emptyDir.sizeLimit", "9Mi"),
    ('persistence={"enabled": true, "size": "3Gi"}', "StatefulSet", "spec.volumeClaimTemplates.0.spec.resources.requests.storage", "3Gi"),
    ('persistence={"enabled": true}', "StatefulSet", "spec.persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Retain", "whenScaled": "Retain"}),
    ('persistence={"enabled": true, "retentionPolicy": {"whenDeleted": "Delete"}}', "StatefulSet", "spec.persistentVolumeClaimRetentionPolicy.whenDeleted", "Delete"),
    ('service={"type": "NodePort"}', "Service", "spec.type", "NodePort"),
    ('service={"annotations": {"a": "b"}}', "Service", "metadata.annotations.a", "b"),
    ('service={"trafficDistribution": "PreferClose"}', "Service", "spec.trafficDistribution", "PreferClose"),
    ('ports={"otlp": {"servicePort": 80}}', "Service", "spec.ports.1.port", 80),
    ('ports={"otlp": {"appProtocol": "http2"}}', "Service", "spec.ports.1.appProtocol", "http2"),
    ('serviceAccount={"annotations": {"a": "b"}}', "ServiceAccount", "metadata.annotations.a", "b"),
    ('mode="standalone"', "Deployment", "spec.strategy.type", "Recreate"),
    ('config={"slow": {"threshold": "7s"}}', "ConfigMap", "data.config.slow.threshold", "7s"),
    ('existingConfigKey="other.yaml"', "StatefulSet", "spec.template.spec.volumes.0.configMap.items.0", {"key": "other.yaml", "path": "config.yaml"}),
    ('serviceMonitor={"enabled": true, "interval": "9s"}', "ServiceMonitor", "spec.endpoints.0.interval", "9s"),
    ('podMonitor={"enabled": true, "extraLabels": {"a": "b"}}', "PodMonitor", "metadata.labels.a", "b"),
    ('prometheusRule={"enabled": true, "groups": [{"name": "mine"}]}', "PrometheusRule", "spec.groups.1.name", "mine"),
    ('prometheusRule={"enabled": true, "defaultRules": {"additionalRuleAnnotations": {"a": "b"}}}', "PrometheusRule", "spec.groups.0.rules.0.annotations.a", "b"),
    ('networkPolicy={"enabled": true, "extraIngressRules": [{"ports": [{"port": "otlp"}]}]}', "NetworkPolicy", "spec.ingress.2.ports.0.port", "otlp"),
    ('extraManifests=[{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "{{ .Release.Name }}"}}]', "Secret", "metadata.name", "rel"),
]  # fmt: skip


def rendered_together(c):
    """REACH with what is rendered; values that do not touch each other's are given at once, for Helm takes its time."""
    groups = []
    for entry in REACH:
        key = entry[0].split("=")[0]
        # Another mode has other objects.
        group = None if key == "mode" else next((group for group in groups if key not in group and "mode" not in group), None)
        if group is None:
            groups.append(group := {})
        group[key] = entry
    for group in groups:
        arguments = [argument for values, *_ in group.values() for argument in ("--set-json", values)]
        rendered = c.rendered(*r.MINIMAL, *arguments)
        yield from ((*entry, rendered) for entry in group.values())


@row("REACH", "every value reaches what it is for")
def reach(c):
    for values, kind, path, expected, rendered in rendered_together(c):
        each = next(each for each in rendered if each["kind"] == kind and not each["metadata"]["name"].endswith("-headless"))
        if kind == "ConfigMap":
            each = {"data": {"config": yaml.safe_load(each["data"]["config.yaml"])}}
        try:
            for step in path.split("."):
                each = each[int(step)] if isinstance(each, list) else each[step]
        except (KeyError, IndexError) as error:
            raise AssertionError(f"{values}: {kind} has no {path}") from error
        assert each == expected, f"{values}: {kind} {path} is {each}"
    everything = [each["metadata"]["namespace"] for each in c.rendered(*r.MINIMAL, "--set", "namespaceOverride=tracing")]
    assert set(everything) == {"tracing"}, everything
    assert r.workload(c.ci("minimal"))["spec"]["enableServiceLinks"] is False, "a Service's environment could set options"


@row("ROLL", "a changed configuration rolls the pods it is for, and nothing else does")
def roll(c):
    def checksums(component, *arguments):
        owners = [each for each in c.rendered(*arguments) if each["kind"] in ("StatefulSet", "Deployment")]
        own = next(each for each in owners if each["metadata"]["labels"]["app.kubernetes.io/component"] == component)
        return {key: value for key, value in own["spec"]["template"]["metadata"]["annotations"].items() if key.startswith("checksum/")}

    changes = [
        ("sidecar", r.MINIMAL, ("--set", "config.slow.threshold=3s"), True),
        ("sidecar", r.MINIMAL, ("--set", "podLabels.a=b"), False),
        ("sidecar", COLLECTOR, ("--set", "collector.config.exporters.debug.verbosity=detailed"), True),
        ("sidecar", COLLECTOR, ("--set", "collector.resources.limits.memory=1Gi"), False),
        ("loadbalancer", (*r.MINIMAL, *SEVERAL), ("--set", "bindAddress=0.0.0.0"), True),
        ("loadbalancer", (*r.MINIMAL, *SEVERAL), ("--set", "config.slow.threshold=3s"), False),
    ]
    for component, before, change, is_rolled in changes:
        was, now = checksums(component, *before), checksums(component, *before, *change)
        assert was and (was != now) == is_rolled, f"{component}: {change}: {was} {now}"


def mounted(container, path):
    """The mount that a path lies in."""
    mounts = [each for each in container.get("volumeMounts") or [] if pathlib.PurePath(path).is_relative_to(each["mountPath"])]
    return max(mounts, key=lambda each: len(each["mountPath"]), default=None)


def missing_files(rendered, name):
    """Paths in arguments and configurations that no volume has."""
    pod = r.workload(rendered)
    maps = {each["metadata"]["name"]: each.get("data") for each in rendered if each["kind"] == "ConfigMap"}
    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
        for file in re.findall(r"--config=(\S+)", " ".join(container.get("args") or [])):
            mount = mounted(container, file)
            source = volumes[mount["name"]]["configMap"] if mount else {}
            data = maps.get(source.get("name"))
            keys = {item["path"]: item["key"] for item in source.get("items") or []} or {key: key for key in data or {}}
            base = pathlib.PurePath(file).name
            if base not in keys:
                yield f"{name}: {container['name']}: nothing is mounted at {file}"
            elif data:
                # Each gets its own: Laggard's has an admin port, a Collector's has pipelines.
                own = "admin" if container["name"] == "laggard" else "pipelines"
                if own not in data[keys[base]]:
                    yield f"{name}: {container['name']}: {source['name']} is not its configuration"
                paths = re.findall(r"(?:_file|file): (/\S+)", data[keys[base]]) if container["name"] == "laggard" else []
                yield from (f"{name}: {path} is on no volume" for path in paths if mounted(container, path) is None)


@row("FILES", "every path that is named is mounted, readable for the pod's group, and is what its name says")
def files(c):
    for name, rendered in c.each():
        if r.workload(rendered):
            none(missing_files(rendered, name))
    secure = c.ci("secure")
    config = yaml.safe_load(r.one(secure, "ConfigMap")["data"]["config.yaml"])
    folder = "/etc/laggard-tls"
    expected = {"cert_file": f"{folder}/server/tls.crt", "key_file": f"{folder}/server/tls.key", "client_ca_file": f"{folder}/server/ca.crt"}
    assert config["receive"]["tls"] == expected, config["receive"]["tls"]
    assert config["receive"]["auth"] == {"bearer_token_file": "/etc/laggard-auth/tokens"}
    mutual = yaml.safe_load(r.one(c.ci("mtls"), "ConfigMap")["data"]["config.yaml"])["export"]["tls"]
    assert mutual == {"ca_file": f"{folder}/exporter/ca.crt", "cert_file": f"{folder}/exporter/tls.crt", "key_file": f"{folder}/exporter/tls.key"}
    modes = [each["secret"]["defaultMode"] for each in r.workload(secure)["spec"]["volumes"] if "secret" in each]
    assert modes == [0o440] * 3, "the program is not root, and reads by its group"
    environment = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in r.container(secure)["env"]}
    assert environment["LAGGARD_HEADER_AUTHORIZATION"] == {"name": "vendor", "key": "token"}, environment


@row("ROUTE", "what is routed reaches whole traces' pods, and the policy lets it")
def route(c):
    rendered = c.ci("loadbalancer")
    exporter = yaml.safe_load(r.one(rendered, "ConfigMap", "rel-laggard-lb")["data"]["config.yaml"])["exporters"]["load_balancing"]
    headless = r.one(rendered, "Service", "rel-laggard-headless")
    ports = {port["name"]: port["port"] for port in headless["spec"]["ports"]}
    assert exporter["routing_key"] == "traceID" and exporter["retry_on_failure"]["enabled"] and exporter["sending_queue"]["enabled"]
    assert exporter["resolver"] == {"dns": {"hostname": "rel-laggard-headless.default", "port": str(ports["otlp"]), "interval": "5s"}}, exporter
    by_api = yaml.safe_load(r.one(c.ci("autoscaling"), "ConfigMap", "rel-laggard-lb")["data"]["config.yaml"])["exporters"]["load_balancing"]
    expected = {"k8s": {"service": "rel-laggard-headless.default", "ports": [ports["otlp"]], "return_hostnames": True}}
    assert by_api["resolver"] == expected, by_api["resolver"]
    rights = r.one(c.ci("autoscaling"), "Role")["rules"]
    assert rights == [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}], rights
    policy = r.one(rendered, "NetworkPolicy")["spec"]
    senders = policy["ingress"][0]["from"]
    tier = r.one(rendered, "Deployment")["spec"]["selector"]["matchLabels"]
    assert {"podSelector": {"matchLabels": tier}} in senders, "the tier in front is not let in"
    names = [port for rule in policy["egress"] for port in rule["ports"] if port["port"] == 53]
    assert {port["protocol"] for port in names} == {"UDP", "TCP"}, names
    behind = yaml.safe_load(r.one(c.ci("collector"), "ConfigMap", "rel-laggard-collector")["data"]["config.yaml"])
    assert behind["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == "127.0.0.1:14317", "only Laggard may send to it"
    test = r.one(rendered, "Pod")["spec"]["containers"][0]["args"]
    admin = next(port["port"] for port in r.one(rendered, "Service", "rel-laggard")["spec"]["ports"] if port["name"] == "admin")
    assert test == ["health", f"--endpoint=rel-laggard.default:{admin}"], test


@row("GRACE", "the grace period is the sum of what ending takes, in every way to write a duration")
def grace(c):
    def seconds(*arguments):
        return r.workload(c.rendered(*arguments))["spec"]["terminationGracePeriodSeconds"]

    for delay, whole in (("0s", 25), ("1ms", 26), ("1500ms", 27), ("2s", 27), ("1m", 85), ("1m 30s", 115), ("1h", 3625)):
        assert seconds(*r.MINIMAL, "--set-string", f"config.shutdown.delay={delay}") == whole, delay
    assert seconds(*COLLECTOR) == 45 and seconds(*COLLECTOR, "--set", "collector.drainSeconds=0") == 30


@row("CLOSED", "a port that is off listens on loopback and is in no Service")
def closed(c):
    rendered = c.rendered(*r.MINIMAL, "--set", "ports.otlp-http.enabled=false")
    config = yaml.safe_load(r.one(rendered, "ConfigMap")["data"]["config.yaml"])
    assert config["receive"]["http"]["endpoint"] == "127.0.0.1:4318" and config["receive"]["grpc"]["endpoint"] == "[::]:4317"
    for service in (each for each in rendered if each["kind"] == "Service"):
        assert "otlp-http" not in [port["name"] for port in service["spec"]["ports"]], service["metadata"]["name"]
