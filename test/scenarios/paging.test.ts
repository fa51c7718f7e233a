/** Slow clients: a list that was begun under one key and is read on under the next. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, it } from 'vitest';
import type { Lab, LabHost } from '../lab/lab.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

afterAll(closeLabs);

const secrets = 300;
const page = 50;

/** What a pager met besides 200: `expired` (410), or words that nobody should have to read. */
interface Met {
  pages: number;
  finished: number;
  expired: number;
  readonly other: string[];
}

interface ListPage {
  readonly metadata: { readonly continue?: string };
  readonly items: readonly { readonly metadata: { readonly name: string } }[];
}

/** One list from its first page to its end or to 410; after each page it waits. */
async function slowly(lab: Lab, host: LabHost, met: Met, wait: () => Promise<unknown>): Promise<void> {
  const names = new Set<string>();
  let token = '';
  while (true) {
    let answer: Awaited<ReturnType<Lab['kube']>>;
    try {
      answer = await lab.kube(
        host,
        'GET',
        `/api/v1/namespaces/default/secrets?limit=${page}${token === '' ? '' : `&continue=${encodeURIComponent(token)}`}`,
      );
    } catch {
      // It is being restarted: any client tries again.
      await sleep(200);
      continue;
    }
    const { status, text } = answer;
    if (status === 410) {
      met.expired += 1;
      return;
    }
    if (status === 503 || status === 429 || /shutting down|connection refused|not (yet )?ready/.test(text)) {
      await sleep(200);
      continue;
    }
    if (status !== 200) {
      met.other.push(`${host.name}: ${status} ${text.slice(0, 300)}`);
      return;
    }
    const { metadata, items } = JSON.parse(text) as ListPage;
    for (const each of items) names.add(each.metadata.name);
    met.pages += 1;
    token = metadata.continue ?? '';
    if (token === '') {
      if (names.size < secrets) met.other.push(`${host.name}: a list of ${names.size} secrets`);
      met.finished += 1;
      return;
    }
    await wait();
  }
}

it('a client that pages slowly through a rotation meets 410 at worst, through every apiserver', async () => {
  const lab = await openLab({ hosts: 3, encryption: 'on', secrets });
  try {
    const met: Met = { pages: 0, finished: 0, expired: 0, other: [] };
    let running = true;
    const pagers: Promise<void>[] = [];
    let ended: () => void = () => undefined;
    const end = new Promise<void>((resolve) => (ended = resolve));
    // A new one each second at each apiserver: half of them with a page each few seconds, half come back at the end.
    const starting = (async () => {
      for (let turn = 0; running; turn += 1) {
        for (const host of lab.hosts) {
          const pause = () => Promise.race([end, sleep(1_000 + 500 * (turn % 9))]);
          pagers.push(slowly(lab, host, met, turn % 2 === 0 ? () => end : pause));
        }
        await sleep(1_000);
      }
    })();
    await expect.poll(() => met.pages).toBeGreaterThanOrEqual(3);
    const ran = await lab.tsrke(['encrypt', 'rotate-key']);
    running = false;
    ended();
    await starting;
    await Promise.all(pagers);
    expect(ran.code, ran.stderr).toBe(0);
    expect(met.other).toEqual([]);
    // Those that began before the rewrite and came back after the prune cannot be served any more.
    expect(met.expired).toBeGreaterThanOrEqual(3);
    expect(met.finished).toBeGreaterThan(0);
    expect(met.finished + met.expired).toBe(pagers.length);
  } finally {
    await lab.close();
  }
});
