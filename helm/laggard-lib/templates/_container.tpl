{{/*
Templates for the pod of another chart. All take (dict "root" $ "values" .Values.laggard); "name" is the ConfigMap's name and
may be left out.

  laggard.sidecar.initContainer   as native sidecar: starts before the containers and ends after them. Use this one behind a
                                  Collector.
  laggard.sidecar.container       as a container like any other: ends together with them. Right in front of a Collector
                                  that is itself a native sidecar.
*/}}
{{- define "laggard.sidecar.initContainer" -}}
{{ include "laggard.sidecar.container" . }}
restartPolicy: Always
{{- end }}

{{- define "laggard.sidecar.container" -}}
{{- $root := .root -}}
{{- $v := fromYaml (include "laggard.sidecar.values" .) -}}
{{- $prefix := ternary "" "laggard-" (default false .own) -}}
name: laggard
image: {{ include "laggard.sidecar.image" (dict "root" $root "image" $v.image "appVersion" (include "laggard.sidecar.appVersion" .)) | quote }}
imagePullPolicy: {{ $v.image.pullPolicy }}
args:
  - run
  - --config=/etc/laggard/config.yaml
  {{- range $v.command.extraArgs }}
  - {{ tpl (toString .) $root | quote }}
  {{- end }}
{{- if or $v.extraEnvs (and $v.secrets.existingSecret $v.secrets.headers) }}
env:
  {{- if $v.secrets.existingSecret }}
  {{- range $header, $key := $v.secrets.headers }}
  - name: {{ include "laggard.sidecar.headerVariable" $header }}
    valueFrom:
      secretKeyRef:
        name: {{ tpl $v.secrets.existingSecret $root | quote }}
        key: {{ $key | quote }}
  {{- end }}
  {{- end }}
  {{- with $v.extraEnvs }}
  {{- include "laggard.sidecar.tpl" (dict "root" $root "value" .) | nindent 2 }}
  {{- end }}
{{- end }}
{{- with $v.extraEnvsFrom }}
envFrom:
  {{- include "laggard.sidecar.tpl" (dict "root" $root "value" .) | nindent 2 }}
{{- end }}
ports:
  {{- range $name, $port := $v.ports }}
  {{- if or $port.enabled (eq $name "admin") }}
  - name: {{ $prefix }}{{ ternary "http" $name (and (ne $prefix "") (eq $name "otlp-http")) }}
    containerPort: {{ int64 $port.containerPort }}
    protocol: TCP
  {{- end }}
  {{- end }}
{{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
{{- with get $v $probe }}
{{ $probe }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $v.lifecycleHooks }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: laggard-config
    mountPath: /etc/laggard
    readOnly: true
  - name: laggard-data
    mountPath: /var/lib/laggard
  {{- if $v.tls.server.existingSecret }}
  - name: laggard-tls-server
    mountPath: /etc/laggard-tls/server
    readOnly: true
  {{- end }}
  {{- if $v.tls.exporter.existingSecret }}
  - name: laggard-tls-exporter
    mountPath: /etc/laggard-tls/exporter
    readOnly: true
  {{- end }}
  {{- if $v.auth.existingSecret }}
  - name: laggard-auth
    mountPath: /etc/laggard-auth
    readOnly: true
  {{- end }}
  {{- with $v.extraVolumeMounts }}
  {{- include "laggard.sidecar.tpl" (dict "root" $root "value" .) | nindent 2 }}
  {{- end }}
{{- end }}

{{/* An image's reference; a digest wins over a tag. */}}
{{- define "laggard.sidecar.image" -}}
{{- $global := dig "imageRegistry" "" (.root.Values.global | default dict) -}}
{{- $registry := .image.registry | default $global -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (toString (.image.tag | default .appVersion)) -}}
{{- end -}}
{{- end }}

{{/* The volumes of the container, as a list. With persistence the claim laggard-data comes from the StatefulSet. */}}
{{- define "laggard.sidecar.volumes" -}}
{{- $root := .root -}}
{{- $v := fromYaml (include "laggard.sidecar.values" .) -}}
- name: laggard-config
  configMap:
    name: {{ tpl ($v.existingConfigMap | default (include "laggard.sidecar.configmapName" .)) $root | quote }}
    items:
      - key: {{ $v.existingConfigKey | quote }}
        path: config.yaml
{{- if not $v.persistence.enabled }}
- name: laggard-data
  emptyDir:
    sizeLimit: {{ $v.persistence.emptyDirSizeLimit }}
{{- end }}
{{- range $volume, $secret := dict "laggard-tls-server" $v.tls.server.existingSecret "laggard-tls-exporter" $v.tls.exporter.existingSecret "laggard-auth" $v.auth.existingSecret }}
{{- if $secret }}
- name: {{ $volume }}
  secret:
    secretName: {{ tpl $secret $root | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- with $v.extraVolumes }}
{{ include "laggard.sidecar.tpl" (dict "root" $root "value" .) }}
{{- end }}
{{- end }}

{{/* The ConfigMap's name. */}}
{{- define "laggard.sidecar.configmapName" -}}
{{- .name | default (printf "%s-laggard" (trunc 50 .root.Release.Name | trimSuffix "-")) -}}
{{- end }}

{{/* The ConfigMap itself. */}}
{{- define "laggard.sidecar.configmap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "laggard.sidecar.configmapName" . }}
  namespace: {{ .namespace | default .root.Release.Namespace }}
  labels:
    {{- if .labels }}
    {{- .labels | nindent 4 }}
    {{- else }}
    app.kubernetes.io/name: laggard
    app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
    app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
    {{- end }}
data:
  config.yaml: |
    {{- include "laggard.sidecar.config" . | nindent 4 }}
{{- end }}

{{/* The pod's annotations, by which a changed configuration rolls the pods. */}}
{{- define "laggard.sidecar.podAnnotations" -}}
checksum/laggard-config: {{ include "laggard.sidecar.config" . | sha256sum }}
{{- end }}
