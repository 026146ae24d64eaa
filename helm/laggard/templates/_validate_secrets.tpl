{{/* What is sensitive: values that would do nothing, files that nobody mounts, and credentials that would be in a ConfigMap. */}}
{{- define "laggard.problems.secrets" -}}
{{- $v := .root.Values -}}
{{- $problems := (fromYaml (include "laggard.own" (dict "root" .root "template" "laggard.sidecar.problems"))).problems -}}
{{- $server := $v.tls.server -}}
{{- $exporter := $v.tls.exporter -}}
{{- if $v.existingConfigMap -}}
  {{- range $key, $secret := dict "tls.server.existingSecret" $server.existingSecret "tls.exporter.existingSecret" $exporter.existingSecret "auth.existingSecret" $v.auth.existingSecret "secrets.existingSecret" $v.secrets.existingSecret -}}
    {{- if $secret -}}
      {{- $problems = append $problems (printf "%s: does nothing where existingConfigMap has the configuration; write it there, with extraVolumes and extraVolumeMounts for files, and extraEnvs for headers" $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if $exporter.existingSecret -}}
  {{- $endpoint := toString (dig "export" "endpoint" "" .config) -}}
  {{- if hasPrefix "http://" $endpoint -}}
    {{- $problems = append $problems (printf "tls.exporter.existingSecret: needs an https endpoint, and traces go to %s" (regexReplaceAll "//[^/]*@" $endpoint "//")) -}}
  {{- end -}}
{{- end -}}
{{- if and $v.secrets.headers $v.collector.enabled -}}
  {{- $problems = append $problems "secrets.headers: would go to the Collector of the pod and no further; give them to collector.config, as ${env:NAME} with collector.extraEnvs" -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}

{{- define "laggard.problems.credentials" -}}
{{- $problems := list -}}
{{- $places := list (dict "path" "config.export" "value" (dig "export" dict .config) "instead" "secrets.headers, or as ${env:NAME} with extraEnvs") -}}
{{- if .root.Values.collector.enabled -}}
  {{- $places = append $places (dict "path" "collector.config" "value" (fromYaml (include "laggard.collectorConfig" .root)) "instead" "${env:NAME} with collector.extraEnvs") -}}
{{- end -}}
{{- range $place := $places -}}
  {{- range $found := compact (splitList "\n" (include "laggard.credentials" $place)) -}}
    {{- $problems = append $problems (printf "%s: looks like a credential, which must not be in a ConfigMap; give it as %s" $found $place.instead) -}}
  {{- end -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}

{{/*
Where in (dict "value" $anything "path" "where.it.stands") text stands that looks like a credential, one a line. A header does by
its name or by its value, a setting of a Collector by its name, and anything by a user and a password in a URL. What the
environment or a file is asked for at the start is none.
*/}}
{{- define "laggard.credentials" -}}
{{- $given := . -}}
{{- $isHeader := .isHeader | default false -}}
{{- if kindIs "map" .value -}}
  {{- range $key, $inner := .value -}}
    {{- include "laggard.credentials" (dict "value" $inner "path" (printf "%s.%s" $given.path $key) "name" $key "isHeader" (or $isHeader (eq $key "headers"))) -}}
  {{- end -}}
{{- else if kindIs "slice" .value -}}
  {{- range $index, $inner := .value -}}
    {{- $path := printf "%s[%d]" $given.path $index -}}
    {{- if and $isHeader (kindIs "map" $inner) (or (hasKey $inner "name") (hasKey $inner "key")) -}}
      {{- include "laggard.credentials" (dict "value" (get $inner "value") "path" $path "name" ($inner.name | default $inner.key) "isHeader" true) -}}
    {{- else -}}
      {{- include "laggard.credentials" (dict "value" $inner "path" $path "name" $given.name "isHeader" $isHeader) -}}
    {{- end -}}
  {{- end -}}
{{- else if and (kindIs "string" .value) .value (not (contains "${" .value)) -}}
  {{- $name := toString (.name | default "") -}}
  {{- $looks := regexMatch "://[^/?#@ ]+@" .value -}}
  {{- if $isHeader -}}
    {{- $looks = or $looks (regexMatch "(?i)auth|token|key|secret|cookie|password|credential|session|jwt|dsn|honeycomb-team" $name) -}}
    {{- $looks = or $looks (regexMatch "(?i)^(basic|bearer|digest|api-?key|token|negotiate) +[^ ]" .value) (regexMatch "^eyJ[A-Za-z0-9_-]+[.]" .value) -}}
    {{- /* A long word of letters and digits, which no name of a tenant or a region is. */ -}}
    {{- $looks = or $looks (and (regexMatch "^[A-Za-z0-9+/_=]{24,}$" .value) (regexMatch "[0-9]" .value) (regexMatch "[A-Za-z]" .value)) -}}
  {{- else -}}
    {{- $looks = or $looks (regexMatch "(?i)(^|[_-])(authorization|tokens?|password|passwd|secret|credentials|dsn|connection_string|key_pem)$|(api|access|account|application|encryption|ingest|ingestion|license|private|secret|shared)_?key$" $name) -}}
    {{- $looks = or $looks (and (eq $name "key") (hasSuffix ".api.key" $given.path)) -}}
  {{- end -}}
  {{- if $looks }}{{ printf "%s\n" $given.path }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "laggard.problems.files" -}}
{{- $v := .root.Values -}}
{{- $config := .config -}}
{{- $problems := list -}}
{{- $mounts := list "/etc/laggard" "/var/lib/laggard" -}}
{{- if $v.tls.server.existingSecret }}{{ $mounts = append $mounts "/etc/laggard-tls/server" }}{{ end -}}
{{- if $v.tls.exporter.existingSecret }}{{ $mounts = append $mounts "/etc/laggard-tls/exporter" }}{{ end -}}
{{- if $v.auth.existingSecret }}{{ $mounts = append $mounts "/etc/laggard-auth" }}{{ end -}}
{{- range $v.extraVolumeMounts }}{{ $mounts = append $mounts (trimSuffix "/" .mountPath) }}{{ end -}}
{{- $files := dict
      "receive.tls.cert_file" (dig "receive" "tls" "cert_file" "" $config)
      "receive.tls.key_file" (dig "receive" "tls" "key_file" "" $config)
      "receive.tls.client_ca_file" (dig "receive" "tls" "client_ca_file" "" $config)
      "receive.auth.bearer_token_file" (dig "receive" "auth" "bearer_token_file" "" $config)
      "export.tls.ca_file" (dig "export" "tls" "ca_file" "" $config)
      "export.tls.cert_file" (dig "export" "tls" "cert_file" "" $config)
      "export.tls.key_file" (dig "export" "tls" "key_file" "" $config)
      "baseline.snapshot_file" (dig "baseline" "snapshot_file" "" $config) -}}
{{- range $key, $path := $files -}}
  {{- $file := toString $path -}}
  {{- $isMounted := false -}}
  {{- range $mount := $mounts }}{{ if hasPrefix (printf "%s/" $mount) $file }}{{ $isMounted = true }}{{ end }}{{ end -}}
  {{- if and $file (not $isMounted) (ne $v.mode "sidecar-config") (not (contains "${env:" $file)) -}}
    {{- $problems = append $problems (printf "config.%s: no volume is mounted where %s is; use tls, auth or extraVolumes with extraVolumeMounts" $key $file) -}}
  {{- end -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}
