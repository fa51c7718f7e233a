# Sourced: puts an archive of images together by hand, in the form of `docker save`.
# begin_archive TARGET; image NAME ENTRYPOINT LAYER…, with layers from `layer FOLDER`; end_archive TARGET.

begin_archive() {
  work=$1.tmp$$
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/out"
  manifest=()
}

end_archive() {
  (IFS=, && echo "[${manifest[*]}]") >"$work/out/manifest.json"
  tar -C "$work/out" -cf "$work/images.tar" .
  mv "$work/images.tar" "$1"
}

layer() { # folder: the layer's name; one of the same content is one layer
  local tar name
  tar=$(mktemp "$work/layer.XXXXXX")
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$1" -cf "$tar" .
  name=$(sha256sum <"$tar" | cut -d' ' -f1)
  mkdir -p "$work/out/$name"
  mv "$tar" "$work/out/$name/layer.tar"
  echo "$name"
}

quoted() { # words: as the members of a JSON array
  local word list=()
  for word in "$@"; do list+=("\"$word\""); done
  (IFS=, && echo "${list[*]}")
}

image() { # name, entrypoint or nothing, layers…; $volume: a folder that each container has for itself
  local name=$1 entrypoint=$2 config id
  shift 2
  config='{"architecture":"amd64","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'${entrypoint:+",\"Entrypoint\":[\"$entrypoint\"]"}${volume:+",\"Volumes\":{\"$volume\":{}}"}'},"rootfs":{"type":"layers","diff_ids":['$(quoted "${@/#/sha256:}")']},"history":['
  local each history=()
  for each in "$@"; do history+=('{"created":"1970-01-01T00:00:00Z"}'); done
  config+=$(IFS=, && echo "${history[*]}")']}'
  id=$(printf %s "$config" | sha256sum | cut -d' ' -f1)
  printf %s "$config" >"$work/out/$id.json"
  manifest+=("{\"Config\":\"$id.json\",\"RepoTags\":[\"$name\"],\"Layers\":[$(quoted "${@/%//layer.tar}")]}")
}

userland() { # folder: what scripts expect of a small system
  mkdir -p "$1"/{bin,sbin,etc,tmp,root,usr/bin,usr/sbin,usr/local/bin,var/log,opt}
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

program() { # folder, names…: this machine's own, in /usr/sbin, with the libraries that they need
  local root=$1 name real library
  shift
  for name in "$@"; do
    real=$(readlink -f "$(command -v "$name")")
    cp -n "$real" "$root/usr/sbin/"
    [ "$name" = "${real##*/}" ] || ln -sf "${real##*/}" "$root/usr/sbin/$name"
    for library in $(ldd "$real" | grep -o '/[^ ]*'); do
      mkdir -p "$root${library%/*}"
      cp -nL "$library" "$root$library"
    done
  done
}

extensions() { # folder: those of iptables
  local folder library
  folder=$(dirname "$(ls -d /usr/lib/*/xtables/libxt_conntrack.so | head -n 1)")
  mkdir -p "$1$folder"
  cp -L "$folder"/*.so "$1$folder/"
  # One of them reckons with probabilities.
  library=$(ldd "$folder/libxt_statistic.so" | grep -o '/[^ ]*libm\.so[^ ]*')
  mkdir -p "$1${library%/*}"
  cp -nL "$library" "$1$library"
}
