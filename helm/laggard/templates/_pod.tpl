{{/* The pod, the same for the StatefulSet and the Deployment. */}}
{{- define "laggard.pod" -}}
{{- $checksums := dict -}}
{{- if and .Values.enableConfigChecksumAnnotation (not .Values.existingConfigMap) }}
{{- $checksums = fromYaml (include "laggard.own" (dict "root" . "template" "laggard.sidecar.podAnnotations")) }}
{{- end }}
{{- if .Values.collector.enabled }}
{{- $_ := set $checksums "checksum/collector-config" (include "laggard.collectorConfig" . | sha256sum) }}
{{- end }}
metadata:
  {{- include "laggard.podMetadata" (dict "root" . "of" .Values "container" "laggard" "annotations" $checksums) | nindent 2 }}
spec:
  serviceAccountName: {{ include "laggard.serviceAccountName" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "laggard.grace" . }}
  {{- include "laggard.scheduling" (dict "root" . "own" .Values) | nindent 2 }}
  {{- if or .Values.initContainers .Values.collector.enabled }}
  initContainers:
    {{- with .Values.initContainers }}
    {{- include "laggard.sidecar.tpl" (dict "root" $ "value" .) | nindent 4 }}
    {{- end }}
    {{- if .Values.collector.enabled }}
    # A native sidecar starts before the containers and ends after them: what Laggard sends at the end still arrives.
    - name: collector
      image: {{ include "laggard.sidecar.image" (dict "root" . "image" .Values.collector.image) | quote }}
      imagePullPolicy: {{ .Values.collector.image.pullPolicy }}
      restartPolicy: Always
      args:
        - --config=/etc/collector/config.yaml
      {{- with .Values.collector.extraEnvs }}
      env:
        {{- include "laggard.sidecar.tpl" (dict "root" $ "value" .) | nindent 8 }}
      {{- end }}
      ports:
        - name: collector-check
          containerPort: 13133
          protocol: TCP
      startupProbe:
        httpGet: {path: /, port: collector-check}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /, port: collector-check}
      {{- with .Values.collector.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "laggard.collectorSecurityContext" . | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts:
        - name: collector-config
          mountPath: /etc/collector
          readOnly: true
    {{- end }}
  {{- end }}
  containers:
    - {{ include "laggard.own" (dict "root" . "template" "laggard.sidecar.container") | indent 6 | trim }}
    {{- with .Values.extraContainers }}
    {{- include "laggard.sidecar.tpl" (dict "root" $ "value" .) | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "laggard.own" (dict "root" . "template" "laggard.sidecar.volumes") | nindent 4 }}
    {{- if .Values.collector.enabled }}
    - name: collector-config
      configMap:
        name: {{ include "laggard.fullname" . }}-collector
    {{- end }}
{{- end }}
