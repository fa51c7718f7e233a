# Sourced by what sets the lab up: Debian packages and Go binaries.

packages() { # files:package …: those packages whose file (a command or a path) is not there
  local want=() have
  for have in "$@"; do
    command -v "${have%%:*}" >/dev/null || want+=("${have#*:}")
  done
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

need_go() { # target
  command -v go >/dev/null || fail "Go is needed to build $(basename "$1")"
  say "building $(basename "$1")"
}

build() { # target, go module folder, ldflags, name of the module file without its ending
  [ ! -x "$1" ] || return 0
  need_go "$1"
  (cd "$LAB_DIR/go/$2" && CGO_ENABLED=0 go build -modfile="${4:-go}.mod" -trimpath -ldflags "$3" -o "$1.tmp$$" .)
  mv "$1.tmp$$" "$1"
}

install_program() { # target, package@version: one that is published as a Go module
  [ ! -x "$1" ] || return 0
  need_go "$1"
  mkdir -p "$1.tmp$$"
  GOBIN=$1.tmp$$ CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "$2"
  mv "$1.tmp$$"/* "$1"
  rmdir "$1.tmp$$"
}
