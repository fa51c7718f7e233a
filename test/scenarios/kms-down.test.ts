/**
 * A KMS plugin that goes down on one of three hosts while a change to it is under way, phase by phase on one cluster;
 * every moment of it, and of a change away from it: test/memory/kms-down.test.ts.
 */
import { expect, test } from 'vitest';
import { providerPath } from '../../src/encryption/world.ts';
import type { ClientCounts } from '../lab/clients.ts';
import { editKubeApi, kmsFolder, type LabHost, type Ran } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { labOfFile } from '../lab/open-lab.ts';

const bed = labOfFile({ hosts: 3, encryption: 'on', secrets: 20, kms: 'v2' });

const stored = () => storedPrefixes(bed.lab.etcd);
const local: unknown = expect.stringMatching(/^k8s:enc:aescbc:v1:/);
const byKms = 'k8s:enc:kms:v2:vault:';

/** In the middle: one host before it, one behind it. */
function h2(): LabHost {
  const found = bed.lab.hosts.find(({ name }) => name === 'h2');
  if (found === undefined) throw new Error('no host h2');
  return found;
}

interface Met extends Ran {
  readonly clients: ClientCounts;
}

/**
 * `up` among clients, and h2's plugin goes down once the output has this. It is back when h2 gets the file of before,
 * which may need it as well: that wait would only be the same once more.
 */
async function upWithout(moment: RegExp): Promise<Met> {
  const { kms } = h2();
  const clients = await bed.lab.startClients();
  let seen = '';
  let back: Promise<void> | undefined;
  const ran = await bed.lab.tsrke(['up'], {
    onOutput(text) {
      seen += text;
      if (back !== undefined) return;
      if (seen.includes('putting the file before it back')) back = kms.start();
      else if (kms.runs && moment.test(seen)) kms.stop();
    },
  });
  await (back ?? kms.start());
  await bed.lab.ready();
  return { ...ran, clients: await clients.stop() };
}

/** It stopped at h2 with a word on what to do; these hosts served all the while. */
function expectStopped({ code, stderr, clients }: Met, words: RegExp, served: readonly string[]): void {
  expect(code, stderr).toBe(1);
  expect(stderr).toMatch(words);
  expect(stderr).toMatch(/^next: .*the same command again/m);
  expect(clients.bothDown).toBe(0);
  for (const name of served) expect(clients.hosts[name], name).toMatchObject({ decryption: 0, other: [] });
}

const asked = /^h2: the KMS plugin at \S+ did not answer Status/m;
const everyHost = ['h1', 'h2', 'h3'];

const starts = () => Promise.all(bed.lab.hosts.map((host) => host.apiserverStarts()));
/** The providers of each host's file, in order. */
const files = () =>
  Promise.all(
    bed.lab.hosts.map(async (host) => {
      const text = (await host.readFile(providerPath)) ?? '';
      return [...text.matchAll(/\b(aescbc|kms|identity)\b"?:/g)].map(([, kind]) => kind).join();
    }),
  );

test('before a run begins: it is named, and nothing is touched', async () => {
  const kms = { apiVersion: 'v2', name: 'vault', endpoint: `unix://${kmsFolder}/socket.sock` };
  editKubeApi(bed.lab, {
    extra_binds: [`${kmsFolder}/:${kmsFolder}/`],
    secrets_encryption_config: {
      enabled: true,
      custom_config: { resources: [{ resources: ['secrets'], providers: [{ kms }, { identity: {} }] }] },
    },
  });
  h2().kms.stop();
  const { code, stderr } = await bed.lab.tsrke(['up']);
  expect(code, stderr).toBe(1);
  expect(stderr).toMatch(asked);
  expect(await starts()).toEqual([0, 0, 0]);
  expect(await files()).toEqual(everyHost.map(() => 'aescbc,identity'));
  await h2().kms.start();
});

test('before all can read its key: no further host is restarted, and the run stops there', async () => {
  const met = await upWithout(/make every key readable[^]*\n {2}h1\n *writing the provider file/);
  expectStopped(met, asked, everyHost);
  expect(await starts()).toEqual([1, 0, 0]);
  expect(await files()).toEqual(['aescbc,identity,kms', 'aescbc,identity', 'aescbc,identity']);
  expect(await stored()).toEqual([local]);
});

test('as its host begins to write with it: that host gets its former file back, and the run stops there', async () => {
  const met = await upWithout(/write with the wanted key[^]*\n {2}h2\n *writing the provider file/);
  const words =
    /^h2: kube-apiserver did not come up with its new provider file; it runs again with the file it had before/m;
  expectStopped(met, words, ['h1', 'h3']);
  expect(met.stderr).toMatch(/^cause: .*kms-providers.*its KMS plugin does not answer/m);
  expect(met.stderr).toMatch(/^next: nodes before it stay .*all keys stay readable/m);
  // Without its plugin a server that has just started has no key to write with, nor one for what h1 has written: 500.
  for (const answer of met.clients.hosts['h2']?.other ?? []) expect(answer).toMatch(/: 500 /);
  expect(await files()).toEqual(['kms,aescbc,identity', 'aescbc,identity,kms', 'aescbc,identity,kms']);
});

test('from the rewrite on: that needs no more than servers have in memory, but none is restarted after it', async () => {
  const met = await upWithout(/rewrite secrets/);
  // Whoever hears of it first: h2's kube-apiserver, whose /readyz has its plugin's state of up to 20 s ago, or tsrke.
  const told = /^kube-apiserver does not reach its KMS plugin on h2; no further node was restarted/m;
  expectStopped(met, new RegExp(`${told.source}|${asked.source}`, 'm'), everyHost);
  expect(met.stderr).toMatch(/rewrote \d+ secrets/);
  expect(await stored()).toEqual([byKms]);
  expect(await files()).toEqual(everyHost.map(() => 'kms,aescbc,identity'));
});

test('back for good: the same command finishes', async () => {
  const clients = await bed.lab.startClients();
  const ran = await bed.lab.tsrke(['up']);
  const { hosts, bothDown } = await clients.stop();
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  expect(bothDown).toBe(0);
  for (const [name, seen] of Object.entries(hosts)) {
    expect(seen, name).toMatchObject({ decryption: 0, other: [] });
  }
  expect(await files()).toEqual(everyHost.map(() => 'kms,identity'));
  expect(await stored()).toEqual([byKms]);
});
