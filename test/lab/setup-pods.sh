#!/bin/bash
# Makes this machine ready for labs with pods (a network plugin, CoreDNS, metrics-server): after setup.sh, and only for
# the tests that ask for it. Minutes the first time, then nothing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
. "$LAB_DIR/parts.sh"

mkdir -p "$PODS"
exec 9>"$PODS/.lock"
flock -w 1800 9 || fail "another setup holds $PODS/.lock"
rm -rf "$PODS"/*.tmp*

packages /usr/lib/cni/bridge:containernetworking-plugins
install_program "$COREDNS_BIN" github.com/coredns/coredns@$COREDNS
install_program "$METRICS_SERVER_BIN" sigs.k8s.io/metrics-server/cmd/metrics-server@$METRICS_SERVER
build "$FLANNEL_BIN" flannel "-s -w"
[ -f "$POD_IMAGES" ] || "$LAB_DIR/pod-images.sh" "$POD_IMAGES"
[ -d "$(containerd_data)" ] || "$LAB_DIR/hosts.sh" prepare-containerd "$(containerd_data)" 9>&-

# What an older recipe made.
for old in "$PODS"/*-*; do
  case $old in
  "$COREDNS_BIN" | "$METRICS_SERVER_BIN" | "$FLANNEL_BIN" | "$POD_IMAGES" | "$(containerd_data)") ;;
  *) rm -rf "$old" ;;
  esac
done
