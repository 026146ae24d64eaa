{{/*
Laggard's configuration as YAML: what follows from the other values, and the user's `config` over it. Everything else has its
default in the program.
*/}}
{{- define "laggard.sidecar.config" -}}
{{- $v := fromYaml (include "laggard.sidecar.values" .) -}}
{{- if not .own -}}
  {{- with (fromYaml (include "laggard.sidecar.problems" .)).problems }}{{ fail (printf "\n\nThe values of Laggard do not work:\n  - %s\n" (join "\n  - " .)) }}{{ end -}}
{{- end -}}
{{- $address := dict -}}
{{- range $name, $port := $v.ports -}}
  {{- $ip := ternary $v.bindAddress "127.0.0.1" (or $port.enabled (eq $name "admin")) -}}
  {{- $_ := set $address $name (printf "%s:%d" $ip (int64 $port.containerPort)) -}}
{{- end -}}
{{- $receive := dict "grpc" (dict "endpoint" (get $address "otlp")) "http" (dict "endpoint" (get $address "otlp-http")) -}}
{{- $config := dict
      "receive" $receive
      "baseline" (dict "snapshot_file" "/var/lib/laggard/learned")
      "telemetry" (dict "admin" (dict "endpoint" (get $address "admin"))) -}}
{{- if $v.tls.server.existingSecret -}}
  {{- $tls := dict "cert_file" "/etc/laggard-tls/server/tls.crt" "key_file" "/etc/laggard-tls/server/tls.key" -}}
  {{- with $v.tls.server.clientCA }}{{- $_ := set $tls "client_ca_file" (printf "/etc/laggard-tls/server/%s" .) }}{{ end -}}
  {{- $_ := set $receive "tls" $tls -}}
{{- end -}}
{{- if $v.auth.existingSecret -}}
  {{- $_ := set $receive "auth" (dict "bearer_token_file" (printf "/etc/laggard-auth/%s" $v.auth.key)) -}}
{{- end -}}
{{- $export := dict -}}
{{- if $v.tls.exporter.existingSecret -}}
  {{- $tls := dict -}}
  {{- range $key := list "ca" "cert" "key" -}}
    {{- with get $v.tls.exporter $key }}{{- $_ := set $tls (printf "%s_file" $key) (printf "/etc/laggard-tls/exporter/%s" .) }}{{ end -}}
  {{- end -}}
  {{- $_ := set $export "tls" $tls -}}
{{- end -}}
{{- if $v.secrets.existingSecret -}}
  {{- $headers := dict -}}
  {{- range $header, $key := $v.secrets.headers -}}
    {{- $_ := set $headers $header (printf "${env:%s}" (include "laggard.sidecar.headerVariable" $header)) -}}
  {{- end -}}
  {{- if $headers }}{{- $_ := set $export "headers" $headers }}{{ end -}}
{{- end -}}
{{- if and $v.collector $v.collector.enabled -}}
  {{- $_ := set $export "endpoint" "http://127.0.0.1:14317" -}}
{{- end -}}
{{- if $export }}{{- $_ := set $config "export" $export }}{{ end -}}
{{- include "laggard.sidecar.merge" (dict "base" $config "over" (deepCopy ($v.config | default dict))) -}}
{{- if $v.configTpl -}}
{{- include "laggard.sidecar.tpl" (dict "root" .root "value" $config) -}}
{{- else -}}
{{- toYaml $config -}}
{{- end -}}
{{- end }}

{{/* The environment variable that carries a header's value from its Secret. */}}
{{- define "laggard.sidecar.headerVariable" -}}
LAGGARD_HEADER_{{ regexReplaceAll "[^A-Z0-9]" (upper .) "_" }}
{{- end }}

{{/* A duration of the configuration in whole seconds, rounded up; nothing where it is only known when the program runs. */}}
{{- define "laggard.sidecar.seconds" -}}
{{- $milliseconds := include "laggard.sidecar.milliseconds" . -}}
{{- if $milliseconds }}{{- int64 (ceil (divf (float64 $milliseconds) 1000.0)) -}}{{ end -}}
{{- end }}

{{/* The same in milliseconds. */}}
{{- define "laggard.sidecar.milliseconds" -}}
{{- $text := toString . -}}
{{- if eq $text "0" -}}
0
{{- else if regexMatch "^(?:[0-9]+(?:[.][0-9]+)? *(?:ms|millis|msec|s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hr|hrs|hour|hours) *)+$" $text -}}
  {{- $milliseconds := 0.0 -}}
  {{- range $part := regexFindAll "[0-9]+(?:[.][0-9]+)? *[a-z]+" $text -1 -}}
    {{- $number := float64 (regexFind "^[0-9.]+" $part) -}}
    {{- $unit := regexFind "[a-z]+$" $part -}}
    {{- $factor := 1.0 -}}
    {{- if has $unit (list "s" "sec" "secs" "second" "seconds") }}{{ $factor = 1000.0 }}{{ end -}}
    {{- if has $unit (list "m" "min" "mins" "minute" "minutes") }}{{ $factor = 60000.0 }}{{ end -}}
    {{- if has $unit (list "h" "hr" "hrs" "hour" "hours") }}{{ $factor = 3600000.0 }}{{ end -}}
    {{- $milliseconds = addf $milliseconds (mulf $number $factor) -}}
  {{- end -}}
  {{- int64 (ceil $milliseconds) -}}
{{- end -}}
{{- end }}

{{/*
A size in bytes: a Kubernetes quantity (512Mi, 1G, 500m) or a size of the configuration (512MiB, 1GB). Nothing for anything
else, such as a share or "auto".
*/}}
{{- define "laggard.sidecar.bytes" -}}
{{- $text := trim (toString .) -}}
{{- if or (kindIs "float64" .) (kindIs "int64" .) (kindIs "int" .) -}}
  {{- /* As text a large number of a values file would be 1.07e+09. */ -}}
  {{- int64 . -}}
{{- else if regexMatch "^[0-9]+(?:[.][0-9]+)?(?:e[0-9]+|m| *(?:[kKMGTPE]i?)?[bB]?)$" $text -}}
  {{- if contains "e" $text -}}
    {{- int64 (float64 $text) -}}
  {{- else -}}
    {{- $number := float64 (regexFind "^[0-9.]+" $text) -}}
    {{- $unit := regexFind "[a-zA-Z]*$" $text -}}
    {{- if eq $unit "m" -}}
      {{- int64 (divf $number 1000.0) -}}
    {{- else -}}
      {{- $powers := dict "K" 1 "M" 2 "G" 3 "T" 4 "P" 5 "E" 6 -}}
      {{- $step := ternary 1024.0 1000.0 (contains "i" $unit) -}}
      {{- range until (int (get $powers (upper (trunc 1 $unit)) | default 0)) -}}
        {{- $number = mulf $number $step -}}
      {{- end -}}
      {{- int64 $number -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/*
What a pod's grace period must leave Laggard: the sleep of preStop, for SIGTERM comes after it, the delay, the draining, and
five seconds to save and end. How long another preStop takes cannot be told.
*/}}
{{- define "laggard.sidecar.graceSeconds" -}}
{{- $v := fromYaml (include "laggard.sidecar.values" .) -}}
{{- $config := fromYaml (include "laggard.sidecar.config" .) -}}
{{- $shutdown := $config.shutdown | default dict -}}
{{- $hooks := dict -}}
{{- include "laggard.sidecar.merge" (dict "base" $hooks "over" ($v.lifecycleHooks | default dict)) -}}
{{- $sleep := dig "preStop" "sleep" "seconds" 0 $hooks -}}
{{- $sum := add 5 (int64 $sleep) -}}
{{- range $key, $default := dict "delay" "5s" "drain_timeout" "20s" -}}
  {{- $given := ternary (get $shutdown $key) $default (hasKey $shutdown $key) -}}
  {{- $seconds := include "laggard.sidecar.seconds" $given -}}
  {{- if eq $seconds "" }}{{ fail (printf "config.shutdown.%s must be a duration such as 10s, for the grace period is derived from it; got %v" $key $given) }}{{ end -}}
  {{- $sum = add $sum (int64 $seconds) -}}
{{- end -}}
{{- $sum -}}
{{- end }}
