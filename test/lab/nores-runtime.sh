#!/bin/bash
# An OCI runtime for machines that cannot grant CAP_SYS_RESOURCE (many CI containers): drops that one
# capability and the oom score, which needs it, then is runc.
previous=
for arg in "$@"; do
  case $previous in
  --bundle | -b) spec=$arg/config.json ;;
  --process | -p) spec=$arg ;;
  esac
  previous=$arg
done
if [ -n "${spec:-}" ] && [ -f "$spec" ]; then
  sed -i -e 's/"CAP_SYS_RESOURCE",//g; s/,"CAP_SYS_RESOURCE"//g; s/"oomScoreAdj":-\{0,1\}[0-9]*,//; s/,"oomScoreAdj":-\{0,1\}[0-9]*//' "$spec"
fi
exec runc "$@"
