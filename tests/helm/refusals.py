"""Values that must be refused, with a part of the message, and values that are warned of."""

MINIMAL = ("--set", "config.export.endpoint=http://c:4317")

# One value that is wrong by itself, and words of the schema's message: the key is among them.
WRONG = [
    (("--set", "reclicaCount=1"), ["reclicaCount"]),
    (("--set", "config.slow.tresholds=1s"), ["slow", "tresholds"]),
    (("--set", "config.slow.treshold=1s"), ["slow", "treshold"]),
    (("--set-json", 'config.slow.routes=[{"servise": "a", "threshold": "1s"}]'), ["routes", "servise"]),
    (("--set", "ports.otlp.port=1"), ["ports", "otlp", "port"]),
    (("--set", "replicaCount=many"), ["replicaCount"]),
    (("--set", "config.sample.healthy=5"), ["sample", "healthy"]),
    (("--set", "config.assemble.decision_wait=-5s"), ["decision_wait"]),
    (("--set", "config.assemble.decision_wait=30"), ["decision_wait"]),
    (("--set", "config.export.protocol=http/json"), ["protocol"]),
    (("--set", "config.assemble.on_overflow=drop"), ["on_overflow"]),
    (("--set-json", 'config.compare.max_spans="many"'), ["max_spans"]),
    (("--set", "resources.limits.memory=1GB"), ["resources", "limits", "memory"]),
    (("--set", "persistence.size=1 Gi"), ["persistence", "size"]),
    (("--set", "mode=daemonset"), ["mode"]),
    (("--set", "ports.otlp.containerPort=70000"), ["ports", "otlp", "containerPort"]),
    (("--set", "replicaCount=-1"), ["replicaCount"]),
    (("--set", "livenessProbe.httpget.path=/x"), ["livenessProbe", "httpget"]),
    (("--set", "livenessProbe.periodSeconds=often"), ["livenessProbe", "periodSeconds"]),
    (("--set", "image.digest=abc"), ["image", "digest"]),
    (("--set", "podDisruptionBudget.enabled=maybe"), ["podDisruptionBudget", "enabled"]),
    (("--set", "podAnnotations.a=1"), ["podAnnotations"]),
    (("--set", "terminationGracePeriodSeconds=-1"), ["terminationGracePeriodSeconds"]),
    (("--set", "fullnameOverride=Upper"), ["fullnameOverride"]),
    (("--set", "routing.loadBalancer.resolver=static"), ["resolver"]),
    (("--set", "thresholds.default=1s"), ["thresholds"]),
]

COLLECTOR = (
    "--set", "collector.enabled=true",
    "--set", "collector.config.exporters.debug.verbosity=basic",
    "--set", "collector.config.service.pipelines.traces.exporters={debug}",
)  # fmt: skip

# Values that are right alone and wrong together.
TOGETHER = [
    ((), "config.export.endpoint: say where traces go"),
    ((*MINIMAL, "--set", "replicaCount=2"), "replicaCount: more than one pod splits traces"),
    ((*MINIMAL, "--set", "autoscaling.enabled=true"), "replicaCount: more than one pod splits traces"),
    ((*MINIMAL, "--set", "mode=standalone", "--set", "replicaCount=2"), "mode standalone is one pod"),
    ((*MINIMAL, "--set", "mode=standalone", "--set", "replicaCount=0"), "mode standalone is one pod"),
    ((*MINIMAL, "--set", "existingConfigMap=mine"), "config and existingConfigMap: give one of them"),
    ((*MINIMAL, "--set", "terminationGracePeriodSeconds=29"), "29 is less than the 30 that draining takes"),
    ((*MINIMAL, "--set", "terminationGracePeriodSeconds=0"), "0 is less than the 30 that draining takes"),
    ((*MINIMAL, "--set", "config.shutdown.drain_timeout=1m", "--set", "terminationGracePeriodSeconds=60"), "60 is less than the 70"),
    ((*COLLECTOR, "--set", "terminationGracePeriodSeconds=44"), "44 is less than the 45"),
    ((*MINIMAL, "--set-string", "config.shutdown.delay=${env:DELAY}"), "config.shutdown.delay must be a duration"),
    ((*MINIMAL, "--set", "mode=standalone", "--set", "persistence.enabled=true"), "persistence.enabled: a claim for each pod needs mode gateway"),
    ((*MINIMAL, "--set", "mode=standalone", "--set", "routing.loadBalancer.enabled=true"), "routing.loadBalancer.enabled: needs mode gateway"),
    ((*MINIMAL, "--set", "routing.loadBalancer.enabled=true", "--set", "ports.otlp.enabled=false"), "needs ports.otlp.enabled"),
    ((*MINIMAL, "--set", "routing.acknowledged=true", "--set", "autoscaling.enabled=true", "--set-json", 'autoscaling.additionalMetrics=[{"type":"Resource","resource":{"name":"memory"}}]'), "memory says nothing about load"),
    ((*MINIMAL, "--set", "routing.acknowledged=true", "--set", "autoscaling.enabled=true", "--set", "autoscaling.minReplicas=11"), "autoscaling.minReplicas: must be at most"),
    ((*MINIMAL, "--set", "ports.otlp.containerPort=13134"), "ports.otlp.containerPort: 13134 is taken by ports.admin"),
    ((*MINIMAL, "--set", "ports.otlp.servicePort=4318"), "4318 is taken by ports.otlp"),
    ((*COLLECTOR, "--set", "ports.otlp.containerPort=14317"), "14317 is taken by the Collector's receiver"),
    ((*MINIMAL, "--set-string", "config.receive.grpc.endpoint=0.0.0.0:5555"), "ports.otlp.containerPort: is 4317, and the configuration listens on 0.0.0.0:5555"),
    ((*MINIMAL, "--set", "resources.limits.memory=63Mi", "--set", "resources.requests.memory=1Mi"), "resources.limits.memory: must be at least 64Mi"),
    ((*MINIMAL, "--set", "resources.limits.memory=500m", "--set", "resources.requests.memory=1m"), "resources.limits.memory: must be at least 64Mi"),
    ((*MINIMAL, "--set", "config.memory_limit=2GiB"), "config.memory_limit: 2GiB is more than resources.limits.memory (1Gi)"),
    ((*MINIMAL, "--set", "resources.requests.memory=2Gi"), "resources.requests.memory: 2Gi is more than"),
    ((*COLLECTOR, "--kube-version", "1.28.0"), "1.28.0"),
    ((*COLLECTOR, *MINIMAL), "config.export.endpoint: collector.enabled means the Collector of the same pod"),
    (("--set", "collector.enabled=true"), "collector.config.service.pipelines.traces.exporters: say where the Collector sends"),
    ((*COLLECTOR, "--set", "mode=sidecar-config"), "collector.enabled: mode sidecar-config has no pod"),
    ((*MINIMAL, "--set", "config.baseline.snapshot_file=/data/learned"), "config.baseline.snapshot_file: no volume is mounted"),
    ((*MINIMAL, "--set", "config.export.tls.ca_file=/ca/ca.crt"), "config.export.tls.ca_file: no volume is mounted"),
    ((*MINIMAL, "--set", "config.receive.tls.cert_file=/tls/tls.crt"), "config.receive.tls.cert_file: no volume is mounted"),
    ((*MINIMAL, "--set", "config.export.headers.x-api-key=abc"), "config.export.headers.x-api-key: looks like a credential"),
    ((*MINIMAL, "--set", "secrets.headers.x-api-key=key"), "secrets.headers: needs secrets.existingSecret"),
    ((*MINIMAL, "--set", "serviceMonitor.enabled=true", "--set", "ports.admin.enabled=false"), "serviceMonitor.enabled: needs ports.admin.enabled"),
]  # fmt: skip

# Values that work, with what NOTES says of them.
WARNED = [
    (("--set", "resources.limits=null"), "resources.limits.memory is not set"),
    (("--set", "config.telemetry.log.level=debug"), "config.telemetry.log.level is for debugging"),
    ((), "Traces leave the pod unencrypted, to http://c:4317"),
    (("--set", "config.export.tls.insecure_skip_verify=true"), "anybody can pose as the backend"),
    (("--set", "routing.acknowledged=true", "--set", "autoscaling.enabled=true"), "every change of the number of pods"),
    (("--set", "routing.acknowledged=true", "--set", "replicaCount=2", "--set-string", "podDisruptionBudget.enabled=false"), "podDisruptionBudget is off"),
    (("--set", "routing.acknowledged=true", "--set", "replicaCount=2"), "verdicts are wrong where spans of one trace"),
    (("--set", "networkPolicy.enabled=true"), "networkPolicy has no egressRules"),
    (("--set", "serviceMonitor.enabled=true"), "this cluster does not know ServiceMonitor"),
    (("--set", "serviceMonitor.enabled=true", "--set", "podMonitor.enabled=true"), "every pod is scraped twice"),
    (("--set", "image.tag=latest"), "image.tag latest"),
    (("--set", "config.assemble.decision_wait=40s"), "config.assemble.decision_wait is as long as the grace period"),
]  # fmt: skip
