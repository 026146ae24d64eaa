{{/* What works and is worth a thought; a list as YAML. */}}
{{- define "laggard.warnings" -}}
{{- $v := .Values -}}
{{- $config := fromYaml (include "laggard.config" .) -}}
{{- $warnings := list -}}
{{- if not (dig "limits" "memory" "" ($v.resources | default dict)) }}{{ $warnings = append $warnings "resources.limits.memory is not set: Laggard budgets 1 GiB, whatever the node has." }}{{ end -}}
{{- if has (dig "telemetry" "log" "level" "info" $config) (list "debug" "trace") }}{{ $warnings = append $warnings "config.telemetry.log.level is for debugging: it costs throughput." }}{{ end -}}
{{- $endpoint := dig "export" "endpoint" "" $config -}}
{{- if and (hasPrefix "http://" $endpoint) (not (regexMatch "^http://(127[.]|localhost|\\[::1\\])" $endpoint)) }}{{ $warnings = append $warnings (printf "Traces leave the pod unencrypted, to %s." $endpoint) }}{{ end -}}
{{- if dig "export" "tls" "insecure_skip_verify" false $config }}{{ $warnings = append $warnings "config.export.tls.insecure_skip_verify: anybody can pose as the backend." }}{{ end -}}
{{- if $v.autoscaling.enabled }}{{ $warnings = append $warnings "autoscaling: every change of the number of pods splits traces for about one decision_wait." }}{{ end -}}
{{- if and (gt (int64 (include "laggard.mostReplicas" .)) 1) (not (include "laggard.pdbEnabled" (dict "root" . "replicas" (include "laggard.mostReplicas" .)))) }}{{ $warnings = append $warnings "podDisruptionBudget is off: a drained node can take several pods at once." }}{{ end -}}
{{- if and (gt (int64 (include "laggard.mostReplicas" .)) 1) $v.routing.acknowledged (not $v.routing.loadBalancer.enabled) }}{{ $warnings = append $warnings "routing.acknowledged: verdicts are wrong where spans of one trace reach different pods." }}{{ end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.egressRules) }}{{ $warnings = append $warnings "networkPolicy has no egressRules, so that it does not limit egress." }}{{ end -}}
{{- if and (ne $v.service.type "ClusterIP") $v.ports.admin.enabled (not $v.routing.loadBalancer.enabled) }}{{ $warnings = append $warnings (printf "service.type %s: the admin port, which asks nobody who they are, is reached from outside too; ports.admin.enabled=false takes it out." $v.service.type) }}{{ end -}}
{{- range $kind := list "ServiceMonitor" "PodMonitor" "PrometheusRule" -}}
{{- if and (get $v (untitle $kind)).enabled (not ($.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind))) }}{{ $warnings = append $warnings (printf "%s is enabled, and this cluster does not know %s." (untitle $kind) $kind) }}{{ end -}}
{{- end -}}
{{- if eq (toString $v.image.tag) "latest" }}{{ $warnings = append $warnings "image.tag latest changes without a rollout, and a rollout changes it without notice." }}{{ end -}}
{{- if ne $v.mode "sidecar-config" -}}
{{- $wait := include "laggard.sidecar.seconds" (dig "assemble" "decision_wait" "30s" $config) -}}
{{- if and $wait (ge (int64 $wait) (int64 (include "laggard.grace" .))) }}{{ $warnings = append $warnings "config.assemble.decision_wait is as long as the grace period: at the end of a pod, traces are decided with the spans that have come." }}{{ end -}}
{{- end -}}
{{- if $v.existingConfigMap }}{{ $warnings = append $warnings "existingConfigMap: its listeners must be those of ports, and its changes need a rollout of yours." }}{{ end -}}
{{- if and $v.existingConfigMap $v.collector.enabled }}{{ $warnings = append $warnings "existingConfigMap: it must export to http://127.0.0.1:14317, where the pod's Collector is." }}{{ end -}}
{{- if and $v.existingConfigMap $v.routing.loadBalancer.enabled }}{{ $warnings = append $warnings "existingConfigMap: the Collectors in front send without TLS and without a token, and it must not ask for them." }}{{ end -}}
{{- toYaml (dict "warnings" $warnings) -}}
{{- end }}
