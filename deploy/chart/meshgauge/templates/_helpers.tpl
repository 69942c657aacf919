{{/* Names, labels and the parts all pods share. */}}

{{- define "meshgauge.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of one part: (dict "root" $ "part" "coordinator") */}}
{{- define "meshgauge.selector" -}}
app.kubernetes.io/name: meshgauge
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "meshgauge.labels" -}}
{{ include "meshgauge.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "meshgauge.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "meshgauge.databaseSecret" -}}
{{ .Values.database.existingSecret | default (printf "%s-database" (include "meshgauge.name" .)) }}
{{- end -}}

{{- define "meshgauge.brokerSecret" -}}
{{ .Values.broker.existingSecret | default (printf "%s-broker" (include "meshgauge.name" .)) }}
{{- end -}}

{{/* What the restricted pod security standard asks of a pod, and of a container. */}}
{{- define "meshgauge.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "meshgauge.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Settings every part of Meshgauge reads. */}}
{{- define "meshgauge.environment" -}}
- name: MESHGAUGE_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ include "meshgauge.databaseSecret" . }}, key: url}}
- name: MESHGAUGE_BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ include "meshgauge.brokerSecret" . }}, key: url}}
# The root file system is read-only, the home folder with it.
- name: HOME
  value: /tmp
- name: MESHGAUGE_IMAGE
  value: {{ include "meshgauge.image" . }}
# Load workers reach the Locust master of a trial at the address of the pod that conducts it.
- name: MESHGAUGE_ADVERTISE_HOST
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- if .Values.coordinator.publicUrl }}
- name: MESHGAUGE_PUBLIC_URL
  value: {{ .Values.coordinator.publicUrl | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- if .Values.kubeconfigSecret }}
- name: KUBECONFIG
  value: /kubeconfig/config
{{- end }}
{{- end -}}

{{- define "meshgauge.mounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- if .Values.kubeconfigSecret }}
- {name: kubeconfig, mountPath: /kubeconfig, readOnly: true}
{{- end }}
{{- end -}}

{{- define "meshgauge.volumes" -}}
# Caches, and results that wait for Postgres: they live as long as the pod. The truth is in Postgres.
- {name: data, emptyDir: {}}
- {name: tmp, emptyDir: {}}
{{- if .Values.kubeconfigSecret }}
- name: kubeconfig
  secret: {secretName: {{ .Values.kubeconfigSecret }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{/* Brings the schema up; whoever starts first does it, under a lock. Until Postgres answers it fails and is restarted. */}}
{{- define "meshgauge.migrate" -}}
- name: migrate
  image: {{ include "meshgauge.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [tini, --, python, -m, coordinator.migrate]
  env: {{- include "meshgauge.environment" . | nindent 4 }}
  securityContext: {{- include "meshgauge.containerSecurity" . | nindent 4 }}
  resources: {requests: {cpu: 50m, memory: 128Mi}, limits: {memory: 512Mi}}
  volumeMounts: {{- include "meshgauge.mounts" . | nindent 4 }}
{{- end -}}

{{/* The meshes whose rights ship with the chart. */}}
{{- define "meshgauge.adapters" -}}
{{- $names := list -}}
{{- range $path, $_ := .Files.Glob "files/rbac/*.yaml" -}}
{{- $names = append $names ($path | base | trimSuffix ".yaml") -}}
{{- end -}}
{{- join ", " $names -}}
{{- end -}}
