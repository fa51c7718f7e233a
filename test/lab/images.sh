#!/bin/bash
# Writes the lab's images, under the names of RKE's own, into one archive for `docker load`: images.sh TARGET.
# There is no registry and no daemon yet, so the archive is put together by hand (archive.sh).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
. "$LAB_DIR/archive.sh"

begin_archive "$1"

userland "$work/system"
# kubelet and kube-proxy call these; what else they call busybox has.
program "$work/system" iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore mount umount
extensions "$work/system"
system=$(layer "$work/system")

# A wrapper takes away RKE's options for 1.30 that later versions refuse, as they no longer know them.
wrappers() { # folder, components, what the version is to say of itself
  local bin=$1/usr/local/bin component
  mkdir -p "$bin"
  { echo '#!/bin/sh'
    [ -z "${3:-}" ] || echo "export LAB_KUBERNETES_VERSION=$3"
    cat <<'SH'
n=$#
while [ $n -gt 0 ]; do
  n=$((n - 1)) arg=$1
  shift
  case $arg in
  --cloud-provider=* | --cloud-config=* | --storage-backend=* | --runtime-config=authorization.k8s.io/v1beta1=true) ;;
  --allow-untagged-cloud=* | --configure-cloud-routes=* | --enable-hostpath-provisioner=*) ;;
  --pod-infra-container-image=*) ;;
  *) set -- "$@" "$arg" ;;
  esac
done
exec "/usr/local/lib/kubernetes/${0##*/}" "$@"
SH
  } >"$bin/kube-apiserver"
  chmod 755 "$bin/kube-apiserver"
  for component in $2; do [ "$component" = kube-apiserver ] || ln -s kube-apiserver "$bin/$component"; done
}

components() { # folder, binary, its components
  local lib=$1/usr/local/lib/kubernetes component
  mkdir -p "$lib"
  cp "$2" "$lib/binary"
  for component in $3; do ln -s binary "$lib/$component"; done
}

# Of labs whose scenarios only need kube-apiserver: RKE's other containers are there and run, and do nothing.
stand_ins() { # folder, components
  local bin=$1/usr/local/bin component
  mkdir -p "$bin"
  for component in $2; do
    cat >"$bin/$component" <<'SH'
#!/bin/sh
trap 'kill $!; exit' TERM
sleep infinity &
wait $!
SH
    chmod 755 "$bin/$component"
  done
}

others='kube-controller-manager kube-scheduler kubelet kube-proxy'
stand_ins "$work/still" "$others"
still=$(layer "$work/still")

all="kube-apiserver $others"
components "$work/hyperkube" "$HYPERKUBE_BIN" "$all"
hyperkube=$(layer "$work/hyperkube")
wrappers "$work/now" "$all"
now=$(layer "$work/now")
image rancher/hyperkube:v1.30.5-rancher1 '' "$system" "$hyperkube" "$now"
image tsrke-lab/hyperkube:1.34 '' "$system" "$hyperkube" "$now" "$still"
wrappers "$work/earlier" "$all" "$KUBERNETES_EARLIER"
image rancher/hyperkube:v1.30.4-rancher1 '' "$system" "$hyperkube" "$(layer "$work/earlier")"

wrappers "$work/apiserver" kube-apiserver
apiserver=$(layer "$work/apiserver")
components "$work/old" "$APISERVER_OLD_BIN" kube-apiserver
image tsrke-lab/hyperkube:1.33 '' "$system" "$(layer "$work/old")" "$apiserver" "$still"
components "$work/new" "$APISERVER_NEW_BIN" kube-apiserver
image tsrke-lab/hyperkube:1.37 '' "$system" "$(layer "$work/new")" "$apiserver" "$still"

mkdir -p "$work/etcd/usr/local/bin"
cp "$ETCD_BIN" "$work/etcd/usr/local/bin/etcd"
ln -s etcd "$work/etcd/usr/local/bin/etcdctl"
image "$ETCD_IMAGE" '' "$(layer "$work/etcd")"

mkdir -p "$work/kms/usr/local/bin"
cp "$KMS_PLUGIN_BIN" "$work/kms/usr/local/bin/kms-plugin"
image "$KMS_IMAGE:1" /usr/local/bin/kms-plugin "$(layer "$work/kms")"
touch "$work/kms/2"
image "$KMS_IMAGE:2" /usr/local/bin/kms-plugin "$(layer "$work/kms")"

mkdir -p "$work/tools/opt/rke-tools" "$work/tools/usr/local/bin"
cp "$TOOLS_BIN" "$work/tools/usr/local/bin/nginx-proxy"
# RKE's would start cri-dockerd and wait for its socket; the lab's hosts have containerd there. Each host has a cgroup
# of its own, so that no kubelet takes another's pods for leftovers.
cat >"$work/tools/opt/rke-tools/entrypoint.sh" <<'SH'
#!/bin/sh
case $1 in
kubelet) exec "$@" --cgroup-driver=cgroupfs "--cgroup-root=/tsrke-lab/$(hostname)" ;;
esac
exec "$@"
SH
chmod 755 "$work/tools/opt/rke-tools/entrypoint.sh"
tools=$(layer "$work/tools")
for name in $TOOLS_IMAGES; do volume=/opt/rke-tools image "$name" '' "$system" "$tools"; done

end_archive "$1"
