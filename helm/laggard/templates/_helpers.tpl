{{/* At most 50 characters, so that every name made of it, and the revision label of its pods, has room within 63. */}}
{{- define "laggard.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "laggard.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end }}

{{/* The selector's labels; they can never change. */}}
{{- define "laggard.selectorLabels" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: {{ .component | default "sidecar" }}
{{- end }}

{{- define "laggard.labels" -}}
{{ include "laggard.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.additionalLabels }}
{{ include "laggard.sidecar.tpl" (dict "root" $ "value" .) }}
{{- end }}
{{- end }}

{{/* Metadata of an object: (dict "root" $ "suffix" "-headless" "component" "loadbalancer" "labels" {} "annotations" {}). */}}
{{- define "laggard.metadata" -}}
name: {{ include "laggard.fullname" .root }}{{ .suffix }}
namespace: {{ .namespace | default (include "laggard.namespace" .root) }}
labels:
  {{- include "laggard.labels" (merge (dict "component" .component) .root) | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- include "laggard.sidecar.tpl" (dict "root" $.root "value" .) | nindent 2 }}
{{- end }}
{{- end }}

{{- define "laggard.serviceAccountName" -}}
{{- $name := ternary (include "laggard.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $name -}}
{{- end }}


{{- define "laggard.config" -}}
{{- include "laggard.sidecar.config" (dict "root" . "values" .Values "own" true) -}}
{{- end }}

{{/* Seconds from SIGTERM to the end that pods need. */}}
{{- define "laggard.neededGrace" -}}
{{- $collector := ternary (int64 .Values.collector.drainSeconds) 0 .Values.collector.enabled -}}
{{- add (int64 (include "laggard.sidecar.graceSeconds" (dict "root" . "values" .Values "own" true))) $collector -}}
{{- end }}

{{- define "laggard.grace" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- include "laggard.neededGrace" . -}}
{{- else -}}
{{- int64 .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end }}

{{/* How many pods there can be. */}}
{{- define "laggard.mostReplicas" -}}
{{- ternary (int64 .Values.autoscaling.maxReplicas) (int64 .Values.replicaCount) .Values.autoscaling.enabled -}}
{{- end }}

{{- define "laggard.pdbEnabled" -}}
{{- $auto := gt (int64 (include "laggard.mostReplicas" .)) 1 -}}
{{- if eq .Values.mode "gateway" -}}
{{- if or (eq (toString .Values.podDisruptionBudget.enabled) "true") (and (eq (toString .Values.podDisruptionBudget.enabled) "auto") $auto) }}true{{ end -}}
{{- end -}}
{{- end }}

{{/* The Collector's configuration: what is needed to stand behind Laggard, and the user's over it. */}}
{{- define "laggard.collectorConfig" -}}
{{- $config := dict
      "extensions" (dict "health_check" (dict "endpoint" (printf "%s:13133" .Values.bindAddress)))
      "receivers" (dict "otlp" (dict "protocols" (dict "grpc" (dict "endpoint" "127.0.0.1:14317"))))
      "service" (dict "extensions" (list "health_check") "pipelines" (dict "traces" (dict "receivers" (list "otlp")))) -}}
{{- include "laggard.sidecar.merge" (dict "base" $config "over" (deepCopy .Values.collector.config)) -}}
{{- include "laggard.sidecar.tpl" (dict "root" . "value" $config) -}}
{{- end }}

{{/* The security context of the stock Collectors, whose image has a user of its own that is not root. */}}
{{- define "laggard.collectorSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}
