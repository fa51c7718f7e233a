#!/bin/bash
# Makes this machine ready for the real lab: Debian packages, Go binaries, images. Run as root, as often
# as you like; with a full cache it takes a second. Nothing is left running.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
. "$LAB_DIR/parts.sh"

[ "$(id -u)" = 0 ] || fail "the real lab needs root (namespaces, dockerd)"

mkdir -p "$CACHE"
exec 9>"$CACHE/.lock"
flock -w 1800 9 || fail "another setup holds $CACHE/.lock"
rm -rf "$CACHE"/*.tmp*

busybox=/bin/busybox
! ldd $busybox >/dev/null 2>&1 || busybox=/bin/busybox-static # another one is of no use in an image
packages dockerd:docker.io containerd:containerd sshd:openssh-server ssh-keygen:openssh-client ip:iproute2 \
  iptables:iptables nsenter:util-linux sysctl:procps curl:curl $busybox:busybox-static
build "$ETCD_BIN" etcd "-s -w"
build "$TOOLS_BIN" tools "-s -w"
build "$KMS_PLUGIN_BIN" kms-plugin "-s -w"
build "$HYPERKUBE_BIN" hyperkube "$(kubernetes_flags $KUBERNETES)"
build "$APISERVER_OLD_BIN" kube-apiserver "$(kubernetes_flags $KUBERNETES_OLD)"
build "$APISERVER_NEW_BIN" kube-apiserver "$(kubernetes_flags $KUBERNETES_NEW)" 1.37
"$LAB_DIR/oracles.sh" >/dev/null 9>&-
# Only benchmarks ask for kubectl: the machine's own, or this one by its plain name in the cache.
if ! command -v kubectl >/dev/null; then
  build "$KUBECTL_BIN" kubectl "$KUBECTL_FLAGS"
  ln -sfn "$(basename "$KUBECTL_BIN")" "$CACHE/kubectl"
fi
[ -f "$IMAGES" ] || "$LAB_DIR/images.sh" "$IMAGES"
[ -d "$(docker_data)" ] || "$LAB_DIR/hosts.sh" prepare-docker "$(docker_data)" 9>&-

# What an older recipe made.
for old in "$CACHE"/*-*; do
  case $old in
  "$ETCD_BIN" | "$KMS_PLUGIN_BIN" | "$HYPERKUBE_BIN" | "$TOOLS_BIN" | "$APISERVER_OLD_BIN" | "$APISERVER_NEW_BIN" | "$KUBECTL_BIN" | "$IMAGES" | "$(docker_data)") ;;
  *) rm -rf "$old" ;;
  esac
done
