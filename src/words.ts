/** Words for people. */

/** `1 restart`, `6 restarts`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
