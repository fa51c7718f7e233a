/**
 * kube-apiserver's own judgement and its own bytes, one process per Kubernetes minor (go/oracle, oracles.sh). Needs Go
 * once, to build them; they are kept outside the checkout.
 */
import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

export interface Check {
  readonly text: string;
  /** What the server is to call the file in its messages. */
  readonly file?: string;
  readonly reload?: boolean;
  readonly kmsV1?: boolean;
  readonly kmsV2?: boolean;
}

export interface Transform {
  /** The provider file. */
  readonly text: string;
  /** `secrets`, `deployments.apps`. */
  readonly resource: string;
  /** The whole etcd key, as in `/registry/secrets/default/db`. */
  readonly key: string;
  readonly value: Buffer;
  readonly kmsV1?: boolean;
  readonly kmsV2?: boolean;
}

export interface Oracle extends Disposable {
  readonly minor: number;
  /** Undefined where the server would start with the file, else its words. */
  check(question: Check): Promise<string | undefined>;
  /** What the server would store. Rejects with its words. */
  encrypt(question: Transform): Promise<Buffer>;
  /** What the server would read; `stale`: it would write the value anew. Rejects with its words. */
  decrypt(question: Transform): Promise<{ value: Buffer; stale: boolean }>;
}

interface Answer {
  readonly ok: boolean;
  readonly error?: string;
  readonly value?: string;
  readonly stale: boolean;
}

/** All oracles there are, oldest first; builds what is missing. */
export async function openOracles(): Promise<Oracle[]> {
  const script = join(import.meta.dirname, 'oracles.sh');
  const { stdout } = await promisify(execFile)(script, { maxBuffer: 2 ** 26 });
  return stdout
    .trim()
    .split('\n')
    .map((line) => {
      const [version = '', path = ''] = line.split(' ');
      return open(Number(version.replace('1.', '')), path);
    });
}

function open(minor: number, path: string): Oracle {
  const child = spawn(path, ['serve'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void }[] = [];
  createInterface({ input: child.stdout }).on('line', (line) =>
    waiting.shift()?.resolve(JSON.parse(line) as Answer),
  );
  const ended = (error: Error) => {
    for (const { reject } of waiting.splice(0)) reject(error);
  };
  child.on('error', ended);
  child.on('exit', (code) => ended(new Error(`the oracle of 1.${minor} ended with ${code ?? 'a signal'}`)));
  child.stdin.on('error', ended);
  const ask = (question: object) =>
    new Promise<Answer>((resolve, reject) => {
      waiting.push({ resolve, reject });
      child.stdin.write(`${JSON.stringify(question)}\n`);
    });
  const transform = async (verb: string, { value, ...question }: Transform) => {
    const answer = await ask({ do: verb, ...question, value: value.toString('base64') });
    if (!answer.ok) throw new Error(answer.error ?? 'no words');
    return { value: Buffer.from(answer.value ?? '', 'base64'), stale: answer.stale };
  };
  return {
    minor,
    async check(question) {
      const answer = await ask({ do: 'check', ...question });
      return answer.ok ? undefined : (answer.error ?? 'no words');
    },
    encrypt: async (question) => (await transform('encrypt', question)).value,
    decrypt: (question) => transform('decrypt', question),
    [Symbol.dispose]: () => child.stdin.end(),
  };
}
