"""A broken manifest for each rule of checker.py, and one that is right."""

import copy

import checker

POD = {
    "metadata": {"labels": {"app": "a"}},
    "spec": {
        "terminationGracePeriodSeconds": 30,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [
            {
                "name": "i",
                "restartPolicy": "Always",
                "startupProbe": {"exec": {"command": ["a"]}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
        "containers": [
            {
                "name": "c",
                "ports": [{"name": "admin", "containerPort": 1}, {"name": "otlp", "containerPort": 2}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}],
                "livenessProbe": {"httpGet": {"port": "admin"}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "runAsUser": 1,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
        "volumes": [{"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}}],
        "topologySpreadConstraints": [{"maxSkew": 1}],
    },
}


def named(kind, name, **rest):
    return {"kind": kind, "metadata": {"name": name, "namespace": "n", "labels": {"app": "a"}}, **rest}


RIGHT = {
    "deployment": named("Deployment", "d", spec={"selector": {"matchLabels": {"app": "a"}}, "template": POD}),
    "service": named(
        "Service",
        "s",
        spec={
            "selector": {"app": "a"},
            "ports": [
                {"name": "otlp", "port": 2, "targetPort": "otlp", "appProtocol": "grpc"},
                {"name": "admin", "port": 1, "targetPort": "admin"},
            ],
        },
    ),
    "config": named("ConfigMap", "m", data={"k": "v"}),
    "budget": named("PodDisruptionBudget", "b", spec={"maxUnavailable": 1, "selector": {"matchLabels": {"app": "a"}}}),
    "scaler": named("HorizontalPodAutoscaler", "h", spec={"minReplicas": 1, "maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}),
    "policy": named(
        "NetworkPolicy", "p", spec={"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"ports": [{"port": "otlp"}]}]}
    ),
    "monitor": named(
        "PodMonitor", "mon", spec={"selector": {"matchLabels": {"app": "a"}}, "podMetricsEndpoints": [{"port": "admin"}]}
    ),
}

C = "deployment.spec.template.spec.containers.0"
P = "deployment.spec.template.spec"
MIB = "x" * ((1 << 20) + 1)

# Where, what is put there (None takes it away), and a part of what must be said.
BROKEN = [
    (f"{C}.volumeMounts.0.name", "w", "mounts w, which is no volume"),
    (f"{C}.ports.1.name", "a-name-too-long-x", "at most 15 long"),
    (f"{C}.ports.1.name", "Otlp", "must be lower-case"),
    (f"{C}.ports.1.name", "admin", "port name admin is there twice"),
    (f"{C}.resources.requests.memory", "3Gi", "requests more memory than its limit"),
    (f"{C}.resources.limits.memory", "1GB", "'1GB' is no quantity"),
    (f"{C}.resources.requests.memory", "512mi", "'512mi' is no quantity"),
    (f"{P}.initContainers.0.name", "c", "container c is there twice"),
    (f"{P}.initContainers.0.restartPolicy", None, "has startupProbe and no restartPolicy"),
    (f"{C}.lifecycle.preStop.sleep.seconds", 30, "preStop sleeps for all of the grace period"),
    ("service.metadata.labels.app", "x" * 64, "at most 63 long"),
    ("service.metadata.labels.app", True, "label app is True, not text"),
    ("service.metadata.annotations", {"a": 1}, "annotation a is 1, not text"),
    ("service.metadata.labels", {True: "a"}, "label key True is none"),
    ("service.metadata.name", "Upper", "must be lower-case"),
    ("service.metadata.name", "x" * 64, "at most 63 long"),
    ("service.metadata.namespace", None, "has no namespace"),
    (f"{C}.env.1.valueFrom.resourceFieldRef.resource", "limit.memory", "resourceFieldRef 'limit.memory' is none"),
    (f"{P}.topologySpreadConstraints.0.maxSkew", 0, "maxSkew must be at least 1"),
    ("budget.spec.minAvailable", 1, "has minAvailable and maxUnavailable"),
    ("budget.spec.selector.matchLabels.app", "b", "selects no pod"),
    ("scaler.spec.minReplicas", 3, "minReplicas is more than maxReplicas"),
    ("scaler.spec.scaleTargetRef.kind", "StatefulSet", "scales StatefulSet/d, which there is not"),
    ("service.spec.ports.0.targetPort", 80, "targetPort 80 is no port of its pods"),
    ("service.spec.ports.0.targetPort", "a-name-too-long-x", "is no port's name"),
    ("service.spec.ports.0.targetPort", "http", "targetPort http is no port of its pods"),
    ("service.spec.ports.0.appProtocol", "gr pc", "appProtocol 'gr pc' is none"),
    ("service.spec.ports.0.port", 1, "port 1 is there twice"),
    ("service.spec.ports.0.name", "admin", "port name admin is there twice"),
    ("service.spec.ports.0.name", None, "not all of them have names"),
    ("service.spec.selector.app", "b", "selects no pod"),
    ("config.data", {"a b": "v", "k": "v"}, "key 'a b' is none"),
    ("config.data", {"k": MIB}, "larger than 1 MiB"),
    ("config.data", {"k": 1}, "data.k is not text"),
    ("config.data", {"other": "v"}, "mounts key k of ConfigMap m, which has it not"),
    ("config.metadata.name", "Upper", "must be lower-case"),
    ("policy.spec.ingress.0.ports.0.port", "OTLP", "port 'OTLP' is no port's name"),
    ("policy.spec.ingress.0.ports.0.port", "http", "port http is no port of its pods"),
    ("monitor.spec.podMetricsEndpoints.0.port", "metrics", "port metrics is no port of what it selects"),
    ("deployment.spec.selector.matchLabels.app", "b", "selector does not match"),
    ("deployment.spec.selector.matchLabels", {"app": "a", "helm.sh/chart": "c"}, "selector does not match"),
    (f"{C}.livenessProbe.httpGet.port", "health", "livenessProbe asks port health, which there is not"),
    (f"{C}.ports.1.containerPort", 1, "containerPort 1 is there twice"),
    (f"{C}.env.1.name", "A", "variable A is there twice"),
    (f"{C}.env.0.name", "A B", "variable 'A B' is no name"),
    (f"{C}.env.0.value", 1, "variable A is not text"),
    (f"{P}.terminationGracePeriodSeconds", -1, "terminationGracePeriodSeconds is negative"),
    (f"{C}.securityContext.runAsUser", 0, "runs as root"),
    (f"{P}.securityContext.runAsNonRoot", None, "may run as root"),
    (f"{P}.securityContext.seccompProfile", None, "has no seccomp profile"),
    (f"{C}.securityContext.allowPrivilegeEscalation", None, "may gain privileges"),
    (f"{C}.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_PTRACE"]}, "keeps capabilities"),
    (f"{C}.securityContext.readOnlyRootFilesystem", False, "can write to its root"),
    (f"{P}.hostNetwork", True, "has hostNetwork"),
    (f"{P}.volumes.0", {"name": "v", "hostPath": {"path": "/"}}, "mounts a path of the host"),
    (f"{P}.volumes", [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}], "volume v is there twice"),
    (f"{C}.volumeMounts", [{"name": "v", "mountPath": "/v"}] * 2, "mounts twice at /v"),
]


def broken(path, value):
    """The right manifests with one thing changed."""
    whole = copy.deepcopy(RIGHT)
    *parents, last = path.split(".")
    at = whole
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at[key]
    last = int(last) if isinstance(at, list) else last
    if value is None:
        del at[last]
    else:
        at[last] = value
    return list(whole.values())


def problems():
    """What is wrong with the checker."""
    found = [f"the right manifest: {breach}" for breach in checker.check(list(RIGHT.values()))]
    for path, value, sentence in BROKEN:
        said = checker.check(broken(path, value))
        if not any(sentence in each for each in said):
            found.append(f"{path} = {str(value)[:40]!r}: nothing says {sentence!r}, but {said}")
    versioned = copy.deepcopy(RIGHT)
    versioned["deployment"]["spec"]["selector"]["matchLabels"]["helm.sh/chart"] = "c"
    if not any("which changes" in each for each in checker.check(list(versioned.values()))):
        found.append("nothing says that a selector has the chart's version")
    twice = list(RIGHT.values()) + [RIGHT["config"]]
    if not any("is there twice" in each for each in checker.check(twice)):
        found.append("nothing says that an object is there twice")
    long = copy.deepcopy(RIGHT)
    long["deployment"].update(kind="StatefulSet")
    long["deployment"]["metadata"]["name"] = "x" * 53
    if not any("at most 52 long" in each for each in checker.check(list(long.values()))):
        found.append("nothing says that a StatefulSet's name is too long for its revision label")
    return found


if __name__ == "__main__":
    raise SystemExit("\n".join(problems()) or 0)
