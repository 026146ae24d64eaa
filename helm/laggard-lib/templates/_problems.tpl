{{/* What of these values would do nothing, or not what it says: sentences, as a list in problems. A host chart has no schema. */}}
{{- define "laggard.sidecar.problems" -}}
{{- $v := fromYaml (include "laggard.sidecar.values" .) -}}
{{- $problems := list -}}
{{- $server := $v.tls.server -}}
{{- $exporter := $v.tls.exporter -}}
{{- if and $server.clientCA (not $server.existingSecret) -}}
  {{- $problems = append $problems "tls.server.clientCA: needs tls.server.existingSecret, of which it is a key" -}}
{{- end -}}
{{- $named := pick $exporter "ca" "cert" "key" -}}
{{- range $key, $name := $named -}}
  {{- if and $name (not $exporter.existingSecret) -}}
    {{- $problems = append $problems (printf "tls.exporter.%s: needs tls.exporter.existingSecret, of which it is a key" $key) -}}
  {{- end -}}
{{- end -}}
{{- if $exporter.existingSecret -}}
  {{- if not (or $exporter.ca $exporter.cert $exporter.key) -}}
    {{- $problems = append $problems "tls.exporter.existingSecret: does nothing unless tls.exporter.ca, or cert and key, name keys of it" -}}
  {{- end -}}
  {{- range $key, $other := dict "cert" "key" "key" "cert" -}}
    {{- if and (get $exporter $key) (not (get $exporter $other)) -}}
      {{- $problems = append $problems (printf "tls.exporter.%s: needs tls.exporter.%s beside it" $key $other) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and (ne $v.auth.key "token") (not $v.auth.existingSecret) -}}
  {{- $problems = append $problems "auth.key: needs auth.existingSecret, of which it is a key" -}}
{{- end -}}
{{- if and $v.secrets.headers (not $v.secrets.existingSecret) -}}
  {{- $problems = append $problems "secrets.headers: needs secrets.existingSecret, which has the values" -}}
{{- end -}}
{{- if and $v.secrets.existingSecret (not $v.secrets.headers) -}}
  {{- $problems = append $problems "secrets.existingSecret: does nothing unless secrets.headers names headers, each with its key" -}}
{{- end -}}
{{- $variables := dict -}}
{{- range $header, $_ := $v.secrets.headers -}}
  {{- $variable := include "laggard.sidecar.headerVariable" $header -}}
  {{- if hasKey $variables $variable -}}
    {{- $problems = append $problems (printf "secrets.headers: %s and %s would have one variable, %s; give one of them as config.export.headers with extraEnvs" (get $variables $variable) $header $variable) -}}
  {{- end -}}
  {{- $_ := set $variables $variable $header -}}
{{- end -}}
{{- toYaml (dict "problems" $problems) -}}
{{- end }}
