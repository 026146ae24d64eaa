{{/*
Everything that is wrong with the values together, at once: values.schema.json has said what is wrong with each alone. Included by
every object that matters, for `helm template` must fail as well as `helm install`.
*/}}
{{- define "laggard.validate" -}}
{{- $config := fromYaml (include "laggard.config" .) -}}
{{- $problems := list -}}
{{- if $config.Error -}}
  {{- $problems = append $problems (printf "config: is not YAML after its templates were carried out: %s" $config.Error) -}}
{{- else -}}
  {{- $given := dict "root" . "config" $config "ports" (fromYaml (include "laggard.ports" .)) -}}
  {{- range $subject := list "destination" "secrets" "credentials" "ports" "pods" "end" "memory" "files" "collector" "loadBalancer" "settings" -}}
    {{- $problems = concat $problems (fromYaml (include (printf "laggard.problems.%s" $subject) $given)).problems -}}
  {{- end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n\nThese values do not work:\n  - %s\n" (join "\n  - " $problems)) -}}
{{- end -}}
{{- end }}

{{/*
Each of the following takes (dict "root" $ "config" (the configuration, as it is rendered) "ports" (without auto)), and gives
problems, a list, as YAML. What `laggard validate` knows is left to the program, which says it as a pod starts; what is here is
about several values of the chart, or is a mistake that many make.
*/}}
{{- define "laggard.problems.destination" -}}
{{- $v := .root.Values -}}
{{- $problems := list -}}
{{- $endpoint := toString (dig "export" "endpoint" "" .config) -}}
{{- if and $v.config $v.existingConfigMap -}}
  {{- $problems = append $problems "config and existingConfigMap: give one of them" -}}
{{- end -}}
{{- if and (not $v.existingConfigMap) (not $v.collector.enabled) (not $endpoint) (not $v.extraEnvsFrom) -}}
  {{- $names := list -}}
  {{- range $v.extraEnvs }}{{ $names = append $names .name }}{{ end -}}
  {{- if not (or (has "OTEL_EXPORTER_OTLP_ENDPOINT" $names) (has "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" $names)) -}}
    {{- $problems = append $problems "config.export.endpoint: say where traces go, such as http://otel-collector:4317, or set collector.enabled" -}}
  {{- end -}}
{{- end -}}

{{- /* What comes back. */ -}}
{{- $host := regexReplaceAll "^[a-z]+://" $endpoint "" -}}
{{- $host = regexReplaceAll "/.*$" $host "" -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $host) -}}
{{- $host = regexReplaceAll ":[0-9]+$" $host "" | lower -}}
{{- if regexMatch "^(127[.].*|0[.]0[.]0[.]0|localhost|\\[::1?\\])$" $host -}}
  {{- range $name, $own := .ports -}}
    {{- if eq $port (toString (int64 $own.containerPort)) -}}
      {{- $problems = append $problems (printf "config.export.endpoint: %s is Laggard's own, ports.%s.containerPort" $endpoint $name) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $own := include "laggard.fullname" .root -}}
{{- $namespace := include "laggard.namespace" .root -}}
{{- if ne $v.mode "sidecar-config" -}}
  {{- range $suffix := ternary (list "" "-headless" "-lb") (list "" "-headless") $v.routing.loadBalancer.enabled -}}
    {{- $service := printf "%s%s" $own $suffix -}}
    {{- if or (eq $host $service) (eq $host (printf "%s.%s" $service $namespace)) (hasPrefix (printf "%s.%s.svc" $service $namespace) $host) -}}
      {{- $problems = append $problems (printf "config.export.endpoint: %s is Laggard's own Service, so that spans would go round for ever" $endpoint) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}

{{- define "laggard.problems.ports" -}}
{{- $v := .root.Values -}}
{{- $problems := list -}}
{{- $config := .config -}}
{{- $seen := dict "13133" "the Collector's health check" "14317" "the Collector's receiver" -}}
{{- if not $v.collector.enabled }}{{ $seen = dict }}{{ end -}}
{{- $keys := dict "otlp" "receive.grpc.endpoint" "otlp-http" "receive.http.endpoint" "admin" "telemetry.admin.endpoint" -}}
{{- $addresses := dict "otlp" (dig "receive" "grpc" "endpoint" "" $config) "otlp-http" (dig "receive" "http" "endpoint" "" $config) "admin" (dig "telemetry" "admin" "endpoint" "" $config) -}}
{{- $loopback := "^(127[.]|\\[::1\\])" -}}
{{- if regexMatch $loopback $v.bindAddress -}}
  {{- $problems = append $problems (printf "bindAddress: %s is reached from the pod itself only, and senders and probes come from outside" $v.bindAddress) -}}
{{- end -}}
{{- range $name, $port := .ports -}}
  {{- $number := toString (int64 $port.containerPort) -}}
  {{- if hasKey $seen $number -}}
    {{- $problems = append $problems (printf "ports.%s.containerPort: %s is taken by %s" $name $number (get $seen $number)) -}}
  {{- end -}}
  {{- $_ := set $seen $number (printf "ports.%s" $name) -}}
  {{- $address := toString (get $addresses $name) -}}
  {{- if and (not $v.existingConfigMap) (not (contains "${env:" $address)) -}}
    {{- if ne (regexFind "[0-9]+$" $address) $number -}}
      {{- $problems = append $problems (printf "ports.%s.containerPort: is %s, and the configuration listens on %s" $name $number $address) -}}
    {{- end -}}
    {{- if and (or $port.enabled (eq $name "admin")) (regexMatch $loopback $address) (not (regexMatch $loopback $v.bindAddress)) -}}
      {{- $problems = append $problems (printf "config.%s: %s is reached from the pod itself only, and %s" (get $keys $name) $address (ternary "probes come from outside" (printf "ports.%s is enabled" $name) (eq $name "admin"))) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $served := dict -}}
{{- range $name, $port := .ports -}}
  {{- if $port.enabled -}}
    {{- $number := toString (int64 $port.servicePort) -}}
    {{- if hasKey $served $number -}}
      {{- $problems = append $problems (printf "ports.%s.servicePort: %s is taken by ports.%s" $name $number (get $served $number)) -}}
    {{- end -}}
    {{- $_ := set $served $number $name -}}
  {{- end -}}
{{- end -}}
{{- if and (ne $v.mode "sidecar-config") (not .ports.otlp.enabled) (not (get .ports "otlp-http").enabled) -}}
  {{- $problems = append $problems "ports.otlp.enabled and ports.otlp-http.enabled: without either of them nobody can send anything" -}}
{{- end -}}

{{- /* Probes. */ -}}
{{- $known := list "admin" -}}
{{- range $name, $port := .ports -}}
  {{- $known = append $known (toString (int64 $port.containerPort)) -}}
  {{- if $port.enabled }}{{ $known = append $known $name }}{{ end -}}
{{- end -}}
{{- range $key := list "startupProbe" "livenessProbe" "readinessProbe" -}}
  {{- with get $v $key -}}
    {{- $handlers := 0 -}}
    {{- range $kind, $handler := pick . "httpGet" "tcpSocket" "grpc" -}}
      {{- $handlers = add1 $handlers -}}
      {{- $port := get $handler "port" -}}
      {{- $port = kindIs "string" $port | ternary $port (toString (int64 $port)) -}}
      {{- if not (has $port $known) -}}
        {{- $problems = append $problems (printf "%s.%s.port: %s is no port that Laggard listens on (%s)" $key $kind $port (join ", " $known)) -}}
      {{- end -}}
    {{- end -}}
    {{- if ne (int64 $handlers) 1 -}}
      {{- $problems = append $problems (printf "%s: needs one of httpGet, tcpSocket and grpc" $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}

{{- define "laggard.problems.pods" -}}
{{- $v := .root.Values -}}
{{- $problems := list -}}
{{- $most := int64 (include "laggard.mostReplicas" .root) -}}
{{- if and (gt $most 1) (eq $v.mode "gateway") (not $v.routing.acknowledged) (not $v.routing.loadBalancer.enabled) -}}
  {{- $problems = append $problems "replicaCount: more than one pod splits traces, and names wrong services, unless spans are routed by trace ID; set routing.loadBalancer.enabled, or routing.acknowledged where something of yours does it" -}}
{{- end -}}
{{- if and (eq $v.mode "standalone") (or (ne (int64 $v.replicaCount) 1) $v.autoscaling.enabled) -}}
  {{- $problems = append $problems "replicaCount: mode standalone is one pod; use mode gateway for more" -}}
{{- end -}}
{{- if and $v.persistence.enabled (ne $v.mode "gateway") -}}
  {{- $problems = append $problems "persistence.enabled: a claim for each pod needs mode gateway" -}}
{{- end -}}
{{- range $v.autoscaling.additionalMetrics -}}
  {{- if or (eq (dig "resource" "name" "" .) "memory") (eq (dig "containerResource" "name" "" .) "memory") -}}
    {{- $problems = append $problems "autoscaling.additionalMetrics: memory says nothing about load, for it fills by design" -}}
  {{- end -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int64 $v.autoscaling.minReplicas) (int64 $v.autoscaling.maxReplicas)) -}}
  {{- $problems = append $problems "autoscaling.minReplicas: must be at most autoscaling.maxReplicas" -}}
{{- end -}}
{{- $labels := dict "additionalLabels" $v.additionalLabels "podLabels" $v.podLabels "routing.loadBalancer.podLabels" $v.routing.loadBalancer.podLabels "serviceMonitor.extraLabels" $v.serviceMonitor.extraLabels "podMonitor.extraLabels" $v.podMonitor.extraLabels "prometheusRule.extraLabels" $v.prometheusRule.extraLabels -}}
{{- range $from, $given := $labels -}}
  {{- range $key := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
    {{- if hasKey ($given | default dict) $key -}}
      {{- $problems = append $problems (printf "%s: %s is a label by which pods are selected; nameOverride and the release's name change it" $from $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled (not $v.ports.admin.enabled) -}}
  {{- $problems = append $problems "serviceMonitor.enabled: needs ports.admin.enabled, which it scrapes; or use podMonitor" -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled -}}
  {{- $problems = append $problems "serviceMonitor.enabled and podMonitor.enabled: every pod would be scraped twice; use one of them" -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}

{{- define "laggard.problems.end" -}}
{{- $v := .root.Values -}}
{{- $problems := list -}}
{{- if ne $v.mode "sidecar-config" -}}
  {{- $needed := int64 (include "laggard.neededGrace" .root) -}}
  {{- $grace := int64 (include "laggard.grace" .root) -}}
  {{- if and (lt $grace $needed) (not $v.allowShortGracePeriod) -}}
    {{- $problems = append $problems (printf "terminationGracePeriodSeconds: %d is less than the %d that draining takes (lifecycleHooks.preStop.sleep, config.shutdown, collector.drainSeconds, 5 to end), so that spans would be lost; allowShortGracePeriod takes it after all" $grace $needed) -}}
  {{- end -}}
  {{- $hook := get ($v.lifecycleHooks | default dict) "preStop" | default dict -}}
  {{- if and $hook (not (hasKey $hook "sleep")) (kindIs "invalid" $v.terminationGracePeriodSeconds) -}}
    {{- $problems = append $problems "lifecycleHooks.preStop: how long it takes can be told of sleep only; give terminationGracePeriodSeconds, with what it takes" -}}
  {{- end -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}

{{- define "laggard.problems.memory" -}}
{{- $v := .root.Values -}}
{{- $problems := list -}}
{{- $resources := $v.resources | default dict -}}
{{- $limits := $resources.limits | default dict -}}
{{- $limit := $limits.memory -}}
{{- $given := dig "memory_limit" "auto" .config -}}
{{- $own := include "laggard.sidecar.bytes" $given -}}
{{- if $limit -}}
  {{- $bytes := int64 (include "laggard.sidecar.bytes" $limit) -}}
  {{- if lt $bytes 67108864 -}}
    {{- $problems = append $problems (printf "resources.limits.memory: must be at least 64Mi, got %v" $limit) -}}
  {{- end -}}
  {{- if and $own (gt (int64 $own) $bytes) -}}
    {{- $problems = append $problems (printf "config.memory_limit: %v is more than resources.limits.memory (%v)" $given $limit) -}}
  {{- end -}}
  {{- with ($resources.requests | default dict).memory -}}
    {{- if gt (int64 (include "laggard.sidecar.bytes" .)) $bytes -}}
      {{- $problems = append $problems (printf "resources.requests.memory: %v is more than resources.limits.memory (%v)" . $limit) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and $own (lt (int64 $own) 16777216) -}}
  {{- $problems = append $problems (printf "config.memory_limit: must be at least 16MiB, got %v" $given) -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}

{{- define "laggard.problems.settings" -}}
{{- $problems := list -}}
{{- $whole := dig "assemble" "decision_wait" "30s" .config -}}
{{- $after := dig "assemble" "decision_wait_after_root_received" "10s" .config -}}
{{- $most := include "laggard.sidecar.milliseconds" $whole -}}
{{- $least := include "laggard.sidecar.milliseconds" $after -}}
{{- if and $most $least (gt (int64 $least) (int64 $most)) -}}
  {{- $problems = append $problems (printf "config.assemble.decision_wait_after_root_received: must be at most config.assemble.decision_wait (%v), got %v" $whole $after) -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}
