/** bin/tsrke.js of this checkout, as built, in processes of their own that a test may kill. */
import { spawn, type ChildProcess } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Lab, TsrkeOptions } from './lab.ts';

const bin = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'bin/tsrke.js');

export class TsrkeRuns {
  readonly #dir: string;
  readonly #running = new Set<ChildProcess>();

  /** `dir` is their working directory and their HOME. */
  constructor(dir: string) {
    this.#dir = dir;
  }

  tsrke(
    args: readonly string[],
    { env = {}, dir = this.#dir, input, killWhen, kill, fileSize, signalWhen, onOutput }: TsrkeOptions = {},
  ): ReturnType<Lab['tsrke']> {
    const began = performance.now();
    const inherited = { ...process.env };
    delete inherited['SSH_AUTH_SOCK'];
    const tsrke = [process.execPath, bin, ...args];
    const limited = ['sh', '-c', `ulimit -f ${fileSize ?? 0} && exec "$@"`, 'sh', ...tsrke];
    const [command = '', ...rest] = fileSize === undefined ? tsrke : limited;
    const child = spawn(command, rest, {
      cwd: dir,
      env: { ...inherited, HOME: dir, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
      // A process group of its own, so that a kill takes whatever it started along.
      detached: true,
    });
    this.#running.add(child);
    kill?.addEventListener('abort', () => killGroup(child));
    child.stdin.on('error', () => undefined).end(input);
    let stdout = '';
    let stderr = '';
    let signalled = false;
    const seen = (text: string) => {
      onOutput?.(text);
      const all = stdout + stderr;
      if (killWhen !== undefined && all.search(killWhen) >= 0) killGroup(child);
      if (signalWhen !== undefined && !signalled && all.search(signalWhen.match) >= 0) {
        signalled = true;
        child.kill(signalWhen.signal);
      }
    };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      seen(text);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      seen(text);
    });
    return new Promise((resolve, reject) => {
      child.on('error', reject).on('close', (code, signal) => {
        this.#running.delete(child);
        resolve({ code, signal, stdout, stderr, seconds: (performance.now() - began) / 1000 });
      });
    });
  }

  /** Kills those that still run. */
  kill(): void {
    for (const child of this.#running) killGroup(child);
  }
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
