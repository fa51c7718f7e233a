/** A component's own arguments, as cluster.yml and the state have them. */
import { isMap } from './keys.ts';

/** `extra_args` and `extra_args_array`, each a map by name, as they stand in the command. */
export function commandArguments(...sections: readonly unknown[]): string[] {
  return sections.flatMap((section) =>
    Object.entries(isMap(section) ? section : {}).map(
      ([name, value]) => `--${name}=${[value].flat().join(',')}`,
    ),
  );
}
