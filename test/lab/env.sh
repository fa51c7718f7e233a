# Sourced by the lab's scripts: names, places and the keys of the cache. Sets variables, does nothing.
LAB_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

CACHE=${TSRKE_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tsrke-lab}
# One lab per machine: pids, sockets, and the hosts' disks while they are up.
STATE=/var/lib/tsrke-lab
LOCK=/var/lib/tsrke-lab.lock
BRIDGE=tsrke0
NETWORK=198.51.100

KUBERNETES=v1.34.4
KUBERNETES_OLD=v1.33.9 # the same source under an older label, see go/kube-apiserver
KUBERNETES_NEW=v1.37.2 # a source of its own: go/kube-apiserver/1.37.mod
ETCD=v3.5.35
HYPERKUBE_IMAGE=rancher/hyperkube:v1.30.5-rancher1
ETCD_IMAGE=rancher/mirrored-coreos-etcd:v3.5.12
TOOLS_IMAGE=rancher/rke-tools:v0.1.103
KMS_IMAGE=tsrke/lab-kms-plugin # tags 1 and 2

apiserver_flags() { # version: what `go build` is told
  local v=${1#v} p=k8s.io/component-base/version
  local minor=${v#*.}
  echo "-s -w -X $p.gitVersion=$1 -X $p.gitMajor=${v%%.*} -X $p.gitMinor=${minor%%.*} -X $p.gitTreeState=clean"
}

# The hash of what a binary or image is made from is part of its file name, so a changed recipe is a
# missing file.
hash_of() { cat "$@" | sha256sum | cut -c1-12; }
recipe() { # go module folder, ldflags, name of the module file without its ending
  { cat "$LAB_DIR/go/$1"/*.go "$LAB_DIR/go/$1/${3:-go}.mod" "$LAB_DIR/go/$1/${3:-go}.sum"; echo "$2"; } | sha256sum | cut -c1-12
}

APISERVER_BIN=$CACHE/kube-apiserver-$KUBERNETES-$(recipe kube-apiserver "$(apiserver_flags $KUBERNETES)")
APISERVER_OLD_BIN=$CACHE/kube-apiserver-$KUBERNETES_OLD-$(recipe kube-apiserver "$(apiserver_flags $KUBERNETES_OLD)")
APISERVER_NEW_BIN=$CACHE/kube-apiserver-$KUBERNETES_NEW-$(recipe kube-apiserver "$(apiserver_flags $KUBERNETES_NEW)" 1.37)
ETCD_BIN=$CACHE/etcd-$ETCD-$(recipe etcd "-s -w")
KMS_PLUGIN_BIN=$CACHE/kms-plugin-$(recipe kms-plugin "-s -w")
# kube-apiserver's own judgement of provider files, one binary per Kubernetes minor: see oracles.sh.
ORACLES=$CACHE/oracles
ORACLE_MINORS=${TSRKE_ORACLES:-1.24 1.26 1.28 1.30 1.32 1.34 1.37} # of 1.24 to 1.37
KUBECTL_FLAGS=$(apiserver_flags $KUBERNETES)
KUBECTL_BIN=$CACHE/kubectl-$KUBERNETES-$(recipe kubectl "$KUBECTL_FLAGS")

# Images, and a Docker data folder that has them loaded. Docker's version is in the key of the latter.
images_hash() {
  { hash_of "$LAB_DIR/images.sh"; echo "$APISERVER_BIN $APISERVER_OLD_BIN $APISERVER_NEW_BIN $ETCD_BIN $KMS_PLUGIN_BIN $HYPERKUBE_IMAGE $ETCD_IMAGE $TOOLS_IMAGE $KMS_IMAGE"; } | sha256sum | cut -c1-12
}
IMAGES=$CACHE/images-$(images_hash).tar
docker_data() { echo "$CACHE/docker-$(images_hash)-$(dockerd --version 2>/dev/null | sha256sum | cut -c1-6)"; }

say() { echo "lab: $*" >&2; }
fail() { say "$*"; exit 1; }
