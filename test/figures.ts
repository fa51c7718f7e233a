/** Figures of what a test did, added up over the whole run by the reporter. */

export interface Figures {
  readonly effects?: number;
  readonly faults?: number;
  readonly histories?: number;
  readonly commands?: number;
  readonly files?: number;
}

/** Also the beginning of the line, by which the reporter knows it. */
export const figuresMark = 'figures: ';

export function countIn(figures: Figures): void {
  // Vitest hands on to reporters what goes through the console, and nothing else.
  console.log(`${figuresMark}${JSON.stringify(figures)}`);
}
