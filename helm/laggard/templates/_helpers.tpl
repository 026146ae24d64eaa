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

{{/* Every label of an object: (dict "root" $ "component" "loadbalancer" "more" (list .Values.podLabels)); each key once. */}}
{{- define "laggard.labels" -}}
{{- $root := .root -}}
{{- $labels := dict
      "app.kubernetes.io/version" $root.Chart.AppVersion
      "app.kubernetes.io/managed-by" $root.Release.Service
      "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- range prepend (.more | default list) $root.Values.additionalLabels -}}
  {{- if . }}{{ include "laggard.sidecar.merge" (dict "base" $labels "over" (fromYaml (include "laggard.sidecar.tpl" (dict "root" $root "value" .)))) }}{{ end -}}
{{- end -}}
{{- $selector := fromYaml (include "laggard.selectorLabels" (merge (dict "component" .component) $root)) -}}
{{- include "laggard.sidecar.merge" (dict "base" $labels "over" $selector) -}}
{{- toYaml $labels -}}
{{- end }}

{{/* Metadata of an object: (dict "root" $ "suffix" "-headless" "component" "loadbalancer" "labels" {} "annotations" {}). */}}
{{- define "laggard.metadata" -}}
name: {{ include "laggard.fullname" .root }}{{ .suffix }}
namespace: {{ .namespace | default (include "laggard.namespace" .root) }}
labels:
  {{- include "laggard.labels" (dict "root" .root "component" .component "more" (list .labels)) | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- include "laggard.sidecar.tpl" (dict "root" $.root "value" .) | nindent 2 }}
{{- end }}
{{- end }}

{{- define "laggard.serviceAccountName" -}}
{{- $name := ternary (include "laggard.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $name -}}
{{- end }}

{{/* The ports, with what auto means: in the pod of another chart a Collector has those of OTLP, and sends on over loopback. */}}
{{- define "laggard.ports" -}}
{{- $isBehind := eq .Values.mode "sidecar-config" -}}
{{- $ports := deepCopy .Values.ports -}}
{{- range $name, $usual := dict "otlp" 4317 "otlp-http" 4318 -}}
  {{- $port := get $ports $name -}}
  {{- if eq (toString $port.enabled) "auto" }}{{ $_ := set $port "enabled" (not $isBehind) }}{{ end -}}
  {{- if eq (toString $port.containerPort) "auto" }}{{ $_ := set $port "containerPort" (ternary (add 10000 $usual) $usual $isBehind) }}{{ end -}}
{{- end -}}
{{- toYaml $ports -}}
{{- end }}

{{/* A template of the library with the values of this chart: (dict "root" $ "template" "laggard.sidecar.container"). */}}
{{- define "laggard.own" -}}
{{- $values := set (omit .root.Values "global") "ports" (fromYaml (include "laggard.ports" .root)) -}}
{{- $labels := include "laggard.labels" (dict "root" .root) -}}
{{- include .template (dict "root" .root "values" $values "own" true "name" (include "laggard.fullname" .root) "namespace" (include "laggard.namespace" .root) "labels" $labels) -}}
{{- end }}

{{- define "laggard.config" -}}
{{- include "laggard.own" (dict "root" . "template" "laggard.sidecar.config") -}}
{{- end }}

{{/* Seconds from the beginning of its end to the last that a pod needs. */}}
{{- define "laggard.neededGrace" -}}
{{- $collector := ternary (int64 .Values.collector.drainSeconds) 0 .Values.collector.enabled -}}
{{- add (int64 (include "laggard.own" (dict "root" . "template" "laggard.sidecar.graceSeconds"))) $collector -}}
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

{{/* Whether that many pods have a budget: (dict "root" $ "replicas" 3); empty where not. */}}
{{- define "laggard.pdbEnabled" -}}
{{- $enabled := toString .root.Values.podDisruptionBudget.enabled -}}
{{- if eq .root.Values.mode "gateway" -}}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (gt (int64 .replicas) 1)) }}true{{ end -}}
{{- end -}}
{{- end }}

{{/* Where pods run, the same for Laggard's and for those in front: (dict "root" $ "own" .Values) with the rest of it in own. */}}
{{- define "laggard.scheduling" -}}
{{- $root := .root -}}
{{- range $key := list "priorityClassName" "runtimeClassName" }}
{{- with get $root.Values $key }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- range $key, $value := dict "imagePullSecrets" $root.Values.imagePullSecrets "nodeSelector" $root.Values.nodeSelector "tolerations" $root.Values.tolerations "affinity" .own.affinity "topologySpreadConstraints" .own.topologySpreadConstraints }}
{{- with $value }}
{{ $key }}:
  {{- include "laggard.sidecar.tpl" (dict "root" $root "value" .) | nindent 2 }}
{{- end }}
{{- end }}
{{- with $root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The metadata of pods: (dict "root" $ "component" "loadbalancer" "of" .Values "annotations" {...}); of has podLabels and podAnnotations. */}}
{{- define "laggard.podMetadata" -}}
labels:
  {{- include "laggard.labels" (dict "root" .root "component" .component "more" (list .of.podLabels)) | nindent 2 }}
{{- $annotations := dict "kubectl.kubernetes.io/default-container" .container -}}
{{- with .of.podAnnotations }}
{{- include "laggard.sidecar.merge" (dict "base" $annotations "over" (fromYaml (include "laggard.sidecar.tpl" (dict "root" $.root "value" .)))) }}
{{- end }}
{{- include "laggard.sidecar.merge" (dict "base" $annotations "over" .annotations) }}
annotations:
  {{- toYaml $annotations | nindent 2 }}
{{- end }}

{{/* The Collector's configuration: what is needed to stand behind Laggard, and the user's over it. */}}
{{- define "laggard.collectorConfig" -}}
{{- $config := dict
      "extensions" (dict "health_check" (dict "endpoint" (printf "%s:13133" .Values.bindAddress)))
      "receivers" (dict "otlp" (dict "protocols" (dict "grpc" (dict "endpoint" "127.0.0.1:14317"))))
      "service" (dict "extensions" (list "health_check") "pipelines" (dict "traces" (dict "receivers" (list "otlp")))) -}}
{{- include "laggard.sidecar.merge" (dict "base" $config "over" (.Values.collector.config | default dict) "keepsNull" true) -}}
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
