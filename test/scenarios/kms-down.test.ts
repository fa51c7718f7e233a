/** A KMS plugin that goes down on one host while nodes begin to write with it; other moments: test/memory/kms-down.test.ts. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { editKubeApi, kmsFolder, type Lab } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await openLab({ hosts: 3, encryption: 'on', secrets: 40, kms: 'v2' });
});
afterAll(async () => {
  await lab.close();
  await closeLabs();
});

const stored = () => storedPrefixes(lab.etcd);

test('the run stops at that host and names the plugin, nothing is lost, and once it is back the same command finishes', async () => {
  const kms = { apiVersion: 'v2', name: 'vault', endpoint: `unix://${kmsFolder}/socket.sock` };
  editKubeApi(lab, {
    extra_binds: [`${kmsFolder}/:${kmsFolder}/`],
    secrets_encryption_config: {
      enabled: true,
      custom_config: { resources: [{ resources: ['secrets'], providers: [{ kms }, { identity: {} }] }] },
    },
  });
  const h2 = lab.hosts.find(({ name }) => name === 'h2');
  const before = await stored();

  const clients = await lab.startClients();
  let seen = '';
  const stopped = await lab.tsrke(['up'], {
    onOutput(text) {
      seen += text;
      if (seen.includes('write with the wanted key')) h2?.kms.stop();
    },
  });
  expect(stopped.code, stopped.stderr).toBe(1);
  expect(stopped.stderr).toMatch(/^h2: kube-apiserver did not come up with its new provider file/m);
  expect(stopped.stderr).toMatch(/^cause: .*kms-providers/m);
  expect(stopped.stderr).toMatch(/^next: .*the same command again/m);
  expect(await stored()).toEqual(expect.arrayContaining(before));

  await h2?.kms.start();
  await lab.ready();
  const finished = await lab.tsrke(['up']);
  const { hosts, bothDown } = await clients.stop();
  expect(finished, finished.stderr).toMatchObject({ code: 0 });
  expect(await stored()).toEqual(['k8s:enc:kms:v2:vault:']);
  expect(bothDown).toBe(0);
  for (const name of ['h1', 'h3']) expect(hosts[name], name).toMatchObject({ decryption: 0, other: [] });
  // Without its plugin a server has no key to write with, and says so.
  const words = expect.stringContaining('got unexpected nil transformer') as string;
  for (const answer of hosts['h2']?.other ?? []) expect(answer).toEqual(words);
});
