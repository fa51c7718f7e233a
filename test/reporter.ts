/** The last lines of a run: what was not run and why, what was tried, and how many tests passed and failed. */
import type { Reporter, TestModule } from 'vitest/node';
import { realLabUnavailable } from './availability.ts';
import { figuresMark, type Figures } from './figures.ts';

export default class ClosingLines implements Reporter {
  readonly #figures: Record<keyof Figures, number> = {
    effects: 0,
    faults: 0,
    histories: 0,
    commands: 0,
    files: 0,
  };

  onUserConsoleLog({ content }: { content: string }): void {
    for (const line of content.split('\n')) {
      if (!line.startsWith(figuresMark)) continue;
      const found = JSON.parse(line.slice(figuresMark.length)) as Figures;
      for (const [name, count] of Object.entries(found) as [keyof Figures, number][])
        this.#figures[name] += count;
    }
  }

  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const tests = modules.flatMap((module) =>
      [...module.children.allTests()].map((test) => ({ module, test })),
    );
    const count = (state: string) => tests.filter(({ test }) => test.result().state === state).length;
    const scenarios = tests.filter(({ module }) => /[/\\]scenarios[/\\]/.test(module.moduleId)).length;
    // A module that could not even be loaded, or an error outside of any test, is a failure as well.
    const broken = modules.filter((module) => module.state() === 'failed' && count('failed') === 0).length;
    const failed = count('failed') + broken + errors.length;
    const { effects, faults, histories, commands, files } = this.#figures;
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
      );
    }
    lines.push(`${count('passed')} passed, ${failed} failed`, '');
    process.stdout.write(lines.join('\n'));
  }
}
