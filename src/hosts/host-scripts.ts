/**
 * What the short-lived containers of host-files.ts run: `sh -c SCRIPT tsrke ARGUMENTS`. Arguments are paths as the
 * container sees them (and a user's number), never contents. All are for any POSIX shell, busybox's as well.
 */

/** Exit codes of the scripts below; all others but 0 are failures. */
export const folderInTheWayCode = 11;
/** The folder is a link, whose other end only the host can find. */
export const linkCode = 12;
export const nothingThereCode = 13;

/** What a file that is on its way to a host is called beside its place: as in files.ts. */
export const onItsWay = '.tsrke-tmp';

const flush = (what: string) => `sync ${what} 2>/dev/null || sync 2>/dev/null || true`;
/** What the shell takes for each entry of a folder; where there is none, the pattern itself is no file. */
const entriesOf = (folder: string) => `"${folder}"/* "${folder}"/.[!.]* "${folder}"/..?*`;

/**
 * `$@` files: each takes its place from what lies beside it; what other deliveries have left beside any of them goes.
 * Flushed before the first is renamed: after a power cut a name must not stand for an empty file.
 */
export const placeScript = `
for file in "$@"; do
  if [ -d "$file" ]; then echo "$file is a folder"; exit ${folderInTheWayCode}; fi
  ${flush(`"$file${onItsWay}"`)}
done
for file in "$@"; do mv -f "$file${onItsWay}" "$file" || exit 1; done
for file in "$@"; do
  rm -f "\${file%/*}"/*${onItsWay} || exit 1
  ${flush('"${file%/*}"')}
done`;

/** `$1` a folder, `$2` the number of its user and group: with mode 0700, and all in it theirs. */
export const ownScript = `
chmod 700 "$1" || exit 1
chown -R -h "$2:$2" "$1" || exit 1`;

/** `$1` a folder: exits with 0 where something is in it, else with nothingThereCode. A disk's own lost+found is nothing. */
export const holdsScript = `
if [ -L "$1" ]; then exit ${linkCode}; fi
if [ -e "$1" ] && [ ! -d "$1" ]; then exit 0; fi
for entry in ${entriesOf('$1')}; do
  if [ "$entry" = "$1/lost+found" ]; then continue; fi
  if [ -e "$entry" ] || [ -L "$entry" ]; then exit 0; fi
done
exit ${nothingThereCode}`;

/**
 * `$@` folders: all that is in them goes, save what is mounted below them (calico has a cgroup in its own) and the
 * folders on the way there. Where one is a link, nothing is touched.
 */
export const emptyScript = `
holds_mount() {
  while read -r _ at _; do
    case "$at" in "$1" | "$1"/*) return 0 ;; esac
  done </proc/self/mounts
  return 1
}
is_mount() {
  while read -r _ at _; do
    if [ "$at" = "$1" ]; then return 0; fi
  done </proc/self/mounts
  return 1
}
empty() {
  for entry in ${entriesOf('$1')}; do
    if [ ! -e "$entry" ] && [ ! -L "$entry" ]; then continue; fi
    if [ -L "$entry" ] || ! holds_mount "$entry"; then rm -rf "$entry" || exit 1
    elif ! is_mount "$entry"; then empty "$entry"
    fi
  done
}
for folder in "$@"; do
  if [ -L "$folder" ]; then exit ${linkCode}; fi
  # Spaces and the like are escaped in the list of mounts, and would not be found.
  while read -r _ at _; do
    case "$at" in "$folder"/*\\\\*) echo "something is mounted at $at"; exit 1 ;; esac
  done </proc/self/mounts
done
for folder in "$@"; do
  if [ -d "$folder" ]; then empty "$folder"; fi
done`;

/**
 * `$@` folders, bound so that the host takes part in what becomes of their mounts: all below them goes, what was mounted
 * last first. The list of mounts has spaces and the like as octal numbers.
 */
export const unmountScript = String.raw`
for folder in "$@"; do
  while :; do
    last=
    while read -r _ at _; do
      case "$at" in "$folder"/*) last=$at ;; esac
    done </proc/self/mounts
    if [ -z "$last" ]; then break; fi
    at=$(printf '%b' "$(printf '%s' "$last" | sed 's/\\\([0-7]\)/\\0\1/g')")
    umount "$at" || umount -l "$at" || exit 1
  done
done`;

/** `$@` folders: each goes where nothing is in it. */
export const discardScript = `
for folder in "$@"; do
  if [ -d "$folder" ] && [ ! -L "$folder" ]; then rmdir "$folder" 2>/dev/null || true; fi
done`;

/** `$1` a folder: prints what \`df\` says of it, or of the nearest one above it that is there. */
export const freeScript = `
if [ -L "$1" ]; then exit ${linkCode}; fi
folder=$1
while [ ! -e "$folder" ]; do folder=\${folder%/*}; done
df -P -k "$folder" || exit 1`;
