/** A process's arguments, and the files that they name. */

/** `--name=value` by name; one without a value has `true`. */
export function flagsOf(words: readonly string[]): ReadonlyMap<string, string> {
  const flags = words.flatMap((word): [string, string][] => {
    const [, name, value = 'true'] = /^--([^=]+)(?:=(.*))?$/s.exec(word) ?? [];
    return name === undefined ? [] : [[name, value]];
  });
  return new Map(flags);
}

/** Go's words for a file that is not there. */
export function noSuchFile(path: string): string {
  return `open ${path}: no such file or directory`;
}

/** Ends a process at its start; its message is what it says. */
export class WillNotStart extends Error {}

/** Texts of the files that these flags name. Throws WillNotStart for the first one that is not there. */
export function filesNamed<Name extends string>(
  flags: ReadonlyMap<string, string>,
  names: readonly Name[],
  read: (path: string) => Buffer | undefined,
): Readonly<Record<Name, string>> {
  const texts = names.map((name): [Name, string] => {
    const path = flags.get(name);
    if (path === undefined) return [name, ''];
    const bytes = read(path);
    if (bytes === undefined) throw new WillNotStart(noSuchFile(path));
    return [name, bytes.toString()];
  });
  return Object.fromEntries(texts) as Record<Name, string>;
}
