#!/bin/bash
# Makes this machine ready for the real lab: Debian packages, Go binaries, images. Run as root, as often
# as you like; with a full cache it takes a second. Nothing is left running.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

[ "$(id -u)" = 0 ] || fail "the real lab needs root (namespaces, dockerd)"

packages() {
  local want=() have
  for have in dockerd:docker.io sshd:openssh-server ssh-keygen:openssh-client ip:iproute2 iptables:iptables nsenter:util-linux curl:curl; do
    command -v "${have%%:*}" >/dev/null || want+=("${have#*:}")
  done
  [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || want+=(busybox-static)
  [ ${#want[@]} -gt 0 ] || return 0
  say "installing ${want[*]}"
  # A package must not start its own dockerd or sshd.
  local policy=/usr/sbin/policy-rc.d ours=
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && ours=1
  fi
  local failed=0
  apt-get update -q >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${want[@]}" >&2 || failed=1
  [ -z "$ours" ] || rm -f $policy
  [ $failed = 0 ] || fail "apt-get could not install ${want[*]}"
}

build() { # target, go module folder, ldflags, name of the module file without its ending
  [ ! -x "$1" ] || return 0
  command -v go >/dev/null || fail "Go is needed to build $(basename "$1")"
  say "building $(basename "$1")"
  (cd "$LAB_DIR/go/$2" && CGO_ENABLED=0 go build -modfile="${4:-go}.mod" -trimpath -ldflags "$3" -o "$1.tmp$$" .)
  mv "$1.tmp$$" "$1"
}

mkdir -p "$CACHE"
exec 9>"$CACHE/.lock"
flock -w 1800 9 || fail "another setup holds $CACHE/.lock"
rm -rf "$CACHE"/*.tmp*

packages
build "$ETCD_BIN" etcd "-s -w"
build "$KMS_PLUGIN_BIN" kms-plugin "-s -w"
build "$APISERVER_BIN" kube-apiserver "$(apiserver_flags $KUBERNETES)"
build "$APISERVER_OLD_BIN" kube-apiserver "$(apiserver_flags $KUBERNETES_OLD)"
build "$APISERVER_NEW_BIN" kube-apiserver "$(apiserver_flags $KUBERNETES_NEW)" 1.37
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
  "$ETCD_BIN" | "$KMS_PLUGIN_BIN" | "$APISERVER_BIN" | "$APISERVER_OLD_BIN" | "$APISERVER_NEW_BIN" | "$KUBECTL_BIN" | "$IMAGES" | "$(docker_data)") ;;
  *) rm -rf "$old" ;;
  esac
done
