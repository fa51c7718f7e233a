/** A first `up` on real bare hosts, killed again and again: the same command finishes it, and nothing was ever plain. */
import { afterAll, expect, it } from 'vitest';
import { countIn } from '../figures.ts';
import { closeHosts, openRealLab } from './real-lab.ts';

const kills = Number(process.env['TSRKE_KILLS'] ?? 20);

afterAll(closeHosts);

it(`is killed at ${kills} moments, and the same command finishes`, async () => {
  const lab = await openRealLab({ bare: true, hosts: 3 });
  const history = lab.followEtcd('/registry/secrets/');
  try {
    // Each run says again what it looks at; a kill falls on one of the lines that no run has said before, or later.
    const said = new Set<string>();
    for (let count = 0; count < kills; count += 1) {
      const kill = new AbortController();
      let left = 1 + Math.floor(Math.random() * 3);
      let until: NodeJS.Timeout | undefined;
      const ran = await lab.tsrke(['up'], {
        kill: kill.signal,
        onOutput(text) {
          for (const line of text.split('\n')) {
            if (line === '' || said.has(line)) continue;
            said.add(line);
            left -= 1;
          }
          if (left <= 0) until ??= setTimeout(() => kill.abort(), Math.random() * 1_000);
        },
      });
      clearTimeout(until);
      // Once all is there nothing is left to be killed in.
      if (ran.code === 0) break;
      expect(ran.signal, ran.stderr).toBe('SIGKILL');
      countIn({ faults: 1 });
    }
    const ran = await lab.tsrke(['up']);
    expect(ran.code, ran.stderr).toBe(0);
    expect((await lab.tsrke(['up'])).stdout).toMatch(/^nothing to do/);
    expect((await lab.tsrke(['encrypt', 'verify'])).code).toBe(0);
    await lab.ready();
    const [first] = lab.hosts;
    if (first === undefined) throw new Error('no host');
    const made = { metadata: { name: 'late' }, stringData: { a: 'b' } };
    expect((await lab.kube(first, 'POST', '/api/v1/namespaces/default/secrets', made)).status).toBe(201);
    await expect.poll(() => history.puts.map(({ key }) => key)).toContain('/registry/secrets/default/late');
    expect(history.hasGap).toBe(false);
    expect(history.puts.filter(({ prefix }) => !prefix.startsWith('k8s:enc:aescbc:v1:'))).toEqual([]);
  } finally {
    history.stop();
    await lab.close();
  }
});
