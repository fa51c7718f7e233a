#!/bin/bash
# Builds what is missing of the oracles (go/oracle, once per Kubernetes minor) and prints `MINOR PATH` for each. Needs
# Go and no root. From nothing, modules and all, it takes a few minutes; with a full cache no time at all.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

SOURCE=$LAB_DIR/go/oracle
FLAGS="-s -w"

path_of() { # minor: the hash of all it is made from is in the name
  local hash
  hash=$({ cat "$SOURCE"/*.go "$SOURCE/$1.mod" "$SOURCE/$1.sum"; echo "$FLAGS"; } | sha256sum | cut -c1-12)
  echo "$ORACLES/oracle-$1-$hash"
}

mkdir -p "$ORACLES"
exec 8>"$ORACLES/.lock"
flock -w 1800 8 || fail "another build holds $ORACLES/.lock"
rm -f "$ORACLES"/*.tmp*

keep=()
for minor in $ORACLE_MINORS; do
  bin=$(path_of "$minor")
  if [ ! -x "$bin" ]; then
    command -v go >/dev/null || fail "Go is needed to build the oracle of Kubernetes $minor"
    say "building the oracle of Kubernetes $minor"
    # The source is one, the modules are the version's own; the tag picks the call that this version has.
    (cd "$SOURCE" && CGO_ENABLED=0 nice -n 10 go build -modfile="$minor.mod" -tags "apiserver_${minor/./_}" \
      -trimpath -ldflags "$FLAGS" -o "$bin.tmp$$" . 8>&-)
    mv "$bin.tmp$$" "$bin"
  fi
  echo "$minor $bin"
done

# What an older recipe made; another run may have asked for other versions.
for mod in "$SOURCE"/1.*.mod; do keep+=("$(path_of "$(basename "$mod" .mod)")"); done
for old in "$ORACLES"/oracle-*; do
  case " ${keep[*]} " in
  *" $old "*) ;;
  *) rm -f "$old" ;;
  esac
done
