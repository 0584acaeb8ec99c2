{{- define "tandem.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters leave room for what LeaderWorkerSet adds to pods' names. */}}
{{- define "tandem.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "tandem.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tandem.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tandem.labels" -}}
app.kubernetes.io/name: {{ include "tandem.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Of every pod of every group; LeaderWorkerSet sets the label. */}}
{{- define "tandem.selector" -}}
leaderworkerset.sigs.k8s.io/name: {{ include "tandem.fullname" . }}
{{- end -}}

{{- define "tandem.leaderSelector" -}}
{{ include "tandem.selector" . }}
leaderworkerset.sigs.k8s.io/worker-index: "0"
{{- end -}}

{{- define "tandem.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{- define "tandem.keysSecret" -}}
{{- default (printf "%s-keys" (include "tandem.fullname" .)) .Values.keys.existingSecret -}}
{{- end -}}

{{- define "tandem.apiKeySecret" -}}
{{- default (printf "%s-api-key" (include "tandem.fullname" .)) .Values.apiKey.existingSecret -}}
{{- end -}}

{{- define "tandem.shardsClaim" -}}
{{- default (printf "%s-shards" (include "tandem.fullname" .)) .Values.shards.existingClaim -}}
{{- end -}}

{{/* The cluster config: the chart's part, with `config` of the values beside it. */}}
{{- define "tandem.config" -}}
{{- $own := dict "model" .Values.model.path "devices" .Values.devices "shards" "/shards" -}}
{{- if gt (int .Values.size) 1 -}}
{{- $_ := set $own "hosts" (int .Values.size) -}}
{{- $_ := set $own "join" (dict "keys" "/keys" "listen" "tcp://0.0.0.0:7070") -}}
{{- end -}}
{{- $server := dict "host" "0.0.0.0" "port" 8080 "api_key_env" "TANDEM_API_KEY" "drain_s" (int .Values.drain) "images" "/cache/images" -}}
{{- $given := default dict .Values.config -}}
{{- $_ := set $own "server" (merge $server (default dict $given.server)) -}}
{{- toYaml (merge $own $given) -}}
{{- end -}}

{{/* The job's name, and the mark that it leaves on the volume: other shards, another name. */}}
{{- define "tandem.preparation" -}}
{{- printf "%s\n%s" (include "tandem.config" .) (include "tandem.image" .) | sha256sum | trunc 10 -}}
{{- end -}}

{{- define "tandem.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# A large volume's files are not gone through at each start.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "tandem.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "tandem.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tandem.volumes" -}}
- name: config
  configMap: { name: {{ include "tandem.fullname" . }} }
- name: shards
  persistentVolumeClaim: { claimName: {{ include "tandem.shardsClaim" . }} }
- name: cache
  emptyDir: {}
- name: tmp
  emptyDir: {}
{{- with .Values.model.existingClaim }}
- name: model
  persistentVolumeClaim: { claimName: {{ . }}, readOnly: true }
{{- end }}
{{- end -}}

{{- define "tandem.mounts" -}}
- { name: config, mountPath: /etc/tandem, readOnly: true }
- { name: cache, mountPath: /cache }
- { name: tmp, mountPath: /tmp }
{{- if .Values.model.existingClaim }}
- { name: model, mountPath: {{ .Values.model.path }}, readOnly: true }
{{- end }}
{{- end -}}

{{- define "tandem.probe" -}}
exec:
  command: [node, /opt/tandem/deploy/docker/health.mjs, {{ . }}]
timeoutSeconds: 5
{{- end -}}
