{{/* Names. */}}

{{- define "stowage.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "stowage.fullname" -}}
{{- $name := include "stowage.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* Objects of the cluster have no namespace that tells two releases apart. */}}
{{- define "stowage.clusterName" -}}
{{ printf "%s-%s" (include "stowage.fullname" .) .Release.Namespace | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Labels. */}}

{{- define "stowage.labels" -}}
{{ include "stowage.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Also the labels of pods: one that changes with every release of the chart would start them all anew. */}}
{{- define "stowage.selector" -}}
app.kubernetes.io/name: stowage
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Images. */}}

{{/* Takes {root, image}: the image's reference, from `global.imageRegistry` where that is set. */}}
{{- define "stowage.imageReference" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.global.imageRegistry -}}
{{- $parts := splitList "/" $repository -}}
{{- $first := first $parts -}}
{{- if and (gt (len $parts) 1) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) -}}
{{- $repository = join "/" (rest $parts) -}}
{{- end -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{ printf "%s@%s" $repository .image.digest }}
{{- else -}}
{{ printf "%s:%s" $repository .image.tag }}
{{- end -}}
{{- end }}

{{- define "stowage.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ include "stowage.imageReference" (dict "root" . "image" (dict "repository" .Values.image.repository "tag" $tag "digest" .Values.image.digest)) }}
{{- end }}

{{/* Accounts. */}}

{{- define "stowage.node.account" -}}
{{ include "stowage.fullname" . }}-node
{{- end }}

{{- define "stowage.controller.account" -}}
{{ include "stowage.fullname" . }}-controller
{{- end }}

{{- define "stowage.uninstallCheck.account" -}}
{{ include "stowage.fullname" . }}-uninstall-check
{{- end }}

{{/* `true` on OpenShift, or nothing. */}}
{{- define "stowage.onOpenShift" -}}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1" -}}
true
{{- end -}}
{{- end }}

{{/* Paths on the node. */}}

{{- define "stowage.kubeletDir" -}}
{{ .Values.kubelet.rootDir | trimSuffix "/" }}
{{- end }}

{{- define "stowage.pluginDir" -}}
{{ include "stowage.kubeletDir" . }}/plugins/{{ .Values.csiDriver.name }}
{{- end }}

{{- define "stowage.storeDir" -}}
{{- $default := printf "%s/store" (include "stowage.pluginDir" .) -}}
{{- $given := .Values.node.store.hostPath | trimSuffix "/" -}}
{{- $kubelet := include "stowage.kubeletDir" . -}}
{{- if and $given (ne $given (clean $given)) -}}
{{- fail (printf "node.store.hostPath is %s: write it as %s" $given (clean $given)) -}}
{{- end -}}
{{- if and $given (ne $given $default) (or (hasPrefix (printf "%s/" $given) (printf "%s/" $kubelet)) (hasPrefix (printf "%s/" $kubelet) $given)) -}}
{{- fail (printf "node.store.hostPath is %s, which holds kubelet's own or is held by it: choose a directory of its own" $given) -}}
{{- end -}}
{{ $given | default $default }}
{{- end }}

{{/* Configuration files. */}}

{{/* Takes {root, kind, part}: the file, with the certificate authorities and the level of logs filled in. */}}
{{- define "stowage.configuration" -}}
{{- $config := deepCopy .part.config -}}
{{- if .root.Values.caCertificates -}}
{{- $registries := dict "caFiles" list | merge (deepCopy ($config.registries | default dict)) -}}
{{- $_ := set $registries "caFiles" (append $registries.caFiles "/etc/stowage/ca.crt") -}}
{{- $_ := set $config "registries" $registries -}}
{{- end -}}
{{- $_ := set $config "telemetry" (dict "log" .part.logLevel | merge (deepCopy ($config.telemetry | default dict))) -}}
apiVersion: config.stowage.dev/v1alpha1
kind: {{ .kind }}
{{ toYaml $config }}
{{- end }}

{{/* What a running plugin does not read again, as text whose checksum starts it anew. */}}
{{- define "stowage.node.fixedConfiguration" -}}
{{- omit (include "stowage.configuration" (dict "root" . "kind" "NodeConfiguration" "part" .Values.node) | fromYaml) "credentials" "policy" | toJson }}
{{ .Values.caCertificates }}
{{- end }}

{{/* The same of the controller, which reads everything once. */}}
{{- define "stowage.controller.fixedConfiguration" -}}
{{- include "stowage.configuration" (dict "root" . "kind" "ControllerConfiguration" "part" .Values.controller) }}
{{ .Values.caCertificates }}
{{- end }}

{{/*
What the node's configuration names on the host, as a JSON list of {path, type}. A file is mounted with its directory, so that a
file put in its place is seen; alone where the directory would hide one of the image's or hold kubelet's own. A directory with
hosts.toml files may be missing: without mirrors nobody made one.
*/}}
{{- define "stowage.node.hostPaths" -}}
{{- $own := list "/" "/bin" "/dev" "/etc" "/etc/ssl" "/etc/ssl/certs" "/etc/stowage" "/lib" "/lib64" "/proc" "/run" "/sbin" "/sys" "/usr" "/usr/bin" "/usr/lib" "/usr/sbin" "/usr/share" "/var" "/var/lib" -}}
{{- $kubelet := include "stowage.kubeletDir" . -}}
{{- $config := .Values.node.config -}}
{{- $credentials := $config.credentials | default dict -}}
{{- $providers := $credentials.providers | default dict -}}
{{- $files := concat (($config.registries | default dict).caFiles | default list) (compact (list $credentials.dockerConfig $providers.configFile)) -}}
{{- $hosts := ($config.mirrors | default dict).hostsDirs | default list -}}
{{- $directories := concat $hosts (compact (list $providers.binDir)) -}}
{{- $found := dict -}}
{{- range $directory := $directories -}}
{{- $path := $directory | clean -}}
{{- if has $path $own -}}
{{- fail (printf "node.config names the directory %s, which would hide the image's own: choose a directory of its own" $path) -}}
{{- end -}}
{{- if hasPrefix (printf "%s/" $path) (printf "%s/" $kubelet) -}}
{{- fail (printf "node.config names the directory %s, which holds kubelet's own: choose a directory of its own" $path) -}}
{{- end -}}
{{- $_ := set $found $path (has $directory $hosts | ternary "DirectoryOrCreate" "Directory") -}}
{{- end -}}
{{- range $file := $files -}}
{{- $path := $file | clean -}}
{{- $directory := dir $path -}}
{{- if or (has $directory $own) (hasPrefix (printf "%s/" $directory) (printf "%s/" $kubelet)) -}}
{{- $_ := set $found $path "File" -}}
{{- else -}}
{{- $_ := set $found $directory "Directory" -}}
{{- end -}}
{{- end -}}
{{- $mounted := list -}}
{{- range .Values.node.extraVolumeMounts -}}
{{- $mounted = append $mounted (.mountPath | clean) -}}
{{- end -}}
{{- $result := list -}}
{{- range $path := keys $found | sortAlpha -}}
{{- $covered := false -}}
{{- range $mounted -}}
{{- if hasPrefix (printf "%s/" .) (printf "%s/" $path) -}}
{{- $covered = true -}}
{{- end -}}
{{- end -}}
{{- if not $covered -}}
{{- $result = append $result (dict "path" $path "type" (get $found $path)) -}}
{{- end -}}
{{- end -}}
{{ toJson $result }}
{{- end }}

{{/*
Fails where the controller's configuration names a file or directory that no volume of its pod holds: nothing of a node is mounted
there, and the controller ends at once when a file is missing.
*/}}
{{- define "stowage.controller.files" -}}
{{- $mounted := list -}}
{{- range .Values.controller.extraVolumeMounts -}}
{{- $mounted = append $mounted (.mountPath | clean) -}}
{{- end -}}
{{- $config := .Values.controller.config -}}
{{- range concat (($config.registries | default dict).caFiles | default list) (($config.mirrors | default dict).hostsDirs | default list) -}}
{{- $path := . | clean -}}
{{- $covered := false -}}
{{- range $mounted -}}
{{- if hasPrefix (printf "%s/" .) (printf "%s/" $path) -}}
{{- $covered = true -}}
{{- end -}}
{{- end -}}
{{- if not $covered -}}
{{- fail (printf "controller.config names %s, which no volume of the controller holds: mount it by controller.extraVolumes and controller.extraVolumeMounts, or put certificate authorities into caCertificates" $path) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Addresses. */}}

{{/* Whether an address is reached from the same network namespace only: `true`, or nothing. */}}
{{- define "stowage.isLoopback" -}}
{{- if regexMatch `^(127\.|\[(0*:)+0*1\]$)` . -}}
true
{{- end -}}
{{- end }}

{{- define "stowage.controller.address" -}}
{{- $address := .Values.controller.http.address -}}
{{- if include "stowage.isLoopback" $address -}}
{{- fail (printf "controller.http.address is %s, where kubelet cannot reach the controller: use 0.0.0.0 or [::]" $address) -}}
{{- end -}}
{{ $address }}
{{- end }}

{{/* Takes {root, path}: a probe of the node plugin. */}}
{{- define "stowage.node.probe" -}}
{{- $node := .root.Values.node -}}
{{- $address := $node.http.address -}}
{{- $loopback := include "stowage.isLoopback" $address -}}
{{- if and $loopback (not $node.hostNetwork) -}}
{{- fail (printf "node.http.address is %s, where kubelet reaches the plugin only on the host's network: set node.hostNetwork, or use 0.0.0.0" $address) -}}
{{- end -}}
httpGet:
  {{- if $loopback }}
  host: {{ $address | trimPrefix "[" | trimSuffix "]" | quote }}
  {{- end }}
  path: {{ .path }}
  port: http
{{- end }}

{{/* The tokens that kubelet hands over, as a JSON list. The API server takes an audience once; the first mention counts. */}}
{{- define "stowage.tokenRequests" -}}
{{- $requests := list -}}
{{- $audiences := list -}}
{{- range concat .Values.csiDriver.tokenRequests ((.Values.node.config.credentials | default dict).tokenExchange | default list) -}}
{{- if not (has .audience $audiences) -}}
{{- $requests = append $requests (pick . "audience" "expirationSeconds") -}}
{{- $audiences = append $audiences .audience -}}
{{- end -}}
{{- end -}}
{{ toJson $requests }}
{{- end }}

{{/* Security context of a container that needs nothing: Pod Security level `restricted`. */}}
{{- define "stowage.restricted" -}}
{{ include "stowage.restrictedAnyUser" . }}
runAsUser: 65532
runAsGroup: 65532
{{- end }}

{{/* The same without a user: OpenShift gives the pod one. */}}
{{- define "stowage.restrictedAnyUser" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}
