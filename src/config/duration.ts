/** Times as cluster.yml has them: `90d`, `2160h`, `1d12h`. */

const units: Readonly<Record<string, number>> = { d: 86_400_000, h: 3_600_000, m: 60_000 };

/** Milliseconds; undefined for another form. `0` is 0. */
export function durationOf(text: string): number | undefined {
  if (text === '0') return 0;
  if (!/^(\d+[dhm])+$/.test(text)) return undefined;
  const parts = [...text.matchAll(/(\d+)([dhm])/g)];
  return parts.reduce((sum, [, count, unit = '']) => sum + Number(count) * (units[unit] ?? 0), 0);
}

/** For a person: `89 days`, `5 hours`. */
export function inWords(milliseconds: number): string {
  const say = (count: number, unit: string) => `${count} ${unit}${count === 1 ? '' : 's'}`;
  if (milliseconds >= 86_400_000) return say(Math.floor(milliseconds / 86_400_000), 'day');
  if (milliseconds >= 3_600_000) return say(Math.floor(milliseconds / 3_600_000), 'hour');
  return say(Math.floor(milliseconds / 60_000), 'minute');
}
