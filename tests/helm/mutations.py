"""T42: the chart broken in many ways, each of which the rows must notice."""

import shutil
import tempfile

import refusals
import rendering as r

# File, what is there, what is put there; and the row that is asked first, or words of the refusal that is looked for first.
MUTATIONS = [
    ("templates/_pod.tpl", "      restartPolicy: Always\n", "", "D1-D13"),
    ("templates/_pod.tpl", "terminationGracePeriodSeconds: {{ include \"laggard.grace\" . }}", "terminationGracePeriodSeconds: 30", "D1-D13"),
    ("templates/_pod.tpl", "automountServiceAccountToken: {{ .Values.serviceAccount.automount }}", "automountServiceAccountToken: true", "T28"),
    ("templates/statefulset.yaml", "-headless", "", "T36"),
    ("templates/statefulset.yaml", "{{- if not .Values.autoscaling.enabled }}", "{{- if true }}", "D1-D13"),
    ("templates/statefulset.yaml", "podManagementPolicy: Parallel", "podManagementPolicy: OrderedReady", "T36"),
    ("templates/service-headless.yaml", "clusterIP: None", "type: ClusterIP", "D1-D13"),
    ("templates/service.yaml", "targetPort: {{ $name }}", "targetPort: {{ int64 $port.servicePort }}", "D1-D13"),
    ("templates/_validate.tpl", "(gt $most 1)", "(gt $most 10)", "more than one pod splits"),
    ("templates/_validate.tpl", "(lt $grace $needed)", "(lt $grace 10)", "29 is less than"),
    ("templates/_helpers.tpl", "trunc 50", "trunc 63", "T9"),
    ("templates/_helpers.tpl", "app.kubernetes.io/component: {{", "helm.sh/chart: {{", "T36"),
    ("templates/networkpolicy.yaml", "        - port: admin\n", "        - port: metrics\n", "T10"),
    ("templates/pdb.yaml", "maxUnavailable: {{ .Values.podDisruptionBudget.maxUnavailable }}", "maxUnavailable: 1\n  minAvailable: 1", "T10"),
    ("templates/servicemonitor.yaml", "port: admin", "port: metrics", "T10"),
    ("templates/prometheusrule.yaml", "expr: {{ $rule.expr | quote }}", "expression: {{ $rule.expr | quote }}", "T5"),
    ("templates/configmap-dashboards.yaml", "$.Files.Get $path", "$.Files.Get \"none\"", "T31"),
    ("templates/hpa.yaml", "kind: StatefulSet", "kind: Deployment", "T10"),
    ("templates/NOTES.txt", "{{ $service }}.{{ $namespace }}:", "{{ $service }}:", "T35"),
    ("alerts.yaml", "laggard_queued_spans > 0", "laggard_waiting_spans > 0", "T31"),
    ("../laggard-lib/templates/_container.tpl", "readOnly: true", "readOnly: false", "FILES"),
    ("../laggard-lib/templates/_container.tpl", "secretKeyRef", "configMapKeyRef", "FILES"),
    ("../laggard-lib/templates/_config.tpl", "\"baseline\" (dict \"snapshot_file\" \"/var/lib/laggard/learned\")", "\"baseline\" (dict \"snapshot\" \"/var/lib/laggard/learned\")", "T12"),
    ("../laggard-lib/templates/_config.tpl", "$step := ternary 1024.0 1000.0", "$step := ternary 1000.0 1000.0", "must be at least 64Mi"),
    ("../laggard-lib/templates/_defaults.tpl", "failureThreshold: 60", "failureThreshold: 6", "T26"),
    # Made later, by going through the templates without looking at the rows: of the first 23 the rows of then noticed 6.
    ("templates/_pod.tpl", "enableServiceLinks: false", "enableServiceLinks: true", "REACH"),
    ("templates/_helpers.tpl", '"priorityClassName" "runtimeClassName"', '"priorityClassName"', "REACH"),
    ("templates/_helpers.tpl", '"tolerations" $root.Values.tolerations', '"tolerations" list', "REACH"),
    ("templates/_pod.tpl", "--config=/etc/collector/config.yaml", "--config=/etc/collector/collector.yaml", "FILES"),
    ("templates/_pod.tpl", 'include "laggard.collectorConfig" . | sha256sum', ".Release.Name | sha256sum", "ROLL"),
    ("templates/_pod.tpl", 'name: {{ include "laggard.fullname" . }}-collector', 'name: {{ include "laggard.fullname" . }}', "FILES"),
    ("templates/_helpers.tpl", "(list .of.podLabels)", "list", "REACH"),
    ("templates/_helpers.tpl", ".Values.namespaceOverride | default .Release.Namespace", ".Release.Namespace", "REACH"),
    ("templates/_helpers.tpl", "(int64 .Values.collector.drainSeconds) 0 .Values.collector.enabled", "0 0 .Values.collector.enabled", "GRACE"),
    ("templates/_helpers.tpl", '"endpoint" "127.0.0.1:14317"', '"endpoint" "0.0.0.0:14317"', "ROUTE"),
    ("templates/statefulset.yaml", "minReadySeconds: {{ int64 . }}", "minReadySeconds: 0", "REACH"),
    ("templates/statefulset.yaml", ".Values.persistence.retentionPolicy", "dict \"whenDeleted\" \"Delete\" \"whenScaled\" \"Delete\"", "REACH"),
    ("templates/deployment.yaml", "type: Recreate", "type: RollingUpdate", "REACH"),
    ("templates/hpa.yaml", "with .Values.autoscaling.behavior", "with .Values.autoscaling.scaling", "D1-D13"),
    ("templates/service.yaml", "with $port.appProtocol", "with $port.protocol", "REACH"),
    ("templates/networkpolicy.yaml", "    - port: 53\n      protocol: UDP\n", "", "WALLS"),
    ("templates/networkpolicy.yaml", "{{- if .Values.routing.loadBalancer.enabled }}", "{{- if false }}", "WALLS"),
    ("templates/loadbalancer/_config.tpl", '"routing_key" "traceID"', '"routing_key" "service"', "ROUTE"),
    ("templates/loadbalancer/_config.tpl", '"port" (toString $port)', '"port" "4318"', "ROUTE"),
    ("templates/loadbalancer/deployment.yaml", 'include "laggard.loadBalancerConfig" . | sha256sum', ".Release.Name | sha256sum", "ROLL"),
    ("templates/loadbalancer/role.yaml", "verbs: [get, list, watch]", "verbs: [get]", "ROUTE"),
    ("templates/prometheusrule.yaml", "for: {{ . }}", "for: 1h", "T30"),
    ("templates/tests/test-connection.yaml", "ports.admin.servicePort }}\n      resources", "ports.otlp.servicePort }}\n      resources", "ROUTE"),
    ("../laggard-lib/templates/_container.tpl", "key: {{ $key | quote }}", "key: {{ $header | quote }}", "FILES"),
    ("../laggard-lib/templates/_container.tpl", "mountPath: /etc/laggard-tls/exporter", "mountPath: /etc/laggard-tls/export", "FILES"),
    ("../laggard-lib/templates/_container.tpl", "defaultMode: 0440", "defaultMode: 0400", "FILES"),
    ("../laggard-lib/templates/_container.tpl", "key: {{ $v.existingConfigKey | quote }}", "key: config.yaml", "REACH"),
    ("../laggard-lib/templates/_container.tpl", 'checksum/laggard-config: {{ include "laggard.sidecar.config" . | sha256sum }}', "checksum/laggard-config: {{ .root.Release.Name | sha256sum }}", "ROLL"),
    ("../laggard-lib/templates/_config.tpl", "$factor = 60000.0", "$factor = 6000.0", "GRACE"),
    ("../laggard-lib/templates/_config.tpl", '"cert_file" "/etc/laggard-tls/server/tls.crt"', '"cert_file" "/etc/laggard-tls/server/tls.key"', "FILES"),
    ("../laggard-lib/templates/_config.tpl", '(or $port.enabled (eq $name "admin"))', "true", "CLOSED"),
    ("../laggard-lib/templates/_config.tpl", "(ceil (divf", "(floor (divf", "GRACE"),
    ("../laggard-lib/templates/_config.tpl", "add 5 (int64 $sleep)", "add 0 (int64 $sleep)", "GRACE"),
    ("alerts.yaml", "> 0.5", "> 0.1", "T30"),
    # One for each rule that came with the Collectors in front that have TLS, and with what had been taken and did nothing.
    ("templates/loadbalancer/_config.tpl", '{{ $_ := set . "tls" $own }}', "", "TIER"),
    ("templates/loadbalancer/_config.tpl", '{{ $_ := set . "auth" (dict "authenticator" "bearertokenauth") }}', "", "TIER"),
    ("templates/loadbalancer/_config.tpl", '$_ := set $own "client_ca_file" ', '$_ := set $own "ca_file" ', "TIER"),
    ("templates/loadbalancer/_config.tpl", '"server_name_override" $name', '"insecure_skip_verify" true', "TIER"),
    ("templates/loadbalancer/_config.tpl", '"sending_queue" (dict "enabled" false)', '"sending_queue" (dict "enabled" true)', "TIER"),
    ("templates/loadbalancer/_config.tpl", 'list "metrics" "logs"', 'list "logs"', "TIER"),
    ("templates/loadbalancer/_config.tpl", '"routing_key" "resource"', '"routing_key" "service"', "TIER"),
    ("templates/loadbalancer/_config.tpl", '"max_recv_msg_size_mib"', '"read_buffer_size"', "TIER"),
    ("templates/loadbalancer/_config.tpl", '(dig "passthrough" $signal true $config)', "true", "TIER"),
    ("templates/loadbalancer/deployment.yaml", "defaultMode: 0440", "defaultMode: 0400", "TIER"),
    ("templates/loadbalancer/deployment.yaml", '"own" $balancer', '"own" .Values', "TIER"),
    ("templates/service.yaml", 'ternary $service.type "ClusterIP" .isUsed', "$service.type", "TIER"),
    ("templates/loadbalancer/service.yaml", '"annotations" .Values.service.annotations', "", "TIER"),
    ("templates/loadbalancer/service.yaml", '"admin") |', '"otlp-http") |', "TIER"),
    ("templates/loadbalancer/pdb.yaml", '"component" "loadbalancer") .)', '"component" "sidecar") .)', "TIER"),
    ("templates/loadbalancer/networkpolicy.yaml", "with .Values.networkPolicy.allowIngressFrom", "with list", "WALLS"),
    ("templates/loadbalancer/networkpolicy.yaml", '{{- include "laggard.egressToDNS" . | nindent 4 }}', "", "WALLS"),
    ("templates/loadbalancer/networkpolicy.yaml", "port: 6443", "port: 8443", "WALLS"),
    ("templates/networkpolicy.yaml", "{{- if $.Values.testFramework.enabled }}", "{{- if false }}", "WALLS"),
    ("templates/NOTES.txt", "port-forward {{ $workload }}", "port-forward service/{{ $name }}", "T35"),
    ("templates/NOTES.txt", 'pick (.Values.podSecurityContext | default dict) "fsGroup"', "dict", "T35"),
    ("templates/NOTES.txt", "terminationGracePeriodSeconds: {{ add 30 $grace }}", "terminationGracePeriodSeconds: 30", "T35"),
    ("templates/_helpers.tpl", '(ternary (add 10000 $usual) $usual $isBehind)', "$usual", "CLOSED"),
    ("templates/_helpers.tpl", '"enabled" (not $isBehind)', '"enabled" true', "CLOSED"),
    ("templates/_helpers.tpl", '(list .labels)', "list", "LABELS"),
    ("templates/_helpers.tpl", '"base" $labels "over" $selector', '"base" $selector "over" $labels', "T10"),
    ("templates/_helpers.tpl", ' "keepsNull" true', "", "T25"),
    ("../laggard-lib/templates/_defaults.tpl", "{{- if hasKey $base $key -}}", "{{- if false -}}", "T25"),
    ("../laggard-lib/templates/_config.tpl", "(int64 $sleep)", "0", "GRACE"),
    ("../laggard-lib/templates/_config.tpl", 'kindIs "float64" .', 'kindIs "map" .', "T34"),
    ("templates/_validate.tpl", '"secrets" "credentials"', '"credentials"', "tls.server.clientCA: needs"),
    ("templates/_validate.tpl", '"secrets" "credentials"', '"secrets"', "x-honeycomb-team"),
    ("templates/_validate.tpl", '{{- if regexMatch $loopback $v.bindAddress -}}', "{{- if false -}}", "bindAddress: 127"),
    ("templates/_validate.tpl", "(or $port.enabled (eq $name \"admin\"))", "false", "config.telemetry.admin.endpoint: 127"),
    ("templates/_validate.tpl", "(not .ports.otlp.enabled) (not (get", "false (not (get", "without either of them"),
    ("templates/_validate.tpl", "{{- if not (has $port $known) -}}", "{{- if false -}}", "metrics is no port"),
    ("templates/_validate.tpl", "{{- if ne (int64 $handlers) 1 -}}", "{{- if false -}}", "needs one of httpGet"),
    ("templates/_validate.tpl", "{{- if eq $port (toString (int64 $own.containerPort)) -}}", "{{- if false -}}", "own, ports.otlp"),
    ("templates/_validate.tpl", "(eq $host $service)", "false", "http://rel-laggard:4317 is"),
    ("templates/_validate.tpl", "(lt (int64 $own) 16777216)", "false", "at least 16MiB"),
    ("templates/_validate.tpl", "(gt (int64 $least) (int64 $most))", "false", "must be at most config.assemble.decision_wait (5s)"),
    ("templates/_validate.tpl", '(not (hasKey $hook "sleep"))', "false", "lifecycleHooks.preStop: how"),
    ("templates/_validate.tpl", "{{- if hasKey ($given | default dict) $key -}}", "{{- if false -}}", "podLabels: app"),
    ("templates/_validate.tpl", "and $v.serviceMonitor.enabled $v.podMonitor.enabled", "and false true", "scraped twice"),
    ("templates/_validate_secrets.tpl", "{{- if $v.existingConfigMap -}}", "{{- if false -}}", "auth.existingSecret: does nothing where"),
    ("../laggard-lib/templates/_problems.tpl", "{{- if and $server.clientCA (not $server.existingSecret) -}}", "{{- if false -}}", "tls.server.clientCA: needs"),
    ("../laggard-lib/templates/_problems.tpl", "{{- if and $name (not $exporter.existingSecret) -}}", "{{- if false -}}", "tls.exporter.ca: needs"),
    ("../laggard-lib/templates/_problems.tpl", "{{- if not (or $exporter.ca $exporter.cert $exporter.key) -}}", "{{- if false -}}", "tls.exporter.existingSecret: does nothing"),
    ("../laggard-lib/templates/_problems.tpl", "and (get $exporter $key) (not (get $exporter $other))", "and false true", "tls.exporter.cert: needs"),
    ("templates/_validate_secrets.tpl", '{{- if hasPrefix "http://" $endpoint -}}', "{{- if false -}}", "needs an https endpoint"),
    ("../laggard-lib/templates/_problems.tpl", "and $v.secrets.existingSecret (not $v.secrets.headers)", "and false true", "secrets.existingSecret: does nothing unless"),
    ("templates/_validate_secrets.tpl", "and $v.secrets.headers $v.collector.enabled", "and false true", "would go to the Collector"),
    ("../laggard-lib/templates/_problems.tpl", "{{- if hasKey $variables $variable -}}", "{{- if false -}}", "would have one variable"),
    ("templates/_validate_secrets.tpl", "|honeycomb-team", "", "x-honeycomb-team"),
    ("templates/_validate_secrets.tpl", "://[^/?#@ ]+@", "://none@", "config.export.endpoint: looks"),
    ("templates/_validate_secrets.tpl", "{24,}", "{64,}", "x-anything: looks"),
    ("templates/_validate_secrets.tpl", '(eq $key "headers")', "false", "headers.x-api-key: looks"),
    ("templates/_validate_secrets.tpl", '"template" "laggard.sidecar.problems"', '"template" "laggard.sidecar.values"', "tls.server.clientCA: needs"),
    ("../laggard-lib/templates/_config.tpl", "{{- if not .own -}}\n  {{- with (fromYaml", "{{- if false -}}\n  {{- with (fromYaml", "T26"),
    ("templates/_validate_collectors.tpl", "and $v.auth.existingSecret (not $v.tls.server.existingSecret)", "and false true", "auth.existingSecret: with"),
    ("templates/_validate_collectors.tpl", "and $v.tls.server.clientCA (not $balancer.tls.existingSecret)", "and false true", "tls.server.clientCA: with"),
    ("templates/_validate_collectors.tpl", "{{- if $file -}}", "{{- if false -}}", "know nothing of it"),
    ("templates/_validate_collectors.tpl", "{{- if and $balancer.tls.serverName (not", "{{- if and false (not", "serverName: does nothing"),
]  # fmt: skip


def survivors(make_context, rows):
    """The mutations that no row noticed; `rows` are functions by their numbers, in the order in which they are asked."""
    found = []
    for file, before, after, *first in MUTATIONS:
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
                asked = [rows.get(each) or refused_with(each) for each in first] + list(rows.values())
                if not any(fails(row, make_context(chart)) for row in asked):
                    found.append(f"{file}: {before.strip()} -> {after.strip()}")
            finally:
                r.LIBRARY, r.CONSUMER = kept
    return found


def refused_with(words):
    """The part of row T34 that has these words."""
    found = [(arguments, sentence) for arguments, sentence in refusals.TOGETHER if words in sentence]
    assert found, f"no refusal has {words!r}"

    def row(context):
        for arguments, sentence in found:
            assert sentence in r.refusal(context.helm, *arguments, chart=context.chart), sentence

    return row


def fails(function, context):
    # A row that breaks over a broken chart has noticed it too.
    try:
        function(context)
    except Exception:
        return True
    return False
