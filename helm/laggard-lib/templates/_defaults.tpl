{{/*
What a host chart need not say. The application chart has values of its own, with the same keys; tests/helm compares the two.
Receivers listen on loopback, behind the Collector of the same pod.
*/}}
{{- define "laggard.sidecar.defaults" -}}
image: {registry: "", repository: laggard/laggard, tag: "", digest: "", pullPolicy: IfNotPresent}
config: {}
configTpl: true
existingConfigMap: ""
existingConfigKey: config.yaml
bindAddress: "[::]"
secrets: {existingSecret: "", headers: {}}
auth: {existingSecret: "", key: token}
tls:
  server: {existingSecret: "", clientCA: ""}
  exporter: {existingSecret: "", ca: "", cert: "", key: ""}
command: {extraArgs: []}
extraEnvs: []
extraEnvsFrom: []
extraVolumes: []
extraVolumeMounts: []
lifecycleHooks: {}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
resources:
  requests: {cpu: 200m, memory: 512Mi}
  limits: {memory: 1Gi}
ports:
  otlp: {enabled: false, containerPort: 14317}
  otlp-http: {enabled: false, containerPort: 14318}
  admin: {enabled: true, containerPort: 13134}
persistence: {enabled: false, emptyDirSizeLimit: 512Mi}
startupProbe:
  httpGet: {path: /ready, port: laggard-admin}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /live, port: laggard-admin}
  periodSeconds: 10
  timeoutSeconds: 3
readinessProbe:
  httpGet: {path: /ready, port: laggard-admin}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end }}

{{/* The version of Laggard that these templates are made for; a host chart's appVersion is that of something else. */}}
{{- define "laggard.sidecar.appVersion" -}}
0.1.0
{{- end }}

{{/*
Puts dict "over" into dict "base", level by level, and changes "base". A null takes a key away; with "keepsNull" it does so only
where there is one, and stays otherwise, since to a Collector a component without settings is one. Sprig's mergeOverwrite would
keep a true that is to become false.
*/}}
{{- define "laggard.sidecar.merge" -}}
{{- $base := .base -}}
{{- $keepsNull := .keepsNull | default false -}}
{{- range $key, $value := .over -}}
  {{- if kindIs "invalid" $value -}}
    {{- if hasKey $base $key -}}
      {{- $_ := unset $base $key -}}
    {{- else if $keepsNull -}}
      {{- $_ := set $base $key $value -}}
    {{- end -}}
  {{- else if kindIs "map" $value -}}
    {{- $inner := get $base $key -}}
    {{- if not (kindIs "map" $inner) }}{{ $inner = dict }}{{ end -}}
    {{- include "laggard.sidecar.merge" (dict "base" $inner "over" $value "keepsNull" $keepsNull) -}}
    {{- $_ := set $base $key $inner -}}
  {{- else -}}
    {{- $_ := set $base $key $value -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* What all templates work with, as YAML: the given values over the defaults; with "own" the given values as they are. */}}
{{- define "laggard.sidecar.values" -}}
{{- if .own -}}
{{- toYaml (omit .values "global") -}}
{{- else -}}
{{- $values := fromYaml (include "laggard.sidecar.defaults" .) -}}
{{- include "laggard.sidecar.merge" (dict "base" $values "over" (deepCopy (.values | default dict))) -}}
{{- toYaml $values -}}
{{- end -}}
{{- end }}

{{/* A map or a list as YAML, with the templates in it carried out. */}}
{{- define "laggard.sidecar.tpl" -}}
{{- $text := toYaml .value -}}
{{- if contains "{{" $text -}}{{- tpl $text .root -}}{{- else -}}{{- $text -}}{{- end -}}
{{- end }}
