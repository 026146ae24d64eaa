{{/*
Everything that is wrong with the values together, at once: values.schema.json has said what is wrong with each alone. Included by
every object that matters, for `helm template` must fail as well as `helm install`.
*/}}
{{- define "laggard.validate" -}}
{{- $problems := list -}}
{{- $v := .Values -}}
{{- $most := int64 (include "laggard.mostReplicas" .) -}}
{{- $isSidecarConfig := eq $v.mode "sidecar-config" -}}
{{- $ownConfig := fromYaml (include "laggard.config" .) -}}
{{- if not (kindIs "map" $ownConfig) }}{{ $ownConfig = dict }}{{ end -}}
{{- if $ownConfig.Error }}{{ $problems = append $problems (printf "config: is not YAML after its templates were carried out: %s" $ownConfig.Error) }}{{ end -}}

{{- if and $v.config $v.existingConfigMap -}}
  {{- $problems = append $problems "config and existingConfigMap: give one of them" -}}
{{- end -}}
{{- if and (not $v.existingConfigMap) (not $v.collector.enabled) (not (dig "export" "endpoint" "" $ownConfig)) (not $v.extraEnvsFrom) -}}
  {{- $names := list -}}
  {{- range $v.extraEnvs }}{{ $names = append $names .name }}{{ end -}}
  {{- if not (or (has "OTEL_EXPORTER_OTLP_ENDPOINT" $names) (has "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" $names)) -}}
    {{- $problems = append $problems "config.export.endpoint: say where traces go, such as http://otel-collector:4317, or set collector.enabled" -}}
  {{- end -}}
{{- end -}}

{{- range $name, $value := dig "export" "headers" dict $v.config -}}
  {{- if and (regexMatch "(?i)auth|token|key|secret|cookie|password|credential" $name) (not (contains "${env:" (toString $value))) -}}
    {{- $problems = append $problems (printf "config.export.headers.%s: looks like a credential, which must not be in a ConfigMap; give it as secrets.headers, or as ${env:NAME}" $name) -}}
  {{- end -}}
{{- end -}}
{{- if and $v.secrets.headers (not $v.secrets.existingSecret) -}}
  {{- $problems = append $problems "secrets.headers: needs secrets.existingSecret, which has the values" -}}
{{- end -}}

{{- /* Ports and listeners. */ -}}
{{- $seen := dict "13133" "the Collector's health check" "14317" "the Collector's receiver" -}}
{{- if not $v.collector.enabled }}{{ $seen = dict }}{{ end -}}
{{- $addresses := dict "otlp" (dig "receive" "grpc" "endpoint" "" $ownConfig) "otlp-http" (dig "receive" "http" "endpoint" "" $ownConfig) "admin" (dig "telemetry" "admin" "endpoint" "" $ownConfig) -}}
{{- range $name, $port := $v.ports -}}
  {{- $number := toString (int64 $port.containerPort) -}}
  {{- if hasKey $seen $number -}}
    {{- $problems = append $problems (printf "ports.%s.containerPort: %s is taken by %s" $name $number (get $seen $number)) -}}
  {{- end -}}
  {{- $_ := set $seen $number (printf "ports.%s" $name) -}}
  {{- $address := get $addresses $name -}}
  {{- if and (not $v.existingConfigMap) (not (contains "${env:" $address)) (ne (regexFind "[0-9]+$" $address) $number) -}}
    {{- $problems = append $problems (printf "ports.%s.containerPort: is %s, and the configuration listens on %s" $name $number $address) -}}
  {{- end -}}
{{- end -}}
{{- $served := dict -}}
{{- range $name, $port := $v.ports -}}
  {{- if $port.enabled -}}
    {{- $number := toString (int64 $port.servicePort) -}}
    {{- if hasKey $served $number -}}
      {{- $problems = append $problems (printf "ports.%s.servicePort: %s is taken by ports.%s" $name $number (get $served $number)) -}}
    {{- end -}}
    {{- $_ := set $served $number $name -}}
  {{- end -}}
{{- end -}}

{{- /* Whole traces at each pod. */ -}}
{{- if and (gt $most 1) (eq $v.mode "gateway") (not $v.routing.acknowledged) (not $v.routing.loadBalancer.enabled) -}}
  {{- $problems = append $problems "replicaCount: more than one pod splits traces, and names wrong services, unless spans are routed by trace ID; set routing.loadBalancer.enabled, or routing.acknowledged where something of yours does it" -}}
{{- end -}}
{{- if and (eq $v.mode "standalone") (or (ne (int64 $v.replicaCount) 1) $v.autoscaling.enabled) -}}
  {{- $problems = append $problems "replicaCount: mode standalone is one pod; use mode gateway for more" -}}
{{- end -}}
{{- if and $v.persistence.enabled (ne $v.mode "gateway") -}}
  {{- $problems = append $problems "persistence.enabled: a claim for each pod needs mode gateway" -}}
{{- end -}}
{{- if and $v.routing.loadBalancer.enabled (ne $v.mode "gateway") -}}
  {{- $problems = append $problems "routing.loadBalancer.enabled: needs mode gateway" -}}
{{- end -}}
{{- if and $v.routing.loadBalancer.enabled (not $v.ports.otlp.enabled) -}}
  {{- $problems = append $problems "routing.loadBalancer.enabled: needs ports.otlp.enabled, which it sends to" -}}
{{- end -}}
{{- range $v.autoscaling.additionalMetrics -}}
  {{- if or (eq (dig "resource" "name" "" .) "memory") (eq (dig "containerResource" "name" "" .) "memory") -}}
    {{- $problems = append $problems "autoscaling.additionalMetrics: memory says nothing about load, for it fills by design" -}}
  {{- end -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int64 $v.autoscaling.minReplicas) (int64 $v.autoscaling.maxReplicas)) -}}
  {{- $problems = append $problems "autoscaling.minReplicas: must be at most autoscaling.maxReplicas" -}}
{{- end -}}

{{- /* The end. */ -}}
{{- if not $isSidecarConfig -}}
  {{- $needed := int64 (include "laggard.neededGrace" .) -}}
  {{- $grace := int64 (include "laggard.grace" .) -}}
  {{- if and (lt $grace $needed) (not $v.allowShortGracePeriod) -}}
    {{- $problems = append $problems (printf "terminationGracePeriodSeconds: %d is less than the %d that draining takes (config.shutdown, collector.drainSeconds, 5 to end), so that spans would be lost; allowShortGracePeriod takes it after all" $grace $needed) -}}
  {{- end -}}
{{- end -}}

{{- /* Memory. */ -}}
{{- $limit := dig "limits" "memory" "" $v.resources -}}
{{- if $limit -}}
  {{- $bytes := int64 (include "laggard.sidecar.bytes" $limit) -}}
  {{- if lt $bytes 67108864 -}}
    {{- $problems = append $problems (printf "resources.limits.memory: must be at least 64Mi, got %v" $limit) -}}
  {{- end -}}
  {{- $own := include "laggard.sidecar.bytes" (dig "memory_limit" "auto" $ownConfig) -}}
  {{- if and $own (gt (int64 $own) $bytes) -}}
    {{- $problems = append $problems (printf "config.memory_limit: %v is more than resources.limits.memory (%v)" (dig "memory_limit" "" $ownConfig) $limit) -}}
  {{- end -}}
{{- end -}}
{{- range $kind, $request := dig "requests" dict $v.resources -}}
  {{- $most := dig "limits" $kind "" $v.resources -}}
  {{- if and $most (eq $kind "memory") (gt (int64 (include "laggard.sidecar.bytes" $request)) (int64 (include "laggard.sidecar.bytes" $most))) -}}
    {{- $problems = append $problems (printf "resources.requests.memory: %v is more than resources.limits.memory (%v)" $request $most) -}}
  {{- end -}}
{{- end -}}

{{- /* Files that must be mounted. */ -}}
{{- $tls := list (list "receive.tls.cert_file" (dig "receive" "tls" "cert_file" "" $ownConfig)) (list "receive.tls.key_file" (dig "receive" "tls" "key_file" "" $ownConfig)) (list "receive.tls.client_ca_file" (dig "receive" "tls" "client_ca_file" "" $ownConfig)) (list "receive.auth.bearer_token_file" (dig "receive" "auth" "bearer_token_file" "" $ownConfig)) (list "export.tls.ca_file" (dig "export" "tls" "ca_file" "" $ownConfig)) (list "export.tls.cert_file" (dig "export" "tls" "cert_file" "" $ownConfig)) (list "export.tls.key_file" (dig "export" "tls" "key_file" "" $ownConfig)) (list "baseline.snapshot_file" (dig "baseline" "snapshot_file" "" $ownConfig)) -}}
{{- $mounts := list "/etc/laggard" "/var/lib/laggard" -}}
{{- if $v.tls.server.existingSecret }}{{ $mounts = append $mounts "/etc/laggard-tls/server" }}{{ end -}}
{{- if $v.tls.exporter.existingSecret }}{{ $mounts = append $mounts "/etc/laggard-tls/exporter" }}{{ end -}}
{{- if $v.auth.existingSecret }}{{ $mounts = append $mounts "/etc/laggard-auth" }}{{ end -}}
{{- range $v.extraVolumeMounts }}{{ $mounts = append $mounts (trimSuffix "/" .mountPath) }}{{ end -}}
{{- range $tls -}}
  {{- $file := index . 1 -}}
  {{- $isMounted := false -}}
  {{- range $mount := $mounts }}{{ if hasPrefix (printf "%s/" $mount) $file }}{{ $isMounted = true }}{{ end }}{{ end -}}
  {{- if and $file (not $isMounted) (not $isSidecarConfig) (not (contains "${env:" $file)) -}}
    {{- $problems = append $problems (printf "config.%s: no volume is mounted where %s is; use tls, auth or extraVolumes with extraVolumeMounts" (index . 0) $file) -}}
  {{- end -}}
{{- end -}}

{{- /* The Collector behind. */ -}}
{{- if $v.collector.enabled -}}
  {{- $collector := fromYaml (include "laggard.collectorConfig" .) -}}
  {{- if and $v.config (dig "export" "endpoint" "" $v.config) -}}
    {{- $problems = append $problems "config.export.endpoint: collector.enabled means the Collector of the same pod; give one of them" -}}
  {{- end -}}
  {{- if not (dig "service" "pipelines" "traces" "exporters" list $collector) -}}
    {{- $problems = append $problems "collector.config.service.pipelines.traces.exporters: say where the Collector sends traces to, and give it collector.config.exporters" -}}
  {{- end -}}
  {{- if semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version -}}
    {{- $problems = append $problems "collector.enabled: needs Kubernetes 1.29, which has native sidecars" -}}
  {{- end -}}
  {{- if $isSidecarConfig -}}
    {{- $problems = append $problems "collector.enabled: mode sidecar-config has no pod to put it in" -}}
  {{- end -}}
{{- end -}}

{{- if and $v.serviceMonitor.enabled (not $v.ports.admin.enabled) -}}
  {{- $problems = append $problems "serviceMonitor.enabled: needs ports.admin.enabled, which it scrapes; or use podMonitor" -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n\nThese values do not work:\n  - %s\n" (join "\n  - " $problems)) -}}
{{- end -}}
{{- end }}

{{/* What works and is worth a thought; a list as YAML. */}}
{{- define "laggard.warnings" -}}
{{- $v := .Values -}}
{{- $config := fromYaml (include "laggard.config" .) -}}
{{- $warnings := list -}}
{{- if not (dig "limits" "memory" "" $v.resources) }}{{ $warnings = append $warnings "resources.limits.memory is not set: Laggard budgets 1 GiB, whatever the node has." }}{{ end -}}
{{- if has (dig "telemetry" "log" "level" "info" $config) (list "debug" "trace") }}{{ $warnings = append $warnings "config.telemetry.log.level is for debugging: it costs throughput." }}{{ end -}}
{{- $endpoint := dig "export" "endpoint" "" $config -}}
{{- if and (hasPrefix "http://" $endpoint) (not (regexMatch "^http://(127[.]|localhost|\\[::1\\])" $endpoint)) }}{{ $warnings = append $warnings (printf "Traces leave the pod unencrypted, to %s." $endpoint) }}{{ end -}}
{{- if dig "export" "tls" "insecure_skip_verify" false $config }}{{ $warnings = append $warnings "config.export.tls.insecure_skip_verify: anybody can pose as the backend." }}{{ end -}}
{{- if $v.autoscaling.enabled }}{{ $warnings = append $warnings "autoscaling: every change of the number of pods splits traces for about one decision_wait." }}{{ end -}}
{{- if and (gt (int64 (include "laggard.mostReplicas" .)) 1) (not (include "laggard.pdbEnabled" .)) }}{{ $warnings = append $warnings "podDisruptionBudget is off: a drained node can take several pods at once." }}{{ end -}}
{{- if and (gt (int64 (include "laggard.mostReplicas" .)) 1) $v.routing.acknowledged (not $v.routing.loadBalancer.enabled) }}{{ $warnings = append $warnings "routing.acknowledged: verdicts are wrong where spans of one trace reach different pods." }}{{ end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.egressRules) }}{{ $warnings = append $warnings "networkPolicy has no egressRules, so that it does not limit egress." }}{{ end -}}
{{- range $kind := list "ServiceMonitor" "PodMonitor" "PrometheusRule" -}}
{{- if and (get $v (untitle $kind)).enabled (not ($.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind))) }}{{ $warnings = append $warnings (printf "%s is enabled, and this cluster does not know %s." (untitle $kind) $kind) }}{{ end -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled }}{{ $warnings = append $warnings "serviceMonitor and podMonitor are both enabled: every pod is scraped twice." }}{{ end -}}
{{- if eq (toString $v.image.tag) "latest" }}{{ $warnings = append $warnings "image.tag latest changes without a rollout, and a rollout changes it without notice." }}{{ end -}}
{{- if ne $v.mode "sidecar-config" -}}
{{- $wait := include "laggard.sidecar.seconds" (dig "assemble" "decision_wait" "30s" $config) -}}
{{- if and $wait (ge (int64 $wait) (int64 (include "laggard.grace" .))) }}{{ $warnings = append $warnings "config.assemble.decision_wait is as long as the grace period: at the end of a pod, traces are decided with the spans that have come." }}{{ end -}}
{{- end -}}
{{- if $v.existingConfigMap }}{{ $warnings = append $warnings "existingConfigMap: its listeners must be those of ports, and its changes need a rollout of yours." }}{{ end -}}
{{- toYaml (dict "warnings" $warnings) -}}
{{- end }}
