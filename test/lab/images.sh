#!/bin/bash
# Writes the lab's images, under the names of RKE's own, into one archive for `docker load`: images.sh TARGET.
# There is no registry and no daemon yet, so the archive is put together by hand.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

target=$1
work=$target.tmp$$
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/out"
manifest=()

image() { # folder, name, entrypoint: one layer, one entry in the manifest
  local root=$1 name=$2 entrypoint=${3:-} layer config
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$root" -cf "$work/layer.tar" .
  layer=$(sha256sum <"$work/layer.tar" | cut -d' ' -f1)
  mkdir -p "$work/out/$layer"
  mv "$work/layer.tar" "$work/out/$layer/layer.tar"
  config='{"architecture":"amd64","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'${entrypoint:+",\"Entrypoint\":[\"$entrypoint\"]"}'},"rootfs":{"type":"layers","diff_ids":["sha256:'$layer'"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}'
  local id
  id=$(printf %s "$config" | sha256sum | cut -d' ' -f1)
  printf %s "$config" >"$work/out/$id.json"
  manifest+=("{\"Config\":\"$id.json\",\"RepoTags\":[\"$name\"],\"Layers\":[\"$layer/layer.tar\"]}")
}

userland() { # folder: what scripts expect of a small system
  mkdir -p "$1"/{bin,sbin,etc,tmp,root,usr/bin,usr/local/bin,var/log,opt}
  chmod 1777 "$1/tmp"
  cp /bin/busybox "$1/bin/busybox"
  local applet
  for applet in $(/bin/busybox --list); do
    [ -e "$1/bin/$applet" ] || ln -s busybox "$1/bin/$applet"
  done
  rm -f "$1/bin/bash"
  printf '#!/bin/sh\nexec /bin/sh "$@"\n' >"$1/bin/bash"
  chmod 755 "$1/bin/bash"
  ln -s ../../bin/env "$1/usr/bin/env"
  echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
  echo 'root:x:0:' >"$1/etc/group"
}

hyperkube() { # name, binary
  local root=$work/hyperkube
  rm -rf "$root"
  userland "$root"
  cp "$2" "$root/usr/local/bin/kube-apiserver.bin"
  # RKE's options are for 1.30; 1.34 and 1.37 refuse those they no longer know.
  cat >"$root/usr/local/bin/kube-apiserver" <<'SH'
#!/bin/sh
n=$#
while [ $n -gt 0 ]; do
  n=$((n - 1)) arg=$1
  shift
  case $arg in
  --cloud-provider=* | --cloud-config=* | --storage-backend=* | --runtime-config=authorization.k8s.io/v1beta1=true) ;;
  *) set -- "$@" "$arg" ;;
  esac
done
exec /usr/local/bin/kube-apiserver.bin "$@"
SH
  chmod 755 "$root/usr/local/bin/kube-apiserver"
  image "$root" "$1"
}

hyperkube tsrke-lab/hyperkube:1.34 "$APISERVER_BIN"
hyperkube tsrke-lab/hyperkube:1.33 "$APISERVER_OLD_BIN"
hyperkube tsrke-lab/hyperkube:1.37 "$APISERVER_NEW_BIN"

mkdir -p "$work/etcd/usr/local/bin"
cp "$ETCD_BIN" "$work/etcd/usr/local/bin/etcd"
ln -s etcd "$work/etcd/usr/local/bin/etcdctl"
image "$work/etcd" "$ETCD_IMAGE"

mkdir -p "$work/kms/usr/local/bin"
cp "$KMS_PLUGIN_BIN" "$work/kms/usr/local/bin/kms-plugin"
image "$work/kms" "$KMS_IMAGE:1" /usr/local/bin/kms-plugin
touch "$work/kms/2"
image "$work/kms" "$KMS_IMAGE:2" /usr/local/bin/kms-plugin

userland "$work/tools"
mkdir -p "$work/tools/opt/rke-tools"
cat >"$work/tools/opt/rke-tools/entrypoint.sh" <<'SH'
#!/bin/sh
exec "$@"
SH
chmod 755 "$work/tools/opt/rke-tools/entrypoint.sh"
image "$work/tools" "$TOOLS_IMAGE"

(IFS=, && echo "[${manifest[*]}]") >"$work/out/manifest.json"
tar -C "$work/out" -cf "$work/images.tar" .
mv "$work/images.tar" "$target"
