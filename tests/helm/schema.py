"""Makes helm/laggard/values.schema.json: kinds from values.yaml, `config` from the program's own types.

schema.py LAGGARD [--check]: with --check nothing is written, and the exit code says whether the file is up to date.
"""

import json
import pathlib
import subprocess
import sys

import yaml

CHART = pathlib.Path(__file__).parents[2] / "helm/laggard"
FILE = CHART / "values.schema.json"

QUANTITY = {"type": ["string", "number"], "pattern": r"^[0-9]+(?:[.][0-9]+)?(?:m|[kMGTPE]i?|Ki|e[0-9]+)?$"}
RESOURCES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "requests": {"type": "object", "additionalProperties": QUANTITY},
        "limits": {"type": "object", "additionalProperties": QUANTITY},
        "claims": {"type": "array"},
    },
}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
COUNT = {"type": "integer", "minimum": 0}
AT_LEAST_ONE = {"type": "integer", "minimum": 1}
PROBE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **{handler: {"type": "object"} for handler in ("httpGet", "tcpSocket", "grpc")},
        **{
            number: COUNT
            for number in (
                "initialDelaySeconds",
                "periodSeconds",
                "timeoutSeconds",
                "successThreshold",
                "failureThreshold",
                "terminationGracePeriodSeconds",
            )
        },
    },
}
INTERVAL = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))*$"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
# An IP address as the program takes one before a port.
BIND_ADDRESS = {"type": "string", "pattern": r"^([0-9]{1,3}([.][0-9]{1,3}){3}|\[[0-9a-fA-F:.]+\])$"}
AUTO_PORT = {"anyOf": [PORT, {"const": "auto"}]}
AUTO_ENABLED = {"enum": ["auto", True, False]}
NAME_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$|^$"

# What a default's kind does not tell. Keys are paths; `*` is any name.
RULES = {
    "mode": {"enum": ["gateway", "standalone", "sidecar-config"]},
    "fullnameOverride": {"type": "string", "pattern": NAME_PATTERN},
    "nameOverride": {"type": "string", "pattern": NAME_PATTERN},
    "image.tag": {"type": ["string", "number"]},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "routing.loadBalancer.resolver": {"enum": ["dns", "k8s"]},
    "routing.loadBalancer.replicaCount": AT_LEAST_ONE,
    "replicaCount": COUNT,
    "collector.drainSeconds": COUNT,
    "secrets.headers": TEXTS,
    "serviceAccount.annotations": TEXTS,
    "podAnnotations": TEXTS,
    "podLabels": TEXTS,
    "additionalLabels": TEXTS,
    "annotations": TEXTS,
    "service.annotations": TEXTS,
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "headlessService.annotations": TEXTS,
    "podSecurityContext": {"type": "object"},
    "securityContext": {"type": "object"},
    "resources": RESOURCES,
    "startupProbe": PROBE,
    "livenessProbe": PROBE,
    "readinessProbe": PROBE,
    "bindAddress": BIND_ADDRESS,
    "ports.otlp.enabled": AUTO_ENABLED,
    "ports.otlp-http.enabled": AUTO_ENABLED,
    "ports.otlp.containerPort": AUTO_PORT,
    "ports.otlp-http.containerPort": AUTO_PORT,
    "containerPort": PORT,
    "servicePort": PORT,
    "terminationGracePeriodSeconds": {"type": ["integer", "null"], "minimum": 0},
    "minReadySeconds": COUNT,
    "persistence.size": QUANTITY,
    "persistence.emptyDirSizeLimit": QUANTITY,
    "persistence.retentionPolicy.whenDeleted": {"enum": ["Retain", "Delete"]},
    "persistence.retentionPolicy.whenScaled": {"enum": ["Retain", "Delete"]},
    "podDisruptionBudget.enabled": {"enum": ["auto", "true", "false", True, False]},
    "podDisruptionBudget.maxUnavailable": {"type": ["integer", "string"], "pattern": "^[0-9]+%$", "minimum": 0},
    "autoscaling.minReplicas": AT_LEAST_ONE,
    "autoscaling.maxReplicas": AT_LEAST_ONE,
    "autoscaling.targetCPUUtilizationPercentage": AT_LEAST_ONE,
    "autoscaling.behavior": {"type": "object"},
    "interval": INTERVAL,
    "extraLabels": TEXTS,
    "prometheusRule.defaultRules.additionalRuleLabels": TEXTS,
    "prometheusRule.defaultRules.additionalRuleAnnotations": TEXTS,
    "dashboards.annotations": TEXTS,
}

# What may be taken away by null; all else that is a section, a number, a choice or an address has to be there.
OPTIONAL = ("terminationGracePeriodSeconds", "resources", "securityContext", "podSecurityContext", "config")

# Keys that Helm itself puts beside ours: values for all charts, those of the library, and a parent's condition.
OF_HELM = {"global": {"type": "object"}, "laggard-lib": {"type": "object"}, "enabled": {"type": "boolean"}}


def derive(value, path=""):
    """The schema of a default."""
    name = path.rsplit(".", 1)[-1]
    parent = ".".join(path.split(".")[-2:])
    for key in (path, parent, name):
        if key in RULES:
            return RULES[key]
    if isinstance(value, dict) and value:
        properties = {key: derive(inner, f"{path}.{key}".lstrip(".")) for key, inner in value.items()}
        needed = sorted(key for key, inner in value.items() if needs_value(key, inner))
        return {"type": "object", "additionalProperties": False, "properties": properties, "required": needed}
    kinds = [(dict, "object"), (list, "array"), (bool, "boolean"), (int, "integer"), (str, "string")]
    return {"type": next(kind for python, kind in kinds if isinstance(value, python))}


def needs_value(key, default):
    """Whether templates cannot do without; a probe, a list, free keys and an empty text can be left out."""
    return default not in ({}, [], "") and key not in OPTIONAL and not key.endswith("Probe")


def for_chart(schema):
    """What may be a variable for the program may be a template for the chart, and null takes away what the chart sets."""
    if isinstance(schema, list):
        return [for_chart(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: for_chart(inner) for key, inner in schema.items()}
    if isinstance(made.get("pattern"), str):
        made["pattern"] = made["pattern"].replace(r"\$\{env:", r"\$\{env:|\{\{")
    if isinstance(made.get("type"), list):
        made["type"] = sorted({*made["type"], "null"})
    if isinstance(made.get("anyOf"), list):
        made["anyOf"].append({"type": "null"})
    return made


def build(laggard):
    """The whole schema as text."""
    own = json.loads(subprocess.run([laggard, "validate", "--schema"], check=True, capture_output=True).stdout)
    del own["$schema"]
    schema = derive(yaml.safe_load((CHART / "values.yaml").read_text()))
    schema["properties"].update(OF_HELM, config=for_chart(own))
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart laggard", **schema}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    made = build(sys.argv[1])
    if "--check" not in sys.argv:
        FILE.write_text(made)
    elif not FILE.exists() or FILE.read_text() != made:
        sys.exit("helm/laggard/values.schema.json is out of date; run tests/helm/run --bless")
