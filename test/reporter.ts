/** The last lines of a run: what was not run and why, what was tried, and how many tests passed and failed. */
import { appendFileSync } from 'node:fs';
import type { Reporter, TestModule } from 'vitest/node';
import { realLabUnavailable } from './availability.ts';
import { figuresMark, type Figures } from './figures.ts';
import { describePart } from './part.ts';

export interface Totals extends Record<keyof Figures, number> {
  passed: number;
  failed: number;
  scenarios: number;
}

export const nothing: Totals = {
  ...{ passed: 0, failed: 0, scenarios: 0 },
  ...{ effects: 0, faults: 0, histories: 0, commands: 0, files: 0 },
};

export function closingLines(totals: Totals): string {
  const { passed, failed, scenarios, effects, faults, histories, commands, files } = totals;
  const lines = ['', ''];
  const why = realLabUnavailable();
  if (why !== undefined) lines.push(`not run: the real lab (test/scenarios on real hosts): ${why}`);
  if (faults > 0) {
    lines.push(
      `reliability: ${scenarios} scenarios, ${commands} commands with ${effects} effects, ${faults} faults injected, ` +
        `${histories} random histories, ${files} provider files judged beside kube-apiserver; ` +
        (failed === 0
          ? '0 unreadable objects, 0 lost keys, 0 runs that did not converge, 0 disagreements'
          : 'see the failures above for what was not as it must be'),
      describePart,
    );
  }
  lines.push(`${passed} passed, ${failed} failed`, '');
  return lines.join('\n');
}

/** Where several runs are one (all.ts), each adds its totals to the file of TSRKE_TOTALS, a line of JSON. */
export default class ClosingLines implements Reporter {
  readonly #totals: Totals = { ...nothing };

  onUserConsoleLog({ content }: { content: string }): void {
    for (const line of content.split('\n')) {
      if (!line.startsWith(figuresMark)) continue;
      const found = JSON.parse(line.slice(figuresMark.length)) as Figures;
      for (const [name, count] of Object.entries(found) as [keyof Figures, number][])
        this.#totals[name] += count;
    }
  }

  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const tests = modules.flatMap((module) =>
      [...module.children.allTests()].map((test) => ({ module, test })),
    );
    const count = (state: string) => tests.filter(({ test }) => test.result().state === state).length;
    // A module that could not even be loaded, or an error outside of any test, is a failure as well.
    const broken = modules.filter((module) => module.state() === 'failed' && count('failed') === 0).length;
    this.#totals.passed = count('passed');
    this.#totals.failed = count('failed') + broken + errors.length;
    this.#totals.scenarios = tests.filter(({ module }) => /[/\\]scenarios[/\\]/.test(module.moduleId)).length;
    const file = process.env['TSRKE_TOTALS'];
    if (file === undefined) process.stdout.write(closingLines(this.#totals));
    else appendFileSync(file, `${JSON.stringify(this.#totals)}\n`);
  }
}
