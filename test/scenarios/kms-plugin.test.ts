/** A KMS plugin that tsrke runs as a container on every controlplane node. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { editKubeApi, kmsFolder, type Lab } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { closeLabs, labName, openLab } from '../lab/open-lab.ts';

const socket = `${kmsFolder}/socket.sock`;
const secret = 'correct horse battery staple';
const kms = { apiVersion: 'v2', name: 'vault', endpoint: `unix://${socket}`, timeout: '3s' };
const custom_config = { resources: [{ resources: ['secrets'], providers: [{ kms }, { identity: {} }] }] };

const plugin = (tag: 1 | 2, keyId: string, password = secret) => ({
  image: `tsrke/lab-kms-plugin:${tag}`,
  command: [`--listen=${socket}`],
  env: [`KMS_KEY_ID=${keyId}`, `KMS_SECRET=${password}`],
  socket,
});

const asks = (lab: Lab, kms_plugin: object | undefined) =>
  editKubeApi(lab, {
    secrets_encryption_config: {
      enabled: true,
      ...(kms_plugin === undefined ? {} : { custom_config, kms_plugin }),
    },
  });

afterAll(closeLabs);

/** Under the eyes of clients: none of them meets a value that its server cannot read. */
async function upFrom(lab: Lab): Promise<Awaited<ReturnType<Lab['tsrke']>>> {
  const clients = await lab.startClients();
  // What libraries would say of themselves with it must not get out either.
  const ran = await lab.tsrke(['up'], { env: { DEBUG: '*' } });
  const { hosts, bothDown } = await clients.stop();
  for (const [name, seen] of Object.entries(hosts)) {
    expect(seen, name).toMatchObject({ decryption: 0, other: [] });
  }
  expect(bothDown).toBe(0);
  expect(ran.stdout + ran.stderr).not.toContain(secret);
  return ran;
}

async function up(lab: Lab): Promise<void> {
  const ran = await upFrom(lab);
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  const again = await lab.tsrke(['up']);
  expect(again.stdout, again.stderr).toMatch(/^nothing to do/);
}

/** By host, each container of a plugin: its image's tag, its state, its restart policy. */
const containers = (lab: Lab) =>
  Promise.all(
    lab.hosts.map(async ({ docker }) => {
      const all = await docker.listContainers({ all: true });
      const names = all.flatMap(({ Names }) => Names).filter((name) => name.startsWith('/tsrke-kms-'));
      const each = names.map(async (name) => {
        const { Config, State, HostConfig } = await docker.getContainer(name.slice(1)).inspect();
        return [Config.Image.split(':')[1], State.Status, HostConfig.RestartPolicy?.Name].join(' ');
      });
      return (await Promise.all(each)).join();
    }),
  );

const clusters = [
  { version: '1.34', hosts: 3 },
  { version: '1.37', hosts: 1 },
] as const;

// The plugin's container knows nothing of kube-apiserver's version; kms.test.ts runs both on real hosts.
describe.each(labName === 'memory' ? clusters : clusters.slice(0, 1))(
  'with kube-apiserver $version on $hosts host(s)',
  ({ version, hosts }) => {
    let lab: Lab;
    beforeAll(async () => {
      lab = await openLab({ hosts, version, encryption: 'off', secrets: 60 });
    });
    afterAll(() => lab.close());

    const everywhere = (what: string) => Array.from({ length: hosts }, () => what);

    test('encryption is enabled at once with a plugin that nobody had to run before', async () => {
      asks(lab, plugin(1, 'kek-1'));
      const plan = await lab.tsrke(['plan']);
      expect(plan.code, plan.stderr).toBe(2);
      expect(plan.stdout.replace(/\s+/g, ' ')).toContain(
        `h1: create and start the container of the KMS plugin at ${socket}`,
      );
      expect(plan.stdout + plan.stderr).not.toContain(secret);
      await up(lab);
      expect(await containers(lab)).toEqual(everywhere('1 running always'));
      expect(await storedPrefixes(lab.etcd)).toEqual(['k8s:enc:kms:v2:vault:']);
      expect(readFileSync(lab.state, 'utf8')).not.toContain(secret);
    });

    test('after a reboot of all hosts it is there again, and every Secret can be read', async () => {
      await Promise.all(lab.hosts.map((host) => host.reboot()));
      await lab.ready();
      for (const host of lab.hosts) {
        const { status } = await lab.kube(host, 'GET', '/api/v1/secrets');
        expect(status, host.name).toBe(200);
      }
    });

    test('one with other keys, and one that does not start, get the former one back; the output has no credentials', async () => {
      asks(lab, plugin(2, 'kek-1', 'another KMS altogether'));
      const other = await upFrom(lab);
      expect(other, other.stderr).toMatchObject({ code: 1 });
      expect(other.stderr).toContain('KMS_KEYS_DIFFER');
      expect(await containers(lab)).toEqual(everywhere('1 running always'));
      asks(lab, plugin(2, 'kek-1', 'tooshort'));
      const short = await upFrom(lab);
      expect(short, short.stderr).toMatchObject({ code: 1 });
      expect(short.stderr).toContain('KMS_SECRET is "[redacted]", which is too short');
      expect(other.stderr + short.stderr).not.toMatch(/another KMS altogether|tooshort/);
      expect(await containers(lab)).toEqual(everywhere('1 running always'));
    });

    test('it is upgraded to another image with a new key of the same KMS, which rotate-key then follows', async () => {
      asks(lab, plugin(2, 'kek-2'));
      await up(lab);
      expect(await containers(lab)).toEqual(everywhere('2 running always'));
      const ran = await lab.tsrke(['encrypt', 'rotate-key']);
      expect(ran, ran.stderr).toMatchObject({ code: 0 });
      expect(ran.stdout).toContain('kek-2');
      expect(ran.stdout).not.toContain('kek-1');
    });

    test('taken out together with its provider, it goes last', async () => {
      asks(lab, undefined);
      await up(lab);
      expect(await containers(lab)).toEqual(everywhere(''));
      expect(await storedPrefixes(lab.etcd)).toEqual([expect.stringMatching(/^k8s:enc:aescbc:v1:k-\w+:$/)]);
    });
  },
);
