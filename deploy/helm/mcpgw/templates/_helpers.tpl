{{- define "mcpgw.name" -}}
{{- $last := .Values.nameOverride | default "controller" -}}
{{- .Values.fullnameOverride | default (printf "%s-%s" (.Release.Name | trunc (int (sub 51 (len $last))) | trimSuffix "-") $last) -}}
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
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "mcpgw.image" -}}
{{- with .Values.controller.image.registry | default .Values.image.registry }}{{ . }}/{{ end -}}
{{ .Values.controller.image.repository }}:{{ .Values.controller.image.tag | default .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "mcpgw.pullPolicy" -}}
{{- .Values.controller.image.pullPolicy | default .Values.image.pullPolicy | default "IfNotPresent" -}}
{{- end -}}

{{- define "mcpgw.podSecurity" -}}
{{- $own := dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.podSecurityContext)) -}}
{{- end -}}

{{- define "mcpgw.security" -}}
{{- $own := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.securityContext)) -}}
{{- end -}}

{{- define "mcpgw.namespaces" -}}
{{- $names := .Values.discoveryNamespaces -}}
{{- range .Values.discoveryNamespaceSelectors -}}
{{- with .matchLabels -}}{{- $names = append $names (index . "kubernetes.io/metadata.name") -}}{{- end -}}
{{- range .matchExpressions -}}{{- $names = concat $names .values -}}{{- end -}}
{{- end -}}
{{- toYaml ($names | uniq) -}}
{{- end -}}

{{- define "mcpgw.replicas" -}}
{{- hasKey .Values.controller "replicaCount" | ternary .Values.controller.replicaCount .Values.controller.replicas -}}
{{- end -}}
