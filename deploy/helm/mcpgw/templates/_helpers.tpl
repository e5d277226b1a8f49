{{- define "mcpgw.name" -}}
{{- .Values.fullnameOverride | default (printf "%s-controller" (.Release.Name | trunc 41 | trimSuffix "-")) -}}
{{- end -}}

{{- define "mcpgw.account" -}}
{{- .Values.serviceAccount.name | default (ternary (include "mcpgw.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "mcpgw.selector" -}}
app.kubernetes.io/name: mcpgw-controller
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mcpgw.labels" -}}
{{ include "mcpgw.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "mcpgw.image" -}}
{{- with .Values.controller.image.registry }}{{ . }}/{{ end -}}
{{ .Values.controller.image.repository }}:{{ .Values.controller.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "mcpgw.replicas" -}}
{{- hasKey .Values.controller "replicaCount" | ternary .Values.controller.replicaCount .Values.controller.replicas -}}
{{- end -}}
