#!/bin/bash
# Hosts for the real lab: each one a network, mount, UTS and PID namespace with its own sshd and dockerd.
#   hosts.sh hold WHAT   take the machine-wide lock, say `held`, keep it until stdin ends, then clean up
#   hosts.sh up N [cri|pods]   clean up, then start h1..hN (the caller holds the lock); cri: with containerd for
#                        kubelets, pods: which has the images of pods (setup-pods.sh)
#   hosts.sh down        remove everything that `up` made, whatever state it is in (the caller holds the lock)
#   hosts.sh release [--force]   the same for people: with the lock, forced also if another has it
#   hosts.sh reboot|plug|unplug HOST
#   hosts.sh sh HOST COMMAND
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
SELF=$LAB_DIR/hosts.sh

# What a host keeps to itself and over a reboot; everything else is the machine's own, /run is lost.
DISKS=(/etc/kubernetes /var/lib/etcd /var/lib/docker /var/lib/kubelet /var/lib/rancher /var/lib/cni /var/log/kube-audit /opt/rke /opt/cni /etc/cni
  /var/lib/cri-dockerd /var/lib/calico /etc/ceph /var/log/containers /var/log/pods /opt/containerd)
# What containers bind and Docker would make where the machine has none.
NEEDED=(/lib/modules)
# Kubelets set these, and they are the machine's.
SYSCTLS=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes)

netns() { echo "tsrke-$1"; }

# --- the lock -------------------------------------------------------------------------------------

owner() { cat "$LOCK" 2>/dev/null || true; }

take_lock() { # what for
  exec 8>>"$LOCK"
  if ! flock -w "${TSRKE_LAB_WAIT:-600}" 8; then
    fail "the lab of this machine is in use by: $(owner | tail -n +2); wait for it, or test/lab/lab.sh down --force"
  fi
  local stat
  read -r -a stat </proc/self/stat
  printf '%s\n%s\n' "$$ ${stat[21]} $(cat /proc/sys/kernel/random/boot_id)" "$1, since $(date '+%F %T')" >"$LOCK"
}

hold() {
  take_lock "$1"
  echo held
  cat >/dev/null 8>&- || true
  down
  : >"$LOCK"
}

release() { # [--force]: clean up what nobody holds, or, forced, what somebody does
  exec 8>>"$LOCK"
  if ! flock -n 8; then
    [ "${1:-}" = --force ] || fail "the lab is in use by: $(owner | tail -n +2); --force ends it"
    local pid start boot
    read -r pid start boot <"$LOCK"
    if process_is "$pid" "$start" "$boot"; then kill -9 "$pid"; fi
    flock -w 10 8 || fail "the lab's lock is not given back"
  fi
  down
  : >"$LOCK"
}

# --- one host -------------------------------------------------------------------------------------

process_is() { # pid, start time, boot id: still that very process?
  [ "$3" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return 1
  local stat
  { read -r -a stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  [ "${stat[21]}" = "$2" ] && [ "${stat[2]}" != Z ]
}

init_of() { # folder of a host: its first process, if it lives
  local pid start boot
  { read -r pid start boot <"$1/init"; } 2>/dev/null || return 1
  process_is "$pid" "$start" "$boot" && echo "$pid"
}

kill_host() { # folder: the end of the first process is the end of all others in its PID namespace
  local pid
  pid=$(init_of "$1") || return 0
  kill -9 "$pid" 2>/dev/null || true
  while [ -d "/proc/$pid" ] && init_of "$1" >/dev/null; do sleep 0.02; done
  rm -f "$1/init" "$1/docker.sock"
}

start_host() { # folder, name, command that enters the network namespace …
  local dir=$1 name=$2 path
  shift 2
  for path in "${DISKS[@]}"; do mkdir -p "$dir/disk$path"; done
  for path in "${DISKS[@]}" "${NEEDED[@]}"; do
    if [ ! -d "$path" ]; then
      mkdir -p "$path"
      echo "$path" >>"$STATE.mountpoints"
    fi
  done
  rm -f "$dir/init" "$dir/docker.sock"
  setsid "$@" unshare --mount --uts --pid --fork "$SELF" init "$dir" "$name" </dev/null >>"$dir/init.log" 2>&1 8>&- 9>&- &
}

wait_host() { # folder
  local tries=0
  until [ -S "$1/docker.sock" ] && [ -f "$1/init" ] && docker_api "$1" /_ping && cri_listens "$1"; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "dockerd of $(basename "$1") does not answer: $(tail -n 5 "$1/dockerd.log" "$1/init.log" 2>&1)"
    sleep 0.05
  done
}

cri_listens() { # folder
  [ ! -f "$1/containerd.toml" ] || [ -S "/proc/$(init_of "$1")/root/run/cri-dockerd.sock" ]
}

docker_api() { curl -sf --max-time 30 --unix-socket "$1/docker.sock" "http://docker$2" >/dev/null; }

init() { # folder, name: the first process of a host, in its namespaces
  local dir=$1 name=$2 path stat
  read -r -a stat </proc/self/stat # /proc is still the machine's: the pid as seen from outside
  local me="${stat[0]} ${stat[21]} $(cat /proc/sys/kernel/random/boot_id)"
  mount --make-rprivate /
  mount -t proc proc /proc
  hostname "$name"
  for path in "${DISKS[@]}"; do mount --bind "$dir/disk$path" "$path"; done
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/sshd /run/lock

  # root without a password but not locked, and a user as RKE wants one: no root, but of the docker group
  local gid
  gid=$(getent group docker | cut -d: -f3)
  { grep -v '^operator:' /etc/passwd; echo "operator:x:1717:${gid:-0}::/tmp:/bin/sh"; } >"$dir/passwd"
  { grep -v '^root:\|^operator:' /etc/shadow; echo 'root:*:19000::::::'; echo 'operator:*:19000::::::'; } >"$dir/shadow"
  chmod 600 "$dir/shadow"
  mount --bind "$dir/passwd" /etc/passwd
  mount --bind "$dir/shadow" /etc/shadow
  if [ -f "$dir/containerd.toml" ]; then own_resolver "$dir"; fi
  mount --make-rshared /

  # dockerd reads its oom score and limits; where the machine grants less, it warns and goes on
  dockerd --config-file "$dir/daemon.json" -H unix:///var/run/docker.sock -H "unix://$dir/docker.sock" \
    --pidfile /run/docker.pid --iptables=false --ip6tables=false --ip-forward=false --bridge=none \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent="/tsrke-lab/$name" \
    --add-runtime "nores=$LAB_DIR/nores-runtime.sh" --default-runtime nores \
    </dev/null >>"$dir/dockerd.log" 2>&1 &
  if [ -f "$dir/containerd.toml" ]; then
    containerd --config "$dir/containerd.toml" </dev/null >>"$dir/containerd.log" 2>&1 &
  fi
  if [ -f "$dir/sshd_config" ]; then
    /usr/sbin/sshd -D -f "$dir/sshd_config" -E "$dir/sshd.log" </dev/null &
  fi
  echo "$me" >"$dir/init.tmp" && mv "$dir/init.tmp" "$dir/init"
  while :; do
    sleep infinity &
    wait $! || true
  done
}

# Pods' names are not for the machine's resolver, which may even be on loopback: CoreDNS would take that for a loop.
own_resolver() { # folder
  local target
  target=$(readlink -m /etc/resolv.conf)
  echo "nameserver $NETWORK.1" >"$1/resolv.conf"
  mkdir -p "$(dirname "$target")"
  [ -e "$target" ] || touch "$target"
  mount --bind "$1/resolv.conf" "$target"
}

# --- up -------------------------------------------------------------------------------------------

network_up() {
  ip link add "$BRIDGE" type bridge
  ip addr add "$NETWORK.1/24" dev "$BRIDGE"
  ip link set "$BRIDGE" up
  # Where Docker once ran, FORWARD is DROP and bridged packets pass through it.
  if iptables -S FORWARD >/dev/null 2>&1; then
    iptables -I FORWARD -i "$BRIDGE" -o "$BRIDGE" -j ACCEPT
  fi
}

host_network() { # name, number, whether it looks as if there was a way out
  local ns
  ns=$(netns "$1")
  ip netns add "$ns"
  ip link add "ts-$1" type veth peer name eth0 netns "$ns"
  ip link set "ts-$1" master "$BRIDGE" up
  ip -n "$ns" addr add "$NETWORK.$((10 + $2))/24" dev eth0
  ip -n "$ns" link set lo up
  ip -n "$ns" link set eth0 up
  # Kubelets and flannel take the address of the interface that leads there.
  [ -z "$3" ] || ip -n "$ns" route add default via "$NETWORK.1"
}

host_ssh() { # folder
  ssh-keygen -q -t ed25519 -N '' -C "$(basename "$1")" -f "$1/ssh_host_ed25519_key"
  cat >"$1/sshd_config" <<CONF
ListenAddress 0.0.0.0:22
HostKey $1/ssh_host_ed25519_key
PidFile /run/sshd.pid
AuthorizedKeysFile $STATE/ssh/authorized_keys
TrustedUserCAKeys $STATE/ssh/user_ca.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
MaxAuthTries 20
MaxStartups 500
MaxSessions 1000
UseDNS no
LogLevel VERBOSE
Subsystem sftp internal-sftp
CONF
}

host_docker() { # folder: a data folder with the images loaded
  local data=$1/disk/var/lib/docker template
  template=$(docker_data)
  rm -rf "$data"
  mkdir -p "$(dirname "$data")"
  # Layers never change, so they are linked; all that dockerd writes to is copied.
  if cp -al "$template" "$data" 2>/dev/null; then
    (cd "$template" && find . -path ./overlay2/\*/diff -prune -o -type f -links +1 -print0) |
      (cd "$data" && xargs -0 -r rm -f)
    (cd "$template" && find . -path ./overlay2/\*/diff -prune -o -type f -print0 | tar -c --null -T -) | tar -x -C "$data"
  else
    rm -rf "$data"
    cp -a "$template" "$data"
  fi
  echo '{}' >"$1/daemon.json"
}

# The CRI behind the address that RKE's kubelet is given: containerd instead of cri-dockerd.
host_containerd() { # folder, whether it has the images of pods
  local data=$1/disk/var/lib/cri-dockerd/containerd file
  containerd_config /var/lib/cri-dockerd/containerd /run/cri-containerd /run/cri-dockerd.sock >"$1/containerd.toml"
  rm -rf "$data"
  mkdir -p "$(dirname "$data")"
  if [ "$2" = pods ]; then
    # Contents and layers never change, so they are linked; the two databases are copied.
    cp -al "$(containerd_data)" "$data" 2>/dev/null || { rm -rf "$data"; cp -a "$(containerd_data)" "$data"; }
    find "$data" -name '*.db' | while read -r file; do cp -p "$file" "$file.own" && mv "$file.own" "$file"; done
  fi
}

containerd_config() { # root, state, socket, one more plugin that is not wanted…
  local unwanted=(snapshotter.v1.aufs snapshotter.v1.btrfs snapshotter.v1.devmapper snapshotter.v1.zfs "${@:4}")
  cat <<CONF
version = 2
root = "$1"
state = "$2"
disabled_plugins = [$(printf '"io.containerd.%s", ' "${unwanted[@]}")]
[grpc]
address = "$3"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/$PAUSE_IMAGE"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "$LAB_DIR/nores-runtime.sh"
CONF
}

up() { # how many, cri or pods
  [ -d "$(docker_data)" ] || fail "not set up: run test/lab/setup.sh"
  [ "${2:-}" != pods ] || [ -d "$(containerd_data)" ] || fail "not set up for pods: run test/lab/setup-pods.sh"
  down
  [ -z "${2:-}" ] || sysctl "${SYSCTLS[@]}" >"$STATE.sysctls" 2>/dev/null || true
  mkdir -p "$STATE/ssh"
  chmod 711 "$STATE"
  # Docker's overlay2 cannot lie on an overlay (a container's root file system): then memory is the disk.
  if [ "$(stat -f -c %T "$STATE")" = overlayfs ]; then mount -t tmpfs -o mode=711 tmpfs "$STATE" && mkdir -p "$STATE/ssh"; fi
  ssh-keygen -q -t ed25519 -N '' -C 'tsrke lab' -f "$STATE/ssh/id_ed25519"
  ssh-keygen -q -t ed25519 -N '' -C 'tsrke lab user CA' -f "$STATE/ssh/user_ca"
  cp "$STATE/ssh/id_ed25519.pub" "$STATE/ssh/authorized_keys"
  network_up
  local i
  for ((i = 1; i <= $1; i++)); do
    mkdir -p "$STATE/h$i"
    host_network "h$i" "$i" "${2:-}"
    host_ssh "$STATE/h$i"
    host_docker "$STATE/h$i"
    [ -z "${2:-}" ] || host_containerd "$STATE/h$i" "$2"
    start_host "$STATE/h$i" "h$i" nsenter --net="/run/netns/$(netns "h$i")"
  done
  for ((i = 1; i <= $1; i++)); do wait_host "$STATE/h$i"; done
}

reboot() { # host
  kill_host "$STATE/$1"
  drop_cgroups "/tsrke-lab/$1"
  start_host "$STATE/$1" "$1" nsenter --net="/run/netns/$(netns "$1")"
  wait_host "$STATE/$1"
}

# --- down -----------------------------------------------------------------------------------------

drop_cgroups() { # path
  local dir tries=0
  while compgen -G "/sys/fs/cgroup/*$1" >/dev/null || [ -d "/sys/fs/cgroup$1" ]; do
    for dir in /sys/fs/cgroup/*"$1" "/sys/fs/cgroup$1"; do
      [ ! -d "$dir" ] || find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { say "some cgroups below $1 are still in use"; return; }
    sleep 0.02
  done
}

down() {
  local dir ns pid path
  for dir in "$STATE"/h*; do kill_host "$dir"; done
  # Whatever else runs in a network namespace of ours was started by us.
  for ns in $(ip netns list 2>/dev/null | grep -o '^tsrke-h[0-9]*' || true); do
    for pid in $(ip netns pids "$ns"); do kill -9 "$pid" 2>/dev/null || true; done
    ip netns delete "$ns"
  done
  { ip -o link show 2>/dev/null | grep -o ' ts-h[0-9]*@' || true; } | tr -d ' @' | while read -r path; do ip link delete "$path" 2>/dev/null || true; done
  if ip link show "$BRIDGE" >/dev/null 2>&1; then ip link delete "$BRIDGE"; fi
  while iptables -D FORWARD -i "$BRIDGE" -o "$BRIDGE" -j ACCEPT 2>/dev/null; do :; done
  drop_cgroups /tsrke-lab
  if mountpoint -q "$STATE"; then umount -l "$STATE"; fi
  # A mount left below would make `rm` reach into it.
  if grep -q " $STATE/" /proc/self/mounts; then
    grep -o " $STATE/[^ ]*" /proc/self/mounts | tac | while read -r path; do umount -l "$path"; done
  fi
  rm -rf "$STATE"
  if [ -f "$STATE.mountpoints" ]; then
    tac "$STATE.mountpoints" | while read -r path; do rmdir "$path" 2>/dev/null || true; done
    rm -f "$STATE.mountpoints"
  fi
  if [ -f "$STATE.sysctls" ]; then
    sysctl -q -p "$STATE.sysctls" || say "the machine's sysctls are not all as they were"
    rm -f "$STATE.sysctls"
  fi
}

# --- the images, once -----------------------------------------------------------------------------

prepare_docker() { # target: a data folder with the images loaded
  local dir=$1.tmp$$
  mkdir -p "$dir"
  echo '{}' >"$dir/daemon.json"
  if [ "$(stat -f -c %T "$dir")" = overlayfs ]; then mkdir -p "$dir/disk" && mount -t tmpfs tmpfs "$dir/disk"; fi
  start_host "$dir" "prepare$$" unshare --net
  wait_host "$dir"
  curl -sf --max-time 300 --unix-socket "$dir/docker.sock" -H 'Content-Type: application/x-tar' -T - -X POST "http://docker/images/load?quiet=1" <"$IMAGES" |
    tee "$dir/load.log" >&2
  if grep -q '"error"' "$dir/load.log"; then fail "dockerd does not take the images"; fi
  nsenter -t "$(init_of "$dir")" -m -p sh -c 'p=$(cat /run/docker.pid); kill "$p"; while [ -d "/proc/$p" ]; do sleep 0.05; done'
  kill_host "$dir"
  if mountpoint -q "$dir/disk"; then
    cp -a "$dir/disk/var/lib/docker" "$dir/docker"
    umount -l "$dir/disk"
  else
    mv "$dir/disk/var/lib/docker" "$dir/docker"
  fi
  drop_cgroups "/tsrke-lab/prepare$$"
  mv "$dir/docker" "$1"
  rm -rf "$dir"
}

prepare_containerd() { # target: a data folder with the images of pods
  local dir=$1.tmp$$
  mkdir -p "$dir/data"
  # Those two make folders in /etc/cni and /opt, which are the machine's here.
  containerd_config "$dir/data" "$dir/state" "$dir/sock" grpc.v1.cri internal.v1.opt >"$dir/containerd.toml"
  # Images are unpacked by mounting them.
  unshare --mount --fork --pid --kill-child bash -ec "
    mount --make-rprivate /
    mount -t proc proc /proc
    if [ \$(stat -f -c %T '$dir') = overlayfs ]; then mount -t tmpfs tmpfs '$dir/data'; fi
    containerd --config '$dir/containerd.toml' </dev/null >'$dir/log' 2>&1 &
    until ctr -a '$dir/sock' version >/dev/null 2>&1; do sleep 0.05; kill -0 \$!; done
    ctr -a '$dir/sock' -n k8s.io images import '$POD_IMAGES' >&2
    kill \$! && wait \$! || true
    cp -a '$dir/data' '$dir/done'
  " || fail "containerd does not take the images of pods: $(tail -n 5 "$dir/log")"
  mv "$dir/done" "$1"
  rm -rf "$dir"
}

case ${1:-} in
init) init "$2" "$3" ;;
hold) hold "${2:-someone}" ;;
up) up "${2:-3}" "${3:-}" ;;
down) down ;;
release) release "${2:-}" ;;
reboot) reboot "$2" ;;
plug) ip link set "ts-$2" up ;;
# Flushed: a neighbour that is still known costs its callers a full connect timeout instead of three seconds.
unplug) ip link set "ts-$2" down && ip neigh flush dev "$BRIDGE" ;;
sh) exec nsenter -t "$(init_of "$STATE/$2")" -m -u -n -p -- sh -c "cd /; $3" ;;
prepare-containerd) prepare_containerd "$2" ;;
prepare-docker) prepare_docker "$2" ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$SELF" >&2; exit 3 ;;
esac
