/** A rotation with a person between its steps, under the eyes of clients. */
import { expect, it } from 'vitest';
import { fewHosts, labOfFile } from '../lab/open-lab.ts';

interface Status {
  readonly transition?: { readonly held?: string; readonly phase: string };
  readonly next?: string;
}

const bed = labOfFile({ hosts: fewHosts, encryption: 'on', secrets: 20 });

const starts = () => Promise.all(bed.lab.hosts.map((host) => host.apiserverStarts()));

/** The names of the keys in etcd. */
async function storedUnder(): Promise<string[]> {
  const prefixes = new Set((await bed.lab.etcd.prefixes()).values());
  return [...prefixes].map((prefix) => prefix.split(':')[4] ?? '').toSorted();
}

async function ran(command: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await bed.lab.tsrke(command);
  expect(code, stdout + stderr).toBe(0);
  return stdout;
}

async function status(): Promise<Status> {
  const { stdout } = await bed.lab.tsrke(['encrypt', 'status', '--output', 'json']);
  return JSON.parse(stdout) as Status;
}

it('prepare, rotate, reencrypt: each is shown, repaired by up, refused out of order, and killed and given again', async () => {
  const clients = await bed.lab.startClients();
  const [before = ''] = await storedUnder();

  const early = await bed.lab.tsrke(['encrypt', 'rotate']);
  expect(early, early.stderr).toMatchObject({ code: 3, stdout: '' });
  expect(early.stderr).toMatch(
    /no rotation is prepared \(OUT_OF_ORDER\)\nnext: `tsrke encrypt prepare` comes first/,
  );

  const killed = await bed.lab.tsrke(['encrypt', 'prepare'], { killWhen: /restarting kube-apiserver/ });
  expect(killed.signal, killed.stderr).toBe('SIGKILL');
  expect(await ran(['encrypt', 'prepare'])).toMatch(
    /nothing is written with it yet .*`tsrke encrypt rotate` goes on/,
  );
  expect(await status()).toMatchObject({
    transition: { held: 'read', phase: 'write' },
    next: expect.stringContaining('`tsrke encrypt rotate` is the next step') as string,
  });
  expect(await storedUnder()).toEqual([before]);

  const restarted = await starts();
  expect(await ran(['up'])).toMatch(/^nothing to do: /);
  const plan = await bed.lab.tsrke(['plan']);
  expect(plan, plan.stdout).toMatchObject({ code: 0 });
  expect(await starts()).toEqual(restarted);

  expect(await ran(['encrypt', 'rotate'])).toMatch(/`tsrke encrypt reencrypt` goes on/);
  expect(await ran(['up'])).toMatch(/^nothing to do: /);
  expect(await storedUnder()).toContain(before);

  expect(await ran(['encrypt', 'reencrypt', '--keep-old-key'])).toMatch(/the old one can still be read/);
  const [now = '', ...others] = await storedUnder();
  expect(others).toEqual([]);
  expect(now).not.toBe(before);
  expect(await ran(['up'])).toMatch(/^nothing to do: .*without --keep-old-key goes on/);
  expect(await ran(['encrypt', 'reencrypt'])).toMatch(/^secrets are encrypted/);
  expect(await status()).not.toHaveProperty('transition');
  expect(await ran(['up'])).toMatch(/^nothing to do: secrets are encrypted/);
  const { hosts } = await clients.stop();
  for (const [name, seen] of Object.entries(hosts)) {
    expect(seen, name).toMatchObject({ decryption: 0, other: [] });
  }
});

it('rotate-key does what the steps have left, with the same key', async () => {
  await ran(['encrypt', 'prepare']);
  const { transition } = await status();
  expect(transition?.held).toBe('read');
  expect(await ran(['encrypt', 'rotate-key'])).toMatch(/^secrets are encrypted/);
  expect(await ran(['up'])).toMatch(/^nothing to do: secrets are encrypted/);
});
