/** From one kind of encryption to another, on live clusters: what is in etcd, of every resource, follows cluster.yml. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { editKubeApi, kmsFolder, type Lab, type LabOptions } from '../lab/lab.ts';
import { closeLabs, labName, openLab } from '../lab/open-lab.ts';
import { astray, eight, everyWay, wanted } from '../lab/wanted.ts';

interface Walk extends Pick<LabOptions, 'hosts' | 'version'> {
  /** Names of what is wanted, one after the other; the cluster begins without encryption. */
  readonly stops: readonly string[];
}

const [off = '', ...others] = Object.keys(eight);

/** Each of the eight is entered and left twice. */
const thereAndBack = [...others, off, ...others.toReversed(), off];

const walks: Record<typeof labName, readonly Walk[]> = {
  memory: [
    { hosts: 3, version: '1.34', stops: thereAndBack },
    {
      ...{ hosts: 1, version: '1.37' },
      stops: ['KMS v2 for two resources', 'a KMS name for each', 'KMS v2', 'everything', 'wildcard', off],
    },
  ],
  real: [
    { hosts: 1, version: '1.34', stops: [...others, off] },
    {
      hosts: 1,
      version: '1.37',
      stops: ['KMS v2 for two resources', 'KMS v2', 'everything', 'wildcard', off],
    },
    { hosts: 3, version: '1.34', stops: ['KMS v2 for two resources', 'a KMS name for each'] },
  ],
};

/** TSRKE_ALL_PAIRS: every way from each of the eight to each other. */
const allPairs: readonly Walk[] = ([1, 3] as const).map((hosts) => {
  return { hosts, version: '1.34', stops: everyWay([off, ...others]).slice(1) };
});

afterAll(closeLabs);

describe.each(process.env['TSRKE_ALL_PAIRS'] === undefined ? walks[labName] : allPairs)(
  'on $hosts host(s) with kube-apiserver $version',
  ({ stops, ...options }) => {
    let lab: Lab;
    beforeAll(async () => {
      lab = await openLab({ ...options, encryption: 'off', secrets: 20, kms: 'v2' });
      editKubeApi(lab, { extra_binds: [`${kmsFolder}:${kmsFolder}`] });
      const [host] = lab.hosts;
      if (host === undefined) throw new Error('no host');
      const settings = { metadata: { name: 'settings' }, data: { a: 'b' } };
      const { status } = await lab.kube(host, 'POST', '/api/v1/namespaces/default/configmaps', settings);
      expect(status).toBe(201);
    });
    afterAll(() => lab.close());

    const ways = stops.map((name, i) => {
      return { before: stops[i - 1] ?? off, name, isFirst: stops.indexOf(name) === i };
    });
    test.each(ways)('from $before to $name', async ({ name, isFirst }) => {
      const want = wanted[name];
      if (want === undefined) throw new Error(`nothing is called ${name}`);
      editKubeApi(lab, { secrets_encryption_config: want.block });
      const clients = await lab.startClients();
      const ran = await lab.tsrke(['up']);
      const { hosts, bothDown } = await clients.stop();
      expect(ran, ran.stderr).toMatchObject({ code: 0 });
      for (const [host, seen] of Object.entries(hosts)) {
        expect(seen, host).toMatchObject({ decryption: 0, other: [] });
      }
      expect(bothDown).toBe(0);
      expect(ran.stdout).toMatch(/proved/);
      expect(astray(await lab.etcd.prefixes('/registry/'), want)).toEqual([]);
      if (!isFirst) return;
      const again = await lab.tsrke(['up']);
      expect(again.stdout, again.stderr).toMatch(/^nothing to do/);
    });
  },
);
