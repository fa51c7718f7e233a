/** Clients that use every kube-apiserver all the while: what they meet is what a rotation costs its cluster. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeAnswer, LabHost } from './lab.ts';

export interface HostCounts {
  ok: number;
  /** No answer (refused, reset, timed out), or one of a server that is starting or stopping. */
  refused: number;
  /** Answers of a server that could not decrypt what it found. */
  decryption: number;
  /** Everything else that should not be, the first 100 of them. */
  other: string[];
}

export interface ClientCounts {
  readonly hosts: Readonly<Record<string, HostCounts>>;
  /** How often two hosts were away at one time: the times between the first and the last request refused overlap. */
  readonly bothDown: number;
  readonly away: Readonly<Record<string, readonly Away[]>>;
}

/** While a host did not serve; when its requests began, in milliseconds since the clients started. */
export interface Away {
  /** The first request that was refused. */
  readonly from: number;
  /** The last one: until then the host was away for sure. When it came back between this and `to` nobody saw. */
  last: number;
  /** The first one answered again; Infinity: still away when the clients ended. */
  to: number;
}

export interface RunningClients {
  /** Ends the clients; asked again, the same counts. */
  stop(): Promise<ClientCounts>;
}

type Kube = (host: LabHost, method: string, path: string, body?: unknown) => Promise<KubeAnswer>;

const undecryptable =
  /unable to transform|no matching key|no matching prefix|identity transformer|invalid padding|message authentication failed/i;
const notReady =
  /not (yet )?ready|shutting down|leader changed|request timed out|storage is \(re\)initializing|connection refused|context (canceled|deadline exceeded)|too many requests|timeout|unavailable|http2: |EOF|connection reset/i;

/** One read and one write stream per host, five requests a second each. */
const pause = 200;

export async function startClients(hosts: readonly LabHost[], kube: Kube): Promise<RunningClients> {
  const counts: Record<string, HostCounts> = {};
  const lastOk = new Map<string, number>();
  const away: Record<string, Away[]> = Object.fromEntries(hosts.map(({ name }) => [name, []]));
  const started = performance.now();
  let stopping = false;

  const listed = await readNames(hosts, kube);

  /** The request's outcome, counted; `expected` statuses besides 2xx are fine. */
  async function ask(
    host: LabHost,
    method: string,
    path: string,
    body?: unknown,
    expected: readonly number[] = [],
  ): Promise<string | undefined> {
    const mine = (counts[host.name] ??= { ok: 0, refused: 0, decryption: 0, other: [] });
    const began = performance.now() - started;
    try {
      const { status, text } = await kube(host, method, path, body);
      if ((status >= 200 && status < 300) || expected.includes(status)) {
        mine.ok += 1;
        lastOk.set(host.name, Math.max(began, lastOk.get(host.name) ?? 0));
        const now = away[host.name]?.at(-1);
        if (now !== undefined && now.last < began && began < now.to) now.to = began;
        return text;
      }
      if (undecryptable.test(text)) {
        mine.decryption += 1;
      } else if (
        status === 503 ||
        status === 504 ||
        status === 429 ||
        ((status >= 500 || status === 403) && notReady.test(text))
      ) {
        refused(host, mine, began);
      } else if (mine.other.length < 100) {
        mine.other.push(`${method} ${path}: ${status} ${text.slice(0, 300)}`);
      }
    } catch {
      refused(host, mine, began);
    }
    return undefined;
  }

  function refused(host: LabHost, mine: HostCounts, began: number): void {
    mine.refused += 1;
    // A request that began before the last good one tells of the past.
    if (began < (lastOk.get(host.name) ?? 0)) return;
    const now = away[host.name]?.at(-1);
    if (now?.to === Infinity) now.last = Math.max(now.last, began);
    else away[host.name]?.push({ from: began, last: began, to: Infinity });
  }

  /** Not waiting for answers: a request that hangs must not hide that others are refused. */
  async function read(host: LabHost): Promise<void> {
    const open = new Set<Promise<unknown>>();
    for (let turn = 0; !stopping; turn += 1) {
      if (open.size < 50) {
        const path =
          turn % 2 === 0 && listed.length > 0
            ? (listed[Math.floor(Math.random() * listed.length)] ?? '')
            : '/api/v1/secrets?limit=50';
        const one = ask(host, 'GET', path).finally(() => open.delete(one));
        open.add(one);
      }
      await sleep(pause);
    }
    await Promise.all(open);
  }

  async function write(host: LabHost): Promise<void> {
    const path = '/api/v1/namespaces/default/secrets';
    const run = Date.now().toString(36);
    for (let turn = 0; !stopping; turn += 1) {
      const name = `client-${host.name}-${run}-${turn}`;
      const secret = (text: string) => ({
        metadata: { name },
        data: { value: Buffer.from(text).toString('base64') },
      });
      if ((await ask(host, 'POST', path, secret('first'))) !== undefined) {
        await sleep(pause);
        const updated = await ask(host, 'PUT', `${path}/${name}`, secret(`second ${name}`));
        await sleep(pause);
        const text = await ask(host, 'GET', `${path}/${name}`);
        const wanted = Buffer.from(`second ${name}`).toString('base64');
        if (updated !== undefined && text !== undefined && !text.includes(wanted)) {
          counts[host.name]?.other.push(`GET ${name}: not what was written`);
        }
        await sleep(pause);
      }
      // Also after a create without an answer: it may have been done.
      await ask(host, 'DELETE', `${path}/${name}`, undefined, [404]);
      await sleep(pause);
    }
  }

  const loops = Promise.all(hosts.flatMap((host) => [read(host), write(host)]));
  let ended: Promise<ClientCounts> | undefined;
  return {
    stop() {
      stopping = true;
      ended ??= loops.then(() => ({ hosts: counts, bothDown: overlaps(Object.values(away)), away }));
      return ended;
    },
  };
}

function overlaps(hosts: readonly (readonly Away[])[]): number {
  const pairs = hosts.flatMap((mine, index) =>
    hosts
      .slice(index + 1)
      .flatMap((others) => mine.flatMap((one) => others.map((other) => [one, other] as const))),
  );
  return pairs.filter(([one, other]) => one.from <= other.last && other.from <= one.last).length;
}

async function readNames(hosts: readonly LabHost[], kube: Kube): Promise<string[]> {
  const [host] = hosts;
  if (host === undefined) return [];
  const { status, text } = await kube(host, 'GET', '/api/v1/secrets?limit=2000');
  if (status !== 200) throw new Error(`secrets cannot be listed: ${text}`);
  const { items } = JSON.parse(text) as { items: { metadata: { name: string; namespace: string } }[] };
  return items.map(({ metadata }) => `/api/v1/namespaces/${metadata.namespace}/secrets/${metadata.name}`);
}
