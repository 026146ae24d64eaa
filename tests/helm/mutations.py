"""T42: the chart broken in many ways, each of which the rows must notice."""

import shutil
import tempfile

import rendering as r

# File, what is there, what is put there.
MUTATIONS = [
    ("templates/_pod.tpl", "      restartPolicy: Always\n", ""),
    ("templates/_pod.tpl", "terminationGracePeriodSeconds: {{ include \"laggard.grace\" . }}", "terminationGracePeriodSeconds: 30"),
    ("templates/_pod.tpl", "automountServiceAccountToken: {{ .Values.serviceAccount.automount }}", "automountServiceAccountToken: true"),
    ("templates/statefulset.yaml", "-headless", ""),
    ("templates/statefulset.yaml", "{{- if not .Values.autoscaling.enabled }}", "{{- if true }}"),
    ("templates/statefulset.yaml", "podManagementPolicy: Parallel", "podManagementPolicy: OrderedReady"),
    ("templates/service-headless.yaml", "clusterIP: None", "type: ClusterIP"),
    ("templates/service.yaml", "targetPort: {{ $name }}", "targetPort: {{ int64 $port.servicePort }}"),
    ("templates/_validate.tpl", "(gt $most 1)", "(gt $most 10)"),
    ("templates/_validate.tpl", "(lt $grace $needed)", "(lt $grace 10)"),
    ("templates/_helpers.tpl", "trunc 50", "trunc 63"),
    ("templates/_helpers.tpl", "app.kubernetes.io/component: {{", "helm.sh/chart: {{"),
    ("templates/networkpolicy.yaml", "        - port: admin\n", "        - port: metrics\n"),
    ("templates/pdb.yaml", "maxUnavailable: {{ .Values.podDisruptionBudget.maxUnavailable }}", "maxUnavailable: 1\n  minAvailable: 1"),
    ("templates/servicemonitor.yaml", "port: admin", "port: metrics"),
    ("templates/prometheusrule.yaml", "expr: {{ $rule.expr | quote }}", "expression: {{ $rule.expr | quote }}"),
    ("templates/configmap-dashboards.yaml", "$.Files.Get $path", "$.Files.Get \"none\""),
    ("templates/hpa.yaml", "kind: StatefulSet", "kind: Deployment"),
    ("templates/NOTES.txt", "{{ $name }}.{{ $namespace }}:", "{{ $name }}:"),
    ("alerts.yaml", "laggard_queued_spans > 0", "laggard_waiting_spans > 0"),
    ("../laggard-lib/templates/_container.tpl", "readOnly: true", "readOnly: false"),
    ("../laggard-lib/templates/_container.tpl", "secretKeyRef", "configMapKeyRef"),
    ("../laggard-lib/templates/_config.tpl", "\"baseline\" (dict \"snapshot_file\" \"/var/lib/laggard/learned\")", "\"baseline\" (dict \"snapshot\" \"/var/lib/laggard/learned\")"),
    ("../laggard-lib/templates/_config.tpl", "$step := ternary 1024.0 1000.0", "$step := ternary 1000.0 1000.0"),
    ("../laggard-lib/templates/_defaults.tpl", "failureThreshold: 60", "failureThreshold: 6"),
    # Made later, by going through the templates without looking at the rows: of the first 23 the rows of then noticed 6.
    ("templates/_pod.tpl", "enableServiceLinks: false", "enableServiceLinks: true"),
    ("templates/_pod.tpl", '"priorityClassName" "runtimeClassName"', '"priorityClassName"'),
    ("templates/_pod.tpl", '"tolerations" "affinity"', '"affinity"'),
    ("templates/_pod.tpl", "--config=/etc/collector/config.yaml", "--config=/etc/collector/collector.yaml"),
    ("templates/_pod.tpl", 'include "laggard.collectorConfig" . | sha256sum', ".Release.Name | sha256sum"),
    ("templates/_pod.tpl", 'name: {{ include "laggard.fullname" . }}-collector', 'name: {{ include "laggard.fullname" . }}'),
    ("templates/_pod.tpl", "with .Values.podLabels", "with .Values.podAnnotations"),
    ("templates/_helpers.tpl", ".Values.namespaceOverride | default .Release.Namespace", ".Release.Namespace"),
    ("templates/_helpers.tpl", "(int64 .Values.collector.drainSeconds) 0 .Values.collector.enabled", "0 0 .Values.collector.enabled"),
    ("templates/_helpers.tpl", '"endpoint" "127.0.0.1:14317"', '"endpoint" "0.0.0.0:14317"'),
    ("templates/statefulset.yaml", "minReadySeconds: {{ int64 . }}", "minReadySeconds: 0"),
    ("templates/statefulset.yaml", ".Values.persistence.retentionPolicy", "dict \"whenDeleted\" \"Delete\" \"whenScaled\" \"Delete\""),
    ("templates/deployment.yaml", "type: Recreate", "type: RollingUpdate"),
    ("templates/hpa.yaml", "with .Values.autoscaling.behavior", "with .Values.autoscaling.scaling"),
    ("templates/service.yaml", "with $port.appProtocol", "with $port.protocol"),
    ("templates/networkpolicy.yaml", "        - port: 53\n          protocol: UDP\n", ""),
    ("templates/networkpolicy.yaml", "{{- if $.Values.routing.loadBalancer.enabled }}", "{{- if false }}"),
    ("templates/loadbalancer/configmap.yaml", "routing_key: traceID", "routing_key: service"),
    ("templates/loadbalancer/configmap.yaml", "{{ int64 .Values.ports.otlp.containerPort | quote }}", '"4318"'),
    ("templates/loadbalancer/deployment.yaml", 'include "laggard.loadBalancerConfig" . | sha256sum', ".Release.Name | sha256sum"),
    ("templates/loadbalancer/role.yaml", "verbs: [get, list, watch]", "verbs: [get]"),
    ("templates/prometheusrule.yaml", "for: {{ . }}", "for: 1h"),
    ("templates/tests/test-connection.yaml", "ports.admin.servicePort }}\n      resources", "ports.otlp.servicePort }}\n      resources"),
    ("../laggard-lib/templates/_container.tpl", "key: {{ $key | quote }}", "key: {{ $header | quote }}"),
    ("../laggard-lib/templates/_container.tpl", "mountPath: /etc/laggard-tls/exporter", "mountPath: /etc/laggard-tls/export"),
    ("../laggard-lib/templates/_container.tpl", "defaultMode: 0440", "defaultMode: 0400"),
    ("../laggard-lib/templates/_container.tpl", "key: {{ $v.existingConfigKey | quote }}", "key: config.yaml"),
    ("../laggard-lib/templates/_container.tpl", 'checksum/laggard-config: {{ include "laggard.sidecar.config" . | sha256sum }}', "checksum/laggard-config: {{ .root.Release.Name | sha256sum }}"),
    ("../laggard-lib/templates/_config.tpl", "$factor = 60000.0", "$factor = 6000.0"),
    ("../laggard-lib/templates/_config.tpl", '"cert_file" "/etc/laggard-tls/server/tls.crt"', '"cert_file" "/etc/laggard-tls/server/tls.key"'),
    ("../laggard-lib/templates/_config.tpl", '(or $port.enabled (eq $name "admin"))', "true"),
    ("../laggard-lib/templates/_config.tpl", "(ceil (divf", "(floor (divf"),
    ("../laggard-lib/templates/_config.tpl", "$sum := 5", "$sum := 0"),
    ("alerts.yaml", "> 0.5", "> 0.1"),
]  # fmt: skip


def survivors(make_context, rows):
    """The mutations that no row noticed."""
    found = []
    for file, before, after in MUTATIONS:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(r.ROOT / "helm", f"{folder}/helm", symlinks=True)
            chart, library = r.pathlib.Path(folder) / "helm/laggard", r.pathlib.Path(folder) / "helm/laggard-lib"
            target = chart / file
            text = target.read_text()
            assert before in text, f"{file} has no {before!r} any more"
            target.write_text(text.replace(before, after))
            kept = r.LIBRARY, r.CONSUMER
            r.LIBRARY, r.CONSUMER = library, library.parent / "examples/collector-with-laggard"
            try:
                if not any(fails(function, make_context(chart)) for function in rows):
                    found.append(f"{file}: {before.strip()} -> {after.strip()}")
            finally:
                r.LIBRARY, r.CONSUMER = kept
    return found


def fails(function, context):
    # A row that breaks over a broken chart has noticed it too.
    try:
        function(context)
    except Exception:
        return True
    return False
