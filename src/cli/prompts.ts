/**
 * Questions on the terminal, answered there or from a pipe, an answer a line. They go to stderr: stdout is for results.
 */
import { createInterface, type Interface } from 'node:readline';
import { Writable } from 'node:stream';
import type { Question } from '../config/interview.ts';
import { TsrkeError } from '../errors.ts';

export class Prompts {
  readonly isTerminal = process.stdin.isTTY && process.stderr.isTTY;
  readonly #lines: string[] = [];
  readonly #reader: Interface;
  /** What is typed is not shown. */
  #isHidden = false;
  #isAtEnd = false;
  #read = 0;
  #wake: (() => void) | undefined;
  readonly #stop = new AbortController();

  constructor() {
    this.#reader = createInterface({
      input: process.stdin,
      output: this.#screen(),
      terminal: this.isTerminal,
      // What was answered before is no answer to another question, and may have been a key.
      historySize: 0,
    });
    this.#reader.on('line', (line) => {
      this.#lines.push(line);
      this.#wake?.();
    });
    this.#reader.on('close', () => {
      this.#isAtEnd = true;
      this.#wake?.();
    });
    // On a terminal Ctrl-C is a key that the reader sees, elsewhere a signal.
    this.#reader.on('SIGINT', this.#interrupt);
    process.on('SIGINT', this.#interrupt);
  }

  /**
   * Asks until the answer will do; from a pipe a wrong one ends it, as the next line answers another question. Throws
   * INTERRUPTED and CONFIG_INVALID.
   */
  readonly ask = async (question: Question): Promise<string> => {
    const { text, usual, refuse } = question;
    for (;;) {
      this.#show(`${text}${usual === undefined || usual === '' ? '' : ` [${usual}]`}: `);
      const given = await this.#answer(question);
      const answer = given === '' ? usual : given;
      const refusal = answer === undefined ? 'an answer is needed' : await refuse?.(answer);
      if (answer !== undefined && refusal === undefined) return answer;
      if (!this.isTerminal) {
        const shown = question.isKey === true ? '' : ` is ${JSON.stringify(given)}`;
        const where = `line ${this.#read} of the answers${shown}, to ${JSON.stringify(text)}`;
        throw new TsrkeError('CONFIG_INVALID', `${where}: ${refusal}`, {
          next: 'correct the answers and run the same command again; nothing was written',
        });
      }
      process.stderr.write(`  ${refusal}\n`);
    }
  };

  close(): void {
    process.off('SIGINT', this.#interrupt);
    this.#reader.close();
  }

  async #answer({ text, usual, isKey, isOurs }: Question): Promise<string> {
    this.#isHidden = isKey === true && this.isTerminal;
    const lines: string[] = [];
    try {
      do {
        const line = await this.#line();
        if (line !== undefined) lines.push(line);
        else if (isOurs === true && usual !== undefined) return usual;
        else {
          throw new TsrkeError('CONFIG_INVALID', `the answers end before this one: ${text}`, {
            next: 'answer all questions, one a line (an empty line takes what stands in brackets)',
          });
        }
      } while (isKey === true && /^-----BEGIN/.test(lines[0] ?? '') && !/^-----END/.test(lines.at(-1) ?? ''));
    } finally {
      if (this.#isHidden) process.stderr.write('\n');
      this.#isHidden = false;
    }
    return lines.length > 1 ? `${lines.join('\n')}\n` : (lines[0] ?? '').trim();
  }

  /** undefined: there are no more. */
  async #line(): Promise<string | undefined> {
    while (this.#lines.length === 0 && !this.#isAtEnd && !this.#stop.signal.aborted) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    this.#stop.signal.throwIfAborted();
    if (this.#lines.length > 0) this.#read += 1;
    return this.#lines.shift();
  }

  #show(prompt: string): void {
    if (!this.isTerminal) {
      process.stderr.write(`${prompt}\n`);
      return;
    }
    this.#reader.setPrompt(prompt);
    this.#reader.prompt();
  }

  readonly #interrupt = (): void => {
    if (this.isTerminal) process.stderr.write('\n');
    this.#stop.abort(new TsrkeError('INTERRUPTED', 'interrupted, and nothing was written'));
    this.#wake?.();
  };

  /** stderr, for a reader that must know how wide it is. */
  #screen(): Writable {
    const screen = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        if (!this.#isHidden) process.stderr.write(chunk);
        done();
      },
    });
    return Object.defineProperty(screen, 'columns', { get: () => process.stderr.columns });
  }
}
