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
    (("--set", "config.sample.healthy=150%"), ["sample", "healthy"]),
    (("--set", "config.sample.errors=100.5%"), ["sample", "errors"]),
    (("--set-string", "config.receive.max_request_size=64"), ["receive", "max_request_size"]),
    (("--set", "bindAddress=::"), ["bindAddress"]),
    (("--set", "bindAddress=localhost"), ["bindAddress"]),
    (("--set", "ports.otlp.enabled=maybe"), ["ports", "otlp", "enabled"]),
    (("--set", "ports.otlp.containerPort=any"), ["ports", "otlp", "containerPort"]),
]

COLLECTOR = (
    "--set", "collector.enabled=true",
    "--set", "collector.config.exporters.debug.verbosity=basic",
    "--set", "collector.config.service.pipelines.traces.exporters={debug}",
)  # fmt: skip

TWO = ("--set", "replicaCount=2", "--set", "routing.loadBalancer.enabled=true")
TLS = ("--set", "tls.server.existingSecret=own")
TO_HTTPS = ("--set", "config.export.endpoint=https://c:4317")
EXISTING = ("--set", "existingConfigMap=mine")

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
    ((*MINIMAL, "--set", "serviceMonitor.enabled=true", "--set", "podMonitor.enabled=true"), "every pod would be scraped twice"),
    # What would silently do nothing.
    ((*MINIMAL, "--set", "tls.server.clientCA=ca.crt"), "tls.server.clientCA: needs tls.server.existingSecret"),
    ((*TO_HTTPS, "--set", "tls.exporter.ca=ca.crt"), "tls.exporter.ca: needs tls.exporter.existingSecret"),
    ((*TO_HTTPS, "--set", "tls.exporter.existingSecret=s"), "tls.exporter.existingSecret: does nothing"),
    ((*TO_HTTPS, "--set", "tls.exporter.existingSecret=s", "--set", "tls.exporter.cert=tls.crt"), "tls.exporter.cert: needs tls.exporter.key"),
    ((*TO_HTTPS, "--set", "tls.exporter.existingSecret=s", "--set", "tls.exporter.key=tls.key"), "tls.exporter.key: needs tls.exporter.cert"),
    ((*MINIMAL, "--set", "tls.exporter.existingSecret=s", "--set", "tls.exporter.ca=ca.crt"), "tls.exporter.existingSecret: needs an https endpoint, and traces go to http://c:4317"),
    ((*MINIMAL, "--set", "secrets.existingSecret=s"), "secrets.existingSecret: does nothing unless secrets.headers"),
    ((*MINIMAL, "--set", "auth.key=tokens"), "auth.key: needs auth.existingSecret"),
    ((*COLLECTOR, "--set", "secrets.existingSecret=s", "--set", "secrets.headers.authorization=t"), "secrets.headers: would go to the Collector of the pod"),
    ((*MINIMAL, "--set", "secrets.existingSecret=s", "--set", "secrets.headers.x-api-key=k", "--set", "secrets.headers.x_api_key=k"), "secrets.headers: x-api-key and x_api_key would have one variable"),
    ((*EXISTING, *TLS), "tls.server.existingSecret: does nothing where existingConfigMap"),
    ((*EXISTING, "--set", "auth.existingSecret=s"), "auth.existingSecret: does nothing where existingConfigMap"),
    ((*EXISTING, "--set", "secrets.existingSecret=s", "--set", "secrets.headers.authorization=t"), "secrets.existingSecret: does nothing where existingConfigMap"),
    # The Collectors in front.
    ((*MINIMAL, *TWO, "--set", "auth.existingSecret=s"), "auth.existingSecret: with routing.loadBalancer.enabled it needs tls.server.existingSecret"),
    ((*MINIMAL, *TWO, *TLS, "--set", "tls.server.clientCA=ca.crt"), "tls.server.clientCA: with routing.loadBalancer.enabled it needs routing.loadBalancer.tls.existingSecret"),
    ((*MINIMAL, *TWO, "--set", "routing.loadBalancer.tls.existingSecret=s"), "routing.loadBalancer.tls.existingSecret: does nothing without"),
    ((*MINIMAL, *TWO, "--set", "routing.loadBalancer.tls.serverName=s"), "routing.loadBalancer.tls.serverName: does nothing without"),
    ((*MINIMAL, *TWO, "--set", "config.receive.auth.bearer_token_file=/var/lib/laggard/tokens"), "config.receive.auth.bearer_token_file: the Collectors of routing.loadBalancer.enabled know nothing of it"),
    # Credentials that would be in a ConfigMap.
    ((*MINIMAL, "--set", "config.export.headers.x-honeycomb-team=abc"), "config.export.headers.x-honeycomb-team: looks like a credential"),
    ((*MINIMAL, "--set", "config.export.headers.x-anything=Basic YTpi"), "config.export.headers.x-anything: looks like a credential"),
    ((*MINIMAL, "--set", "config.export.headers.x-anything=0123456789abcdef0123456789abcdef"), "config.export.headers.x-anything: looks like a credential"),
    (("--set", "config.export.endpoint=http://user:hunter2@c:4317"), "config.export.endpoint: looks like a credential"),
    ((*COLLECTOR, "--set", "collector.config.exporters.otlp_grpc.headers.x-api-key=abc"), "collector.config.exporters.otlp_grpc.headers.x-api-key: looks like a credential"),
    ((*COLLECTOR, "--set-json", 'collector.config.exporters.otlp_grpc.headers=[{"name": "Authorization", "value": "abc"}]'), "collector.config.exporters.otlp_grpc.headers[0]: looks like a credential"),
    ((*COLLECTOR, "--set", "collector.config.extensions.bearertokenauth.token=abc"), "collector.config.extensions.bearertokenauth.token: looks like a credential"),
    ((*COLLECTOR, "--set", "collector.config.exporters.datadog.api.key=abc"), "collector.config.exporters.datadog.api.key: looks like a credential"),
    ((*COLLECTOR, "--set", "collector.config.exporters.otlp_http.endpoint=https://a:b@c"), "collector.config.exporters.otlp_http.endpoint: looks like a credential"),
    # What only the pod itself reaches, and what nobody does.
    ((*MINIMAL, "--set", "bindAddress=127.0.0.1"), "bindAddress: 127.0.0.1 is reached from the pod itself only"),
    ((*MINIMAL, "--set", "bindAddress=[::1]"), "bindAddress: [::1] is reached from the pod itself only"),
    ((*MINIMAL, "--set", "config.telemetry.admin.endpoint=127.0.0.1:13134"), "config.telemetry.admin.endpoint: 127.0.0.1:13134 is reached from the pod itself only"),
    ((*MINIMAL, "--set", "config.receive.grpc.endpoint=127.0.0.1:4317"), "config.receive.grpc.endpoint: 127.0.0.1:4317 is reached from the pod itself only"),
    ((*MINIMAL, "--set", "ports.otlp.enabled=false", "--set", "ports.otlp-http.enabled=false"), "without either of them nobody can send"),
    ((*MINIMAL, "--set", "readinessProbe.httpGet.port=metrics"), "readinessProbe.httpGet.port: metrics is no port that Laggard listens on"),
    ((*MINIMAL, "--set", "livenessProbe.httpGet.port=13133"), "livenessProbe.httpGet.port: 13133 is no port that Laggard listens on"),
    ((*MINIMAL, "--set", "livenessProbe.tcpSocket.port=admin"), "livenessProbe: needs one of httpGet, tcpSocket and grpc"),
    # What the program would refuse as the pod starts.
    ((*MINIMAL, "--set", "config.memory_limit=1MiB"), "config.memory_limit: must be at least 16MiB, got 1MiB"),
    ((*MINIMAL, "--set", "config.assemble.decision_wait=5s"), "config.assemble.decision_wait_after_root_received: must be at most config.assemble.decision_wait (5s), got 10s"),
    ((*MINIMAL, "--set", "config.assemble.decision_wait=9900ms"), "config.assemble.decision_wait_after_root_received: must be at most"),
    (("--set", "config.export.endpoint=http://127.0.0.1:4317"), "config.export.endpoint: http://127.0.0.1:4317 is Laggard's own, ports.otlp.containerPort"),
    (("--set", "config.export.endpoint=http://localhost:13134"), "is Laggard's own, ports.admin.containerPort"),
    (("--set", "config.export.endpoint=http://rel-laggard:4317"), "http://rel-laggard:4317 is Laggard's own Service"),
    (("--set", "config.export.endpoint=http://rel-laggard-headless.default.svc.cluster.local:4317"), "is Laggard's own Service"),
    # The end.
    ((*MINIMAL, "--set", "lifecycleHooks.preStop.sleep.seconds=20", "--set", "terminationGracePeriodSeconds=49"), "49 is less than the 50"),
    ((*MINIMAL, "--set", "lifecycleHooks.preStop.httpGet.port=13134"), "lifecycleHooks.preStop: how long it takes can be told of sleep only"),
    # Labels.
    ((*MINIMAL, "--set", "podLabels.app\\.kubernetes\\.io/component=x"), "podLabels: app.kubernetes.io/component is a label by which pods are selected"),
    ((*MINIMAL, "--set", "additionalLabels.app\\.kubernetes\\.io/name=x"), "additionalLabels: app.kubernetes.io/name is a label by which pods are selected"),
]  # fmt: skip

# Values that are right, however much they look like those that are not.
TAKEN = [
    (*MINIMAL, "--set-string", "config.export.headers.x-api-key=${env:KEY}"),
    (*MINIMAL, "--set", "config.export.headers.x-scope-orgid=2f1c6d2e-6a0e-4b0f-9a39-0d6f4f0a8f11"),
    (*COLLECTOR, "--set-string", "collector.config.extensions.bearertokenauth.token=${env:TOKEN}", "--set", "collector.config.exporters.otlp_grpc.tls.key_file=/k"),
    (*MINIMAL, "--set", "config.assemble.decision_wait=10s"),
    (*MINIMAL, "--set", "config.memory_limit=16MiB"),
    (*MINIMAL, "--set", "config.sample.healthy=100%", "--set", "config.sample.errors=99.9 %"),
    (*MINIMAL, "--set", "livenessProbe.httpGet.port=13134", "--set", "readinessProbe.httpGet=null", "--set", "readinessProbe.tcpSocket.port=otlp"),
    (*MINIMAL, "--set", "lifecycleHooks.preStop.httpGet.port=13134", "--set", "terminationGracePeriodSeconds=60"),
    ("--set", "config.export.endpoint=http://laggard-collector:4317"),
    ("--set", "config.export.endpoint=http://127.0.0.1:24317"),
    (*MINIMAL, "--set", "resources.requests.memory=1Mi", "--set-json", "resources.limits.memory=1073741824"),
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
    (("--set", "image.tag=latest"), "image.tag latest"),
    (("--set", "config.assemble.decision_wait=40s"), "config.assemble.decision_wait is as long as the grace period"),
]  # fmt: skip
