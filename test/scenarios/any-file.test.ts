/** Provider files of the user's own, on a real kube-apiserver: what is in etcd, not only in Secrets, follows them. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { etcdPathOfKey, resourceOfPath } from '../../src/etcd/paths.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';
import { editKubeApi, type Lab } from '../lab/lab.ts';

let lab: Lab;
afterAll(closeLabs);

function ask(block: unknown): void {
  editKubeApi(lab, { secrets_encryption_config: block });
}

/** Prefixes in etcd by resource, without the key's name. */
async function stored(): Promise<Map<string, string>> {
  const found = new Map<string, Set<string>>();
  for (const [key, prefix] of await lab.etcd.prefixes('/registry/')) {
    const resource = resourceOfPath(etcdPathOfKey(key.slice('/registry/'.length)));
    if (resource === undefined) continue;
    found.set(resource, (found.get(resource) ?? new Set()).add(/^k8s:enc:[a-z]*/.exec(prefix)?.[0] ?? ''));
  }
  return new Map([...found].map(([resource, prefixes]) => [resource, [...prefixes].join()]));
}

const files: [string, unknown, (of: Map<string, string>) => void][] = [
  [
    'a managed secretbox key for Secrets and ConfigMaps',
    { enabled: true, provider: 'secretbox', resources: ['secrets', 'configmaps'] },
    (of) => {
      expect([of.get('secrets'), of.get('configmaps')]).toEqual(['k8s:enc:secretbox', 'k8s:enc:secretbox']);
      expect(of.get('namespaces')).toBe('');
    },
  ],
  [
    'everything there is, with a key that tsrke makes',
    {
      enabled: true,
      custom_config: {
        resources: [
          { resources: ['*.*'], providers: [{ aesgcm: { keys: [{ name: 'all' }] } }, { identity: {} }] },
        ],
      },
    },
    (of) => expect([...new Set(of.values())]).toEqual(['k8s:enc:aesgcm']),
  ],
  [
    'the core group without ConfigMaps',
    {
      enabled: true,
      custom_config: {
        kind: 'EncryptionConfiguration',
        apiVersion: 'apiserver.config.k8s.io/v1',
        resources: [
          { resources: ['configmaps'], providers: [{ identity: {} }] },
          { resources: ['*.'], providers: [{ secretbox: { keys: [{ name: 'core' }] } }, { identity: {} }] },
        ],
      },
    },
    (of) => {
      expect([of.get('secrets'), of.get('namespaces')]).toEqual(['k8s:enc:secretbox', 'k8s:enc:secretbox']);
      expect([of.get('configmaps'), of.get('leases.coordination.k8s.io')]).toEqual(['', '']);
    },
  ],
  ["RKE's own way", { enabled: true }, (of) => expect(of.get('secrets')).toBe('k8s:enc:aescbc')],
  ['nothing', { enabled: false }, (of) => expect([...new Set(of.values())]).toEqual([''])],
];

describe.each(['1.34', '1.37'] as const)('kube-apiserver %s', (version) => {
  beforeAll(async () => {
    lab = await openLab({ hosts: 1, version, encryption: 'off', secrets: 20 });
    const [host] = lab.hosts;
    if (host === undefined) throw new Error('no host');
    const settings = { metadata: { name: 'settings' }, data: { a: 'b' } };
    const { status } = await lab.kube(host, 'POST', '/api/v1/namespaces/default/configmaps', settings);
    expect(status).toBe(201);
  });
  afterAll(() => lab.close());

  test.each(files)('from what there was to %s', async (_, block, check) => {
    ask(block);
    const ran = await lab.tsrke(['up']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    check(await stored());
    const again = await lab.tsrke(['up']);
    expect(again.stdout).toMatch(/^nothing to do/);
  });
});
