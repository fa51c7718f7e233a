#!/bin/bash
# Writes the images of pods, under the names of RKE's own, into one archive for `ctr images import`:
# pod-images.sh TARGET.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
. "$LAB_DIR/archive.sh"

begin_archive "$1"

binary() { # image, path in it, binary: nothing else is in there
  local root
  root=$(mktemp -d "$work/root.XXXXXX")
  mkdir -p "$root$(dirname "$2")" "$root/tmp" "$root/etc"
  chmod 755 "$root" && chmod 1777 "$root/tmp"
  cp "$3" "$root$2"
  image "$1" "$2" "$(layer "$root")"
}

binary "$PAUSE_IMAGE" /pause "$TOOLS_BIN"
binary "$COREDNS_IMAGE" /coredns "$COREDNS_BIN"
binary "$METRICS_SERVER_IMAGE" /metrics-server "$METRICS_SERVER_BIN"
# Its module is not served, and nothing in a lab has to be scaled.
binary "$AUTOSCALER_IMAGE" /cluster-proportional-autoscaler "$TOOLS_BIN"

userland "$work/system"
program "$work/system" iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore
extensions "$work/system"
system=$(layer "$work/system")

image "$SHELL_IMAGE" '' "$system"

mkdir -p "$work/flannel/opt/bin"
cp "$FLANNEL_BIN" "$work/flannel/opt/bin/flanneld"
image "$FLANNEL_IMAGE" /opt/bin/flanneld "$system" "$(layer "$work/flannel")"

mkdir -p "$work/cni/opt/cni/bin"
for plugin in bridge host-local loopback portmap; do cp "/usr/lib/cni/$plugin" "$work/cni/opt/cni/bin/"; done
cp "$TOOLS_BIN" "$work/cni/opt/cni/bin/flannel"
# As RKE's: plugins and configuration go to the folders of the host, then it stays.
cat >"$work/cni/install-cni.sh" <<'SH'
#!/bin/sh
set -e
mkdir -p /host/opt/cni/bin /host/etc/cni/net.d
for plugin in /opt/cni/bin/*; do
  cp "$plugin" "/host/opt/cni/bin/.${plugin##*/}" && mv "/host/opt/cni/bin/.${plugin##*/}" "/host/opt/cni/bin/${plugin##*/}"
done
conf=/host/etc/cni/net.d/${CNI_CONF_NAME:-10-flannel.conflist}
[ -z "${CNI_NETWORK_CONFIG:-}" ] || { echo "$CNI_NETWORK_CONFIG" >"$conf.tmp" && mv "$conf.tmp" "$conf"; }
trap 'exit 0' INT TERM
while [ "${SLEEP:-true}" = true ]; do sleep 3600 & wait $!; done
SH
chmod 755 "$work/cni/install-cni.sh"
image "$FLANNEL_CNI_IMAGE" '' "$system" "$(layer "$work/cni")"

end_archive "$1"
