"""What a Kubernetes API server would refuse, and what even it lets pass and does not work: rules over rendered objects.

check(objects) returns a sentence for each breach. Schemas find hardly any of these; tests/helm/test_checker.py has a broken
manifest for every rule.
"""

import re

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
APP_PROTOCOL = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
QUANTITY = re.compile(r"([0-9]+(?:[.][0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]+)?")
FACTORS = {"m": 1e-3, None: 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
FACTORS.update({f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)})
FIELDS = re.compile(r"(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-.+)")
POD_OWNERS = ("StatefulSet", "Deployment", "DaemonSet", "Job")
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding", "Namespace")


def check(objects, restricted=True):
    """Every breach in `objects`; `restricted` asks for the restricted Pod Security Standard too."""
    found = []
    names = [(each.get("kind"), each["metadata"].get("namespace"), each["metadata"].get("name")) for each in objects]
    found += [f"{kind}/{name} is there twice" for kind, _, name in duplicates(names)]
    pods = [(each, pod) for each in objects for pod in pods_of(each)]
    for each in objects:
        target = (each.get("spec") or {}).get("scaleTargetRef") if each.get("kind") == "HorizontalPodAutoscaler" else None
        if target and (target["kind"], target["name"]) not in {(kind, name) for kind, _, name in names}:
            found.append(f"HorizontalPodAutoscaler: scales {target['kind']}/{target['name']}, which there is not")
        where = f"{each.get('kind')}/{each['metadata'].get('name')}"
        breaches = list(metadata(each)) + list(kind_rules(each, pods))
        found += [f"{where}: {breach}" for breach in breaches]
    for owner, pod in pods:
        where = f"{owner.get('kind')}/{owner['metadata'].get('name')}"
        breaches = list(pod_rules(pod, claims_of(owner))) + list(mounted_keys(pod, objects))
        breaches += list(pod_security(pod)) if restricted else []
        found += [f"{where}: {breach}" for breach in breaches]
    return found


def duplicates(values):
    seen, again = set(), []
    for value in values:
        if value in seen:
            again.append(value)
        seen.add(value)
    return again


def pods_of(each):
    """The pod of an object: metadata and spec."""
    if each.get("kind") == "Pod":
        return [each]
    return [each["spec"]["template"]] if each.get("kind") in POD_OWNERS else []


def claims_of(owner):
    return [claim["metadata"]["name"] for claim in owner.get("spec", {}).get("volumeClaimTemplates") or []]


def labels_of(thing):
    return (thing.get("metadata") or {}).get("labels") or {}


def matches(selector, labels):
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def amount(quantity):
    """A quantity as a number, None for what is none."""
    found = QUANTITY.fullmatch(str(quantity))
    if not found:
        return None
    number, unit = found.groups()
    return float(number) * (10 ** int(unit[1:]) if unit and unit[0] == "e" else FACTORS[unit])


def metadata(each):
    meta = each["metadata"]
    name = meta.get("name") or ""
    longest, pattern = (63, DNS_LABEL) if each.get("kind") in ("Service", "Pod", *POD_OWNERS) else (253, DNS_NAME)
    # A StatefulSet's revision is a label: its name, a dash and ten characters.
    longest = 52 if each.get("kind") == "StatefulSet" else longest
    if len(name) > longest or not pattern.fullmatch(name):
        yield f"name {name!r} must be lower-case and at most {longest} long"
    if not meta.get("namespace") and each.get("kind") not in CLUSTER_WIDE:
        yield "has no namespace"
    yield from label_rules(meta.get("labels"))
    for key, value in (meta.get("annotations") or {}).items():
        if not isinstance(value, str):
            yield f"annotation {key} is {value!r}, not text"
    for pod in pods_of(each):
        yield from label_rules(labels_of(pod))


def label_rules(labels):
    for key, value in (labels or {}).items():
        if not isinstance(key, str) or not LABEL_KEY.fullmatch(key):
            yield f"label key {key!r} is none"
        if not isinstance(value, str):
            yield f"label {key} is {value!r}, not text"
        elif len(value) > 63 or not LABEL_VALUE.fullmatch(value):
            yield f"label {key} must be at most 63 long and plain, is {value!r}"


def kind_rules(each, pods):
    kind, spec = each.get("kind"), each.get("spec") or {}
    if kind in POD_OWNERS and kind != "Job":
        selector = spec.get("selector", {}).get("matchLabels")
        if not matches(selector, labels_of(spec["template"])):
            yield "selector does not match the pod's labels"
        for key in ("app.kubernetes.io/version", "helm.sh/chart"):
            if key in (selector or {}):
                yield f"selector has {key}, which changes"
    if kind == "Service":
        yield from service_rules(spec, pods)
    if kind == "PodDisruptionBudget" and {"minAvailable", "maxUnavailable"} <= spec.keys():
        yield "has minAvailable and maxUnavailable"
    if kind == "PodDisruptionBudget" and not any(matches(spec["selector"]["matchLabels"], labels_of(pod)) for _, pod in pods):
        yield "selects no pod"
    if kind == "HorizontalPodAutoscaler" and spec.get("minReplicas", 1) > spec["maxReplicas"]:
        yield "minReplicas is more than maxReplicas"
    if kind == "ConfigMap":
        data = each.get("data") or {}
        yield from (f"key {key!r} is none" for key in data if not CONFIG_KEY.fullmatch(str(key)))
        yield from (f"data.{key} is not text" for key, value in data.items() if not isinstance(value, str))
        if sum(len(str(value).encode()) for value in data.values()) > 1 << 20:
            yield "is larger than 1 MiB"
    if kind == "NetworkPolicy":
        ports = [port.get("port") for way in ("ingress", "egress") for rule in spec.get(way) or [] for port in rule.get("ports") or []]
        yield from (f"port {port!r} is no port's name" for port in ports if isinstance(port, str) and not PORT_NAME.fullmatch(port))
        chosen = [pod for _, pod in pods if matches(spec["podSelector"].get("matchLabels"), labels_of(pod))]
        known = {port.get("name") for pod in chosen for container in containers(pod) for port in container.get("ports") or []}
        ingress = [port.get("port") for rule in spec.get("ingress") or [] for port in rule.get("ports") or []]
        yield from (f"port {port} is no port of its pods" for port in ingress if isinstance(port, str) and port not in known)
    if kind in ("ServiceMonitor", "PodMonitor"):
        chosen = [pod for _, pod in pods if matches(spec["selector"].get("matchLabels"), labels_of(pod))]
        known = {port.get("name") for pod in chosen for container in containers(pod) for port in container.get("ports") or []}
        for endpoint in spec.get("endpoints") or spec.get("podMetricsEndpoints") or []:
            if endpoint.get("port") not in known:
                yield f"port {endpoint.get('port')} is no port of what it selects"


def service_rules(spec, pods):
    ports = spec.get("ports") or []
    chosen = [pod for _, pod in pods if matches(spec.get("selector"), labels_of(pod))]
    if not chosen:
        yield "selects no pod"
    all_ports = [port for pod in chosen for container in containers(pod) for port in container.get("ports") or []]
    known = {port.get("name") for port in all_ports} | {port["containerPort"] for port in all_ports}
    if len(ports) > 1 and not all(port.get("name") for port in ports):
        yield "has several ports and not all of them have names"
    yield from (f"port {port} is there twice" for port, _ in duplicates((port["port"], port.get("protocol", "TCP")) for port in ports))
    yield from (f"port name {name} is there twice" for name in duplicates(port.get("name") for port in ports) if name)
    for port in ports:
        target = port.get("targetPort", port["port"])
        if isinstance(target, str) and (len(target) > 15 or not PORT_NAME.fullmatch(target)):
            yield f"targetPort {target!r} is no port's name"
        elif target not in known:
            yield f"targetPort {target} is no port of its pods"
        if "appProtocol" in port and not APP_PROTOCOL.fullmatch(str(port["appProtocol"])):
            yield f"appProtocol {port['appProtocol']!r} is none"


def containers(pod):
    spec = pod["spec"]
    return (spec.get("initContainers") or []) + (spec.get("containers") or [])


def pod_rules(pod, claims):
    spec = pod["spec"]
    grace = spec.get("terminationGracePeriodSeconds", 30)
    if grace < 0:
        yield "terminationGracePeriodSeconds is negative"
    volumes = [volume["name"] for volume in spec.get("volumes") or []]
    yield from (f"volume {name} is there twice" for name in duplicates(volumes))
    yield from (f"container {name} is there twice" for name in duplicates(each["name"] for each in containers(pod)))
    all_ports = [(port["containerPort"], port.get("protocol", "TCP")) for each in containers(pod) for port in each.get("ports") or []]
    yield from (f"containerPort {port} is there twice" for port, _ in duplicates(all_ports))
    port_names = [port["name"] for each in containers(pod) for port in each.get("ports") or [] if "name" in port]
    yield from (f"port name {name} is there twice" for name in duplicates(port_names))
    for each in spec.get("topologySpreadConstraints") or []:
        if each.get("maxSkew", 0) < 1:
            yield "maxSkew must be at least 1"
    for each in spec.get("initContainers") or []:
        is_sidecar = each.get("restartPolicy") == "Always"
        for key in ("startupProbe", "livenessProbe", "readinessProbe", "lifecycle"):
            if key in each and not is_sidecar:
                yield f"init container {each['name']} has {key} and no restartPolicy: Always"
    for each in containers(pod):
        yield from (f"container {each['name']}: {breach}" for breach in container_rules(each, volumes + claims, grace))


def container_rules(container, volumes, grace):
    for mount in container.get("volumeMounts") or []:
        if mount["name"] not in volumes:
            yield f"mounts {mount['name']}, which is no volume"
    paths = [mount["mountPath"] for mount in container.get("volumeMounts") or []]
    yield from (f"mounts twice at {path}" for path in duplicates(paths))
    names = [port.get("name") for port in container.get("ports") or []]
    for name in names:
        if name and (len(name) > 15 or not PORT_NAME.fullmatch(name)):
            yield f"port name {name!r} must be lower-case and at most 15 long"
    for key in ("startupProbe", "livenessProbe", "readinessProbe"):
        port = ((container.get(key) or {}).get("httpGet") or {}).get("port")
        if isinstance(port, str) and port not in names:
            yield f"{key} asks port {port}, which there is not"
    sleep = (((container.get("lifecycle") or {}).get("preStop") or {}).get("sleep") or {}).get("seconds", -1)
    if sleep >= grace:
        yield f"preStop sleeps for all of the grace period ({grace} s)"
    resources = container.get("resources") or {}
    for part in ("requests", "limits"):
        for kind, value in (resources.get(part) or {}).items():
            if amount(value) is None:
                yield f"{part}.{kind} {value!r} is no quantity"
    for kind, value in (resources.get("requests") or {}).items():
        most = amount((resources.get("limits") or {}).get(kind, "none"))
        if most is not None and (amount(value) or 0) > most:
            yield f"requests more {kind} than its limit"
    environment = container.get("env") or []
    yield from (f"variable {name} is there twice" for name in duplicates(each["name"] for each in environment))
    for each in environment:
        if not ENV_NAME.fullmatch(each["name"]):
            yield f"variable {each['name']!r} is no name"
        if not isinstance(each.get("value", ""), str):
            yield f"variable {each['name']} is not text"
        field = ((each.get("valueFrom") or {}).get("resourceFieldRef") or {}).get("resource")
        if field is not None and not FIELDS.fullmatch(field):
            yield f"resourceFieldRef {field!r} is none"


def mounted_keys(pod, objects):
    """Keys of ConfigMaps that are rendered too."""
    config_maps = {each["metadata"]["name"]: each.get("data") or {} for each in objects if each.get("kind") == "ConfigMap"}
    for volume in pod["spec"].get("volumes") or []:
        source = volume.get("configMap") or {}
        data = config_maps.get(source.get("name"))
        for item in source.get("items") or []:
            if data is not None and item["key"] not in data:
                yield f"mounts key {item['key']} of ConfigMap {source['name']}, which has it not"


def pod_security(pod):
    """The restricted Pod Security Standard, a read-only root and no token."""
    spec = pod["spec"]
    of_pod = spec.get("securityContext") or {}
    for key in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(key):
            yield f"has {key}"
    if any("hostPath" in volume for volume in spec.get("volumes") or []):
        yield "mounts a path of the host"
    for each in containers(pod):
        own = each.get("securityContext") or {}
        name = f"container {each['name']}"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{name} may gain privileges"
        if (own.get("capabilities") or {}).get("drop") != ["ALL"] or (own.get("capabilities") or {}).get("add"):
            yield f"{name} keeps capabilities"
        if not own.get("runAsNonRoot", of_pod.get("runAsNonRoot")):
            yield f"{name} may run as root"
        if own.get("runAsUser", of_pod.get("runAsUser")) == 0:
            yield f"{name} runs as root"
        profile = own.get("seccompProfile", of_pod.get("seccompProfile")) or {}
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name} has no seccomp profile"
        if not own.get("readOnlyRootFilesystem"):
            yield f"{name} can write to its root"
