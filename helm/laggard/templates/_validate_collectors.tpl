{{/* The Collectors: the one behind Laggard in its pod, and those in front. */}}
{{- define "laggard.problems.collector" -}}
{{- $v := .root.Values -}}
{{- $problems := list -}}
{{- if $v.collector.enabled -}}
  {{- $collector := fromYaml (include "laggard.collectorConfig" .root) -}}
  {{- if and $v.config (dig "export" "endpoint" "" .config | eq "http://127.0.0.1:14317" | not) -}}
    {{- $problems = append $problems "config.export.endpoint: collector.enabled means the Collector of the same pod; give one of them" -}}
  {{- end -}}
  {{- if not (dig "service" "pipelines" "traces" "exporters" list $collector) -}}
    {{- $problems = append $problems "collector.config.service.pipelines.traces.exporters: say where the Collector sends traces to, and give it collector.config.exporters" -}}
  {{- end -}}
  {{- if semverCompare "<1.29.0-0" .root.Capabilities.KubeVersion.Version -}}
    {{- $problems = append $problems "collector.enabled: needs Kubernetes 1.29, which has native sidecars" -}}
  {{- end -}}
  {{- if eq $v.mode "sidecar-config" -}}
    {{- $problems = append $problems "collector.enabled: mode sidecar-config has no pod to put it in" -}}
  {{- end -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}

{{- define "laggard.problems.loadBalancer" -}}
{{- $v := .root.Values -}}
{{- $balancer := $v.routing.loadBalancer -}}
{{- $problems := list -}}
{{- if $balancer.enabled -}}
  {{- if ne $v.mode "gateway" -}}
    {{- $problems = append $problems "routing.loadBalancer.enabled: needs mode gateway" -}}
  {{- end -}}
  {{- if not .ports.otlp.enabled -}}
    {{- $problems = append $problems "routing.loadBalancer.enabled: needs ports.otlp.enabled, which it sends to" -}}
  {{- end -}}
  {{- if and $v.auth.existingSecret (not $v.tls.server.existingSecret) -}}
    {{- $problems = append $problems "auth.existingSecret: with routing.loadBalancer.enabled it needs tls.server.existingSecret, for a Collector sends no token over a connection that anybody can read" -}}
  {{- end -}}
  {{- if and $v.tls.server.clientCA (not $balancer.tls.existingSecret) -}}
    {{- $problems = append $problems "tls.server.clientCA: with routing.loadBalancer.enabled it needs routing.loadBalancer.tls.existingSecret, whose tls.crt and tls.key the Collectors in front show Laggard" -}}
  {{- end -}}
  {{- $own := dict "receive.tls.cert_file" (and (not $v.tls.server.existingSecret) (dig "receive" "tls" "cert_file" "" .config)) "receive.tls.client_ca_file" (and (not $v.tls.server.clientCA) (dig "receive" "tls" "client_ca_file" "" .config)) "receive.auth.bearer_token_file" (and (not $v.auth.existingSecret) (dig "receive" "auth" "bearer_token_file" "" .config)) -}}
  {{- range $key, $file := $own -}}
    {{- if $file -}}
      {{- $problems = append $problems (printf "config.%s: the Collectors of routing.loadBalancer.enabled know nothing of it; use tls.server and auth" $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and $balancer.tls.existingSecret (not (and $balancer.enabled $v.tls.server.clientCA)) -}}
  {{- $problems = append $problems "routing.loadBalancer.tls.existingSecret: does nothing without routing.loadBalancer.enabled and tls.server.clientCA" -}}
{{- end -}}
{{- if and $balancer.tls.serverName (not (and $balancer.enabled $v.tls.server.existingSecret)) -}}
  {{- $problems = append $problems "routing.loadBalancer.tls.serverName: does nothing without routing.loadBalancer.enabled and tls.server.existingSecret" -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}
