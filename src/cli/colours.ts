/** Colour for what a person reads: on a terminal only, and not where NO_COLOR is set (no-color.org). */
export interface Colours {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly green: (text: string) => string;
  readonly yellow: (text: string) => string;
}

export function colours(stream: { readonly isTTY?: boolean }): Colours {
  const off = (process.env['NO_COLOR'] ?? '') !== '' || stream.isTTY !== true;
  const code = (on: number, end: number) => (text: string) =>
    off ? text : `\u001b[${on}m${text}\u001b[${end}m`;
  return { bold: code(1, 22), dim: code(2, 22), green: code(32, 39), yellow: code(33, 39) };
}
