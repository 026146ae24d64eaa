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
        # Another mode has other objects, and both monitors at once are refused.
        key = entry[0].split("=")[0].replace("podMonitor", "serviceMonitor")
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


def missing_files(rendered, pod, name):
    """Paths in arguments and configurations that no volume has."""
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
                paths = re.findall(r"(?:_file|filename): (/\S+)", data[keys[base]])
                yield from (f"{name}: {path} is on no volume" for path in paths if mounted(container, path) is None)


@row("FILES", "every path that is named is mounted, readable for the pod's group, and is what its name says")
def files(c):
    for name, rendered in c.each():
        owners = [each for each in rendered if each["kind"] in ("StatefulSet", "Deployment")]
        none(missing for owner in owners for missing in missing_files(rendered, owner["spec"]["template"], name))
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
    writable = [each["name"] for each in r.container(secure)["volumeMounts"] if not each.get("readOnly")]
    assert writable == ["laggard-data"], writable
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
    policy = r.one(rendered, "NetworkPolicy", "rel-laggard")["spec"]
    tier = {"podSelector": {"matchLabels": r.one(rendered, "Deployment")["spec"]["selector"]["matchLabels"]}}
    assert policy["ingress"][0]["from"] == [tier], "past the tier in front, traces are split"
    behind = yaml.safe_load(r.one(c.ci("collector"), "ConfigMap", "rel-laggard-collector")["data"]["config.yaml"])
    assert behind["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == "127.0.0.1:14317", "only Laggard may send to it"
    test = r.one(rendered, "Pod")["spec"]["containers"][0]["args"]
    admin = next(port["port"] for port in r.one(rendered, "Service", "rel-laggard")["spec"]["ports"] if port["name"] == "admin")
    assert test == ["health", f"--endpoint=rel-laggard.default:{admin}"], test


def looks_names_up(policy):
    names = [port for rule in policy["egress"] for port in rule["ports"] if port["port"] == 53]
    assert {port["protocol"] for port in names} == {"UDP", "TCP"}, names


@row("WALLS", "a NetworkPolicy limits who reaches each kind of pod, and lets what the chart itself needs")
def walls(c):
    rendered = c.ci("loadbalancer")
    shop = [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}]
    own, tier = (r.one(rendered, "NetworkPolicy", name)["spec"] for name in ("rel-laggard", "rel-laggard-lb"))
    assert tier["podSelector"]["matchLabels"] == r.one(rendered, "Deployment")["spec"]["selector"]["matchLabels"]
    assert [rule["from"] for rule in tier["ingress"]] == [shop], "senders"
    assert [port["port"] for port in tier["ingress"][0]["ports"]] == ["otlp", "otlp-http"]
    assert tier["policyTypes"] == own["policyTypes"] == ["Ingress", "Egress"]
    looks_names_up(own)
    looks_names_up(tier)
    pods = {"podSelector": {"matchLabels": r.one(rendered, "StatefulSet")["spec"]["selector"]["matchLabels"]}}
    assert {"ports": [{"port": "otlp", "protocol": "TCP"}], "to": [pods]} in tier["egress"], "the tier reaches no pod"
    over_api = r.one(c.ci("loadbalancer-secure"), "NetworkPolicy", "rel-laggard-lb")["spec"]["egress"]
    assert {443, 6443} <= {port["port"] for rule in over_api for port in rule["ports"]}, "the API cannot be watched"
    # Whoever scrapes, and helm test.
    peers = own["ingress"][1]["from"]
    test = r.one(rendered, "Pod")["metadata"]["labels"]
    chosen = [peer["podSelector"]["matchLabels"] for peer in peers if "podSelector" in peer]
    assert len(peers) == 2 and all(labels.items() <= test.items() for labels in chosen) and chosen, peers
    alone = c.rendered(*r.MINIMAL, "--set", "networkPolicy.enabled=true", "--set-json", 'networkPolicy.allowIngressFrom=[{"podSelector": {}}]')
    assert r.one(alone, "NetworkPolicy")["spec"]["ingress"][0]["from"] == [{"podSelector": {}}]


@row("TIER", "the Collectors in front ask for what Laggard asks for, show it what it asks, take as much, and run where it runs")
def tier(c):
    rendered = c.ci("loadbalancer-secure")
    config = yaml.safe_load(r.one(rendered, "ConfigMap", "rel-laggard-lb")["data"]["config.yaml"])
    own = {"cert_file": "/etc/laggard-tls/server/tls.crt", "key_file": "/etc/laggard-tls/server/tls.key", "client_ca_file": "/etc/laggard-tls/server/ca.crt"}
    own.update(client_ca_file_reload=True, reload_interval="1m")
    token = {"authenticator": "bearertokenauth"}
    grpc, http = (config["receivers"]["otlp"]["protocols"][name] for name in ("grpc", "http"))
    assert grpc == {"endpoint": "[::]:4317", "tls": own, "auth": token, "max_recv_msg_size_mib": 10}, grpc
    cors = {"allowed_origins": ["https://*.example.com"]}
    assert http == {"endpoint": "[::]:4318", "tls": own, "auth": token, "max_request_body_size": 10 << 20, "cors": cors}, http
    exporter = config["exporters"]["load_balancing"]["protocol"]["otlp"]
    shown = {"cert_file": "/etc/laggard-tls/client/tls.crt", "key_file": "/etc/laggard-tls/client/tls.key", "reload_interval": "1m"}
    assert exporter["tls"] == {**shown, "ca_file": "/etc/laggard-tls/server/ca.crt", "server_name_override": "otlp.example.com"}, exporter
    assert exporter["auth"] == token and config["extensions"]["bearertokenauth"] == {"filename": "/etc/laggard-auth/tokens"}
    assert config["service"]["extensions"] == ["bearertokenauth", "health_check"]
    assert sorted(config["service"]["pipelines"]) == ["logs", "traces"], "metrics are not taken by Laggard either"
    pod = r.one(rendered, "Deployment")["spec"]["template"]
    mounted_secrets = {each["name"]: each["secret"] for each in pod["spec"]["volumes"] if "secret" in each}
    assert {each["secretName"] for each in mounted_secrets.values()} == {"laggard-tls", "laggard-client", "senders"}, mounted_secrets
    assert {each["defaultMode"] for each in mounted_secrets.values()} == {0o440} and pod["spec"]["securityContext"]["fsGroup"] == 65532
    laggards = r.workload(rendered)
    for key in ("nodeSelector", "tolerations", "priorityClassName"):
        assert pod["spec"][key] == laggards["spec"][key], key
    assert "podAntiAffinity" in pod["spec"]["affinity"] and "affinity" not in laggards["spec"]
    assert pod["spec"]["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"
    assert pod["metadata"]["annotations"]["a"] == "b" and pod["metadata"]["labels"]["team"] == "platform"
    budget = r.one(rendered, "PodDisruptionBudget", "rel-laggard-lb")["spec"]["selector"]["matchLabels"]
    assert budget == r.one(rendered, "Deployment")["spec"]["selector"]["matchLabels"]
    exposed = c.rendered(*r.MINIMAL, *SEVERAL, "--set", "service.type=LoadBalancer", "--set", "service.annotations.a=b", "--set", "ports.otlp.servicePort=80", "--set", "ports.otlp-http.enabled=false")
    used, own_service = (r.one(exposed, "Service", name) for name in ("rel-laggard-lb", "rel-laggard"))
    assert (used["spec"]["type"], own_service["spec"]["type"]) == ("LoadBalancer", "ClusterIP"), "senders would go past the tier"
    assert used["metadata"].get("annotations") == {"a": "b"} and "annotations" not in own_service["metadata"]
    assert [(port["name"], port["port"]) for port in used["spec"]["ports"]] == [("otlp", 80)], used["spec"]["ports"]
    plain = yaml.safe_load(r.one(c.ci("loadbalancer"), "ConfigMap", "rel-laggard-lb")["data"]["config.yaml"])
    assert plain["receivers"]["otlp"]["protocols"]["grpc"] == {"endpoint": "[::]:4317", "max_recv_msg_size_mib": 64}
    relayed = {name: pipeline["exporters"] for name, pipeline in plain["service"]["pipelines"].items() if name != "traces"}
    assert relayed == dict.fromkeys(("metrics", "logs"), ["load_balancing/relayed"]), relayed
    for name, key in (("load_balancing", "traceID"), ("load_balancing/relayed", "resource")):
        each = plain["exporters"][name]
        assert each["routing_key"] == key
        # Spans in the queue of a pod that is gone would be lost.
        otlp = each["protocol"]["otlp"]
        assert not otlp["sending_queue"]["enabled"] and not otlp["retry_on_failure"]["enabled"] and otlp["tls"] == {"insecure": True}, otlp
    by_default = c.rendered(*r.MINIMAL, *SEVERAL, "--set", "tls.server.existingSecret=s", "--set", "routing.loadBalancer.tls.ca=")
    text = r.one(by_default, "ConfigMap", "rel-laggard-lb")["data"]["config.yaml"]
    found = yaml.safe_load(text)["exporters"]["load_balancing"]["protocol"]["otlp"]["tls"]
    assert found == {"server_name_override": "rel-laggard-lb.default", "reload_interval": "1m"}, found


@row("LABELS", "a label or an annotation that is given twice is there once, and the nearest one wins")
def labels(c):
    given = ("--set", "additionalLabels.team=all", "--set", "podLabels.team=pods", "--set", "podAnnotations.kubectl\\.kubernetes\\.io/default-container=beside")
    rendered = c.rendered(*r.MINIMAL, *given, "--set", "serviceMonitor.enabled=true", "--set", "serviceMonitor.extraLabels.team=monitors")
    stateful_set = r.one(rendered, "StatefulSet")
    assert stateful_set["metadata"]["labels"]["team"] == "all" and stateful_set["spec"]["template"]["metadata"]["labels"]["team"] == "pods"
    assert r.one(rendered, "ServiceMonitor")["metadata"]["labels"]["team"] == "monitors"
    annotations = stateful_set["spec"]["template"]["metadata"]["annotations"]
    assert annotations["kubectl.kubernetes.io/default-container"] == "beside" and "checksum/laggard-config" in annotations, annotations


@row("GRACE", "the grace period is the sum of what ending takes, in every way to write a duration")
def grace(c):
    def seconds(*arguments):
        return r.workload(c.rendered(*arguments))["spec"]["terminationGracePeriodSeconds"]

    for delay, whole in (("0s", 25), ("1ms", 26), ("1500ms", 27), ("2s", 27), ("1m", 85), ("1m 30s", 115), ("1h", 3625)):
        assert seconds(*r.MINIMAL, "--set-string", f"config.shutdown.delay={delay}") == whole, delay
    assert seconds(*COLLECTOR) == 45 and seconds(*COLLECTOR, "--set", "collector.drainSeconds=0") == 30
    assert seconds(*r.MINIMAL, "--set", "lifecycleHooks.preStop.sleep.seconds=20") == 50, "SIGTERM comes after preStop"
    with_library = r.objects(c.helm, "--set", "laggard.lifecycleHooks.preStop.sleep.seconds=20", chart=r.CONSUMER)
    assert r.one(with_library, "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 80


@row("CLOSED", "a port that is off listens on loopback and is in no Service")
def closed(c):
    rendered = c.rendered(*r.MINIMAL, "--set", "ports.otlp-http.enabled=false")
    config = yaml.safe_load(r.one(rendered, "ConfigMap")["data"]["config.yaml"])
    assert config["receive"]["http"]["endpoint"] == "127.0.0.1:4318" and config["receive"]["grpc"]["endpoint"] == "[::]:4317"
    behind = yaml.safe_load(r.one(c.ci("sidecar-config"), "ConfigMap")["data"]["config.yaml"])
    found = [behind["receive"][each]["endpoint"] for each in ("grpc", "http")]
    assert found == ["127.0.0.1:14317", "127.0.0.1:14318"], "a Collector of the same pod has 4317 and 4318"
    asked = c.rendered(*r.MINIMAL, "--set", "mode=sidecar-config", "--set", "ports.otlp.enabled=true", "--set", "ports.otlp.containerPort=5317")
    assert yaml.safe_load(r.one(asked, "ConfigMap")["data"]["config.yaml"])["receive"]["grpc"]["endpoint"] == "[::]:5317"
    for service in (each for each in rendered if each["kind"] == "Service"):
        assert "otlp-http" not in [port["name"] for port in service["spec"]["ports"]], service["metadata"]["name"]
