# Sourced by the lab's scripts: names, places and the keys of the cache. Sets variables, does nothing.
LAB_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

CACHE=${TSRKE_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tsrke-lab}
# One lab per machine: pids, sockets, and the hosts' disks while they are up.
STATE=/var/lib/tsrke-lab
LOCK=/var/lib/tsrke-lab.lock
BRIDGE=tsrke0
NETWORK=198.51.100

KUBERNETES=v1.34.4
KUBERNETES_EARLIER=v1.34.4-earlier # the same binary, which says so
KUBERNETES_OLD=v1.33.9 # the same source under an older label, see go/kube-apiserver
KUBERNETES_NEW=v1.37.2 # a source of its own: go/kube-apiserver/1.37.mod
ETCD=v3.5.35
ETCD_IMAGE=rancher/mirrored-coreos-etcd:v3.5.12
TOOLS_IMAGES='rancher/rke-tools:v0.1.103 rancher/rke-tools:v0.1.102' # of v1.30.5-rancher1-1 and v1.30.4-rancher1-1
PAUSE_IMAGE=rancher/mirrored-pause:3.7
KMS_IMAGE=tsrke/lab-kms-plugin # tags 1 and 2

kubernetes_flags() { # version: what `go build` is told
  local v=${1#v} p=k8s.io/component-base/version
  local minor=${v#*.}
  echo "-s -w -X $p.gitVersion=$1 -X $p.gitMajor=${v%%.*} -X $p.gitMinor=${minor%%.*} -X $p.gitTreeState=clean"
}

# The hash of what a binary or image is made from is part of its file name, so a changed recipe is a
# missing file.
hash_of() { cat "$@" | sha256sum | cut -c1-12; }
recipe() { # go module folder, ldflags, name of the module file without its ending
  { cat "$LAB_DIR/go/$1"/*.go "$LAB_DIR/go/$1/${3:-go}".*; echo "$2"; } | sha256sum | cut -c1-12
}

HYPERKUBE_BIN=$CACHE/hyperkube-$KUBERNETES-$(recipe hyperkube "$(kubernetes_flags $KUBERNETES)")
APISERVER_OLD_BIN=$CACHE/kube-apiserver-$KUBERNETES_OLD-$(recipe kube-apiserver "$(kubernetes_flags $KUBERNETES_OLD)")
APISERVER_NEW_BIN=$CACHE/kube-apiserver-$KUBERNETES_NEW-$(recipe kube-apiserver "$(kubernetes_flags $KUBERNETES_NEW)" 1.37)
ETCD_BIN=$CACHE/etcd-$ETCD-$(recipe etcd "-s -w")
TOOLS_BIN=$CACHE/tools-$(recipe tools "-s -w")
KMS_PLUGIN_BIN=$CACHE/kms-plugin-$(recipe kms-plugin "-s -w")
# kube-apiserver's own judgement of provider files, one binary per Kubernetes minor: see oracles.sh.
ORACLES=$CACHE/oracles
ORACLE_MINORS=${TSRKE_ORACLES:-1.24 1.26 1.28 1.30 1.32 1.34 1.37} # of 1.24 to 1.37
KUBECTL_FLAGS=$(kubernetes_flags $KUBERNETES)
KUBECTL_BIN=$CACHE/kubectl-$KUBERNETES-$(recipe kubectl "$KUBECTL_FLAGS")

# Images, and a Docker data folder that has them loaded. Docker's version is in the key of the latter.
images_hash() {
  { hash_of "$LAB_DIR/images.sh" "$LAB_DIR/archive.sh"; echo "$HYPERKUBE_BIN $KUBERNETES_EARLIER $APISERVER_OLD_BIN $APISERVER_NEW_BIN $ETCD_BIN $TOOLS_BIN $KMS_PLUGIN_BIN $ETCD_IMAGE $TOOLS_IMAGES $KMS_IMAGE"; } | sha256sum | cut -c1-12
}
IMAGES=$CACHE/images-$(images_hash).tar
docker_data() { echo "$CACHE/docker-$(images_hash)-$(dockerd --version 2>/dev/null | sha256sum | cut -c1-6)"; }

# What pods need, made by setup-pods.sh for the tests that have pods: images, and a data folder of containerd that has
# them. Where a module is not served in RKE's version, another is under RKE's name.
PODS=$CACHE/pods
COREDNS=v1.11.1
METRICS_SERVER=v0.7.1
COREDNS_BIN=$PODS/coredns-$COREDNS
METRICS_SERVER_BIN=$PODS/metrics-server-$METRICS_SERVER
FLANNEL_BIN=$PODS/flannel-$(recipe flannel "-s -w")
COREDNS_IMAGE=rancher/mirrored-coredns-coredns:1.11.1
AUTOSCALER_IMAGE=rancher/mirrored-cluster-proportional-autoscaler:v1.8.9
METRICS_SERVER_IMAGE=rancher/mirrored-metrics-server:v0.7.1
FLANNEL_IMAGE=rancher/mirrored-flannel-flannel:v0.25.1
FLANNEL_CNI_IMAGE=rancher/flannel-cni:v1.4.1-rancher1
SHELL_IMAGE=tsrke-lab/shell:1
pod_images_hash() {
  { hash_of "$LAB_DIR/pod-images.sh" "$LAB_DIR/archive.sh"; echo "$TOOLS_BIN $COREDNS $METRICS_SERVER $FLANNEL_BIN"; set | grep '_IMAGE='; } | sha256sum | cut -c1-12
}
POD_IMAGES=$PODS/images-$(pod_images_hash).tar
containerd_data() { echo "$PODS/containerd-$(pod_images_hash)-$(containerd --version 2>/dev/null | sha256sum | cut -c1-6)"; }

say() { echo "lab: $*" >&2; }
fail() { say "$*"; exit 1; }
