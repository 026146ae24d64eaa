{{/*
The configuration of the Collectors in front. What Laggard asks of senders they ask too, of the same Secrets: TLS, a client's
certificate, a token; and they show Laggard what it asks of them.
*/}}
{{- define "laggard.loadBalancerConfig" -}}
{{- $balancer := .Values.routing.loadBalancer -}}
{{- $config := fromYaml (include "laggard.config" .) -}}
{{- $folder := "/etc/laggard-tls" -}}
{{- /* A whole request as Laggard takes it; the Collector's own limits are lower. */ -}}
{{- $largest := int64 (include "laggard.sidecar.bytes" (dig "receive" "max_request_size" "64MiB" $config) | default 67108864) -}}
{{- $grpc := dict "endpoint" (printf "%s:4317" .Values.bindAddress) "max_recv_msg_size_mib" (max 1 (div (add $largest 1048575) 1048576)) -}}
{{- $http := dict "endpoint" (printf "%s:4318" .Values.bindAddress) "max_request_body_size" $largest -}}
{{- with dig "receive" "http" "cors" "allowed_origins" list $config }}{{ $_ := set $http "cors" (dict "allowed_origins" .) }}{{ end -}}
{{- $toLaggard := dict "insecure" true -}}
{{- $extensions := dict "health_check" (dict "endpoint" (printf "%s:13133" .Values.bindAddress)) -}}
{{- if .Values.tls.server.existingSecret -}}
  {{- $own := dict "cert_file" (printf "%s/server/tls.crt" $folder) "key_file" (printf "%s/server/tls.key" $folder) "reload_interval" "1m" -}}
  {{- /* The name in the certificate, for pods are found by their addresses. */ -}}
  {{- $name := $balancer.tls.serverName | default (printf "%s-lb.%s" (include "laggard.fullname" .) (include "laggard.namespace" .)) -}}
  {{- $toLaggard = dict "server_name_override" $name "reload_interval" "1m" -}}
  {{- with $balancer.tls.ca }}{{ $_ := set $toLaggard "ca_file" (printf "%s/server/%s" $folder .) }}{{ end -}}
  {{- with .Values.tls.server.clientCA -}}
    {{- $_ := set $own "client_ca_file" (printf "%s/server/%s" $folder .) -}}
    {{- $_ := set $own "client_ca_file_reload" true -}}
    {{- $_ := set $toLaggard "cert_file" (printf "%s/client/tls.crt" $folder) -}}
    {{- $_ := set $toLaggard "key_file" (printf "%s/client/tls.key" $folder) -}}
  {{- end -}}
  {{- range list $grpc $http }}{{ $_ := set . "tls" $own }}{{ end -}}
{{- end -}}
{{- $otlp := dict "tls" $toLaggard "compression" "none" "sending_queue" (dict "enabled" false) "retry_on_failure" (dict "enabled" false) -}}
{{- if .Values.auth.existingSecret -}}
  {{- $_ := set $extensions "bearertokenauth" (dict "filename" (printf "/etc/laggard-auth/%s" .Values.auth.key)) -}}
  {{- range list $grpc $http $otlp }}{{ $_ := set . "auth" (dict "authenticator" "bearertokenauth") }}{{ end -}}
{{- end -}}
{{- $port := int64 (fromYaml (include "laggard.ports" .)).otlp.containerPort -}}
{{- $host := printf "%s-headless.%s" (include "laggard.fullname" .) (include "laggard.namespace" .) -}}
{{- $resolver := dict "dns" (dict "hostname" $host "port" (toString $port) "interval" "5s") -}}
{{- if eq $balancer.resolver "k8s" }}{{ $resolver = dict "k8s" (dict "service" $host "ports" (list $port) "return_hostnames" true) }}{{ end -}}
{{- /* Queue and retries are those of the whole, not those for each pod, so that spans go to another pod where theirs is gone. */ -}}
{{- $common := dict "sending_queue" (dict "enabled" true) "retry_on_failure" (dict "enabled" true) "protocol" (dict "otlp" $otlp) "resolver" $resolver -}}
{{- $exporters := dict "load_balancing" (merge (dict "routing_key" "traceID") $common) -}}
{{- $pipelines := dict "traces" (dict "receivers" (list "otlp") "exporters" (list "load_balancing")) -}}
{{- /* What Laggard relays need not be whole anywhere. By resource, since by service what names none would be dropped. */ -}}
{{- range $signal := list "metrics" "logs" -}}
  {{- if ne (toString (dig "passthrough" $signal true $config)) "false" -}}
    {{- $_ := set $exporters "load_balancing/relayed" (merge (dict "routing_key" "resource") $common) -}}
    {{- $_ := set $pipelines $signal (dict "receivers" (list "otlp") "exporters" (list "load_balancing/relayed")) -}}
  {{- end -}}
{{- end -}}
{{- toYaml (dict
      "receivers" (dict "otlp" (dict "protocols" (dict "grpc" $grpc "http" $http)))
      "exporters" $exporters
      "extensions" $extensions
      "service" (dict "extensions" (keys $extensions | sortAlpha) "pipelines" $pipelines)) -}}
{{- end }}

{{/* What they mount: the name of a volume, its Secret, and where. */}}
{{- define "laggard.loadBalancerSecrets" -}}
{{- $tls := .Values.tls.server -}}
{{- $secrets := list -}}
{{- if $tls.existingSecret }}{{ $secrets = append $secrets (dict "volume" "tls-server" "secret" $tls.existingSecret "path" "/etc/laggard-tls/server") }}{{ end -}}
{{- if and $tls.existingSecret $tls.clientCA }}{{ $secrets = append $secrets (dict "volume" "tls-client" "secret" .Values.routing.loadBalancer.tls.existingSecret "path" "/etc/laggard-tls/client") }}{{ end -}}
{{- if .Values.auth.existingSecret }}{{ $secrets = append $secrets (dict "volume" "auth" "secret" .Values.auth.existingSecret "path" "/etc/laggard-auth") }}{{ end -}}
{{- toYaml (dict "secrets" $secrets) -}}
{{- end }}
