/** Every pair of provider files, as cluster.yml asks for them one after the other: nothing is ever unreadable. */
import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { parseProviderFile, writeKeyOf } from '../../src/encryption/configuration.ts';
import { resourceOfPath, etcdPathOfKey } from '../../src/etcd/paths.ts';
import { storedKeyOf } from '../../src/etcd/stored.ts';
import type { Effect, Fault } from '../../src/lab/faults.ts';
import { inPart } from '../part.ts';
import { entry, kms, KmsLab } from './kms-lab.ts';

const secret = (seed: string) => createHash('sha256').update(seed).digest('base64');

/** `secrets_encryption_config` in cluster.yml. */
const wishes = {
  off: '{enabled: false}',
  aescbc: '{enabled: true}',
  aesgcm: '{enabled: true, provider: aesgcm}',
  secretbox: '{enabled: true, provider: secretbox}',
  'two resources': '{enabled: true, resources: [secrets, configmaps]}',
  'two keys': `{enabled: true, custom_config: {resources: [{resources: [secrets], providers: [{aescbc: {keys: [{name: one, secret: ${secret('one')}}, {name: two, secret: ${secret('two')}}]}}, {identity: {}}]}]}}`,
  wildcard: `{enabled: true, custom_config: {resources: [{resources: [configmaps], providers: [{identity: {}}]}, {resources: ['*.'], providers: [{secretbox: {keys: [{name: made}]}}, {identity: {}}]}]}}`,
  everything: `{enabled: true, custom_config: {resources: [{resources: ['*.*'], providers: [{aesgcm: {keys: [{name: all, secret: ${secret('all')}}]}}, {identity: {}}]}]}}`,
  'custom resource': `{enabled: true, custom_config: {kind: EncryptionConfiguration, apiVersion: apiserver.config.k8s.io/v1, resources: [{resources: [secrets, widgets.example.com], providers: [{aescbc: {keys: [{name: made}]}}, {identity: {}}]}]}}`,
  KMS: `{enabled: true, custom_config: {resources: [${entry(kms('v2'))}]}}`,
  'KMS on two resources': `{enabled: true, custom_config: {resources: [${entry(kms('v2'), 'secrets, configmaps')}]}}`,
  'a KMS name for each': `{enabled: true, custom_config: {resources: [${entry(kms('v2'))}, ${entry(kms('v2', 'vault-2'), 'configmaps')}]}}`,
} as const;
type Wish = keyof typeof wishes;
const names = Object.keys(wishes) as Wish[];

async function open(nodes: 1 | 3): Promise<KmsLab> {
  const lab = new KmsLab({ nodes });
  await lab.put('POST', '/api/v1/namespaces/default/configmaps', {
    metadata: { name: 'settings' },
    data: { a: 'b' },
  });
  await lab.put('POST', '/apis/example.com/v1/namespaces/default/widgets', {
    apiVersion: 'example.com/v1',
    kind: 'Widget',
    metadata: { name: 'one' },
    spec: {},
  });
  return lab;
}

/** What lies under another key than the one that the finished state says. */
function astray(lab: KmsLab): string[] {
  const text = lab.store.state.document.currentState?.encryptionConfig ?? '';
  const file = text === '' ? { entries: [] } : parseProviderFile(text, 'the state');
  return lab.model.store.range('/registry/', '/registry0').values.flatMap(({ key, value }) => {
    const resource = resourceOfPath(etcdPathOfKey(key.slice('/registry/'.length)));
    if (resource === undefined) return [];
    const { id } = storedKeyOf(value);
    return id === writeKeyOf(file, resource).stored ? [] : [`${key} lies under ${id}`];
  });
}

async function go(lab: KmsLab, wish: Wish, faultOf?: (effect: Effect) => Fault | undefined): Promise<number> {
  lab.wishes(wishes[wish]);
  const ran = await lab.tsrke('up', faultOf === undefined ? {} : { faultOf });
  if (faultOf === undefined && ran.error !== undefined) throw ran.error;
  if (faultOf === undefined) expect(astray(lab)).toEqual([]);
  return ran.effects.log.length;
}

test('from each to each, on three nodes', async () => {
  const lab = await open(3);
  // Every ordered pair of this part once, all on one cluster.
  for (const [i, a] of names.entries()) {
    if (!inPart(i)) continue;
    await go(lab, a);
    for (const b of names.slice(i + 1)) {
      await go(lab, b);
      await go(lab, a);
    }
  }
  lab.wishes(wishes.off);
  await lab.tsrke('up');
  const { said } = await lab.tsrke('up');
  expect(said).toBe('nothing to do: encryption of secrets is off');
});

test('from each to the next, on one node', async () => {
  const lab = await open(1);
  for (const wish of [...names, ...names.toReversed()]) await go(lab, wish);
});

const cutOff: readonly (readonly [Wish, Wish, Wish])[] = [
  ['aescbc', 'secretbox', 'off'],
  ['aesgcm', 'everything', 'two keys'],
  ['wildcard', 'two resources', 'aescbc'],
  ['off', 'custom resource', 'wildcard'],
  ['aescbc', 'KMS', 'two keys'],
  ['KMS on two resources', 'secretbox', 'KMS'],
];

test.each(cutOff.filter((_, index) => inPart(index)))(
  'from %s to %s, which is cut off and becomes %s',
  async (a, b, c) => {
    for (let kill = 3; ; kill += 241) {
      const lab = await open(3);
      await go(lab, a);
      const effects = await go(lab, b, ({ number }) => {
        return number === kill ? { kind: 'killed', when: 'after' } : undefined;
      });
      await go(lab, c);
      if (effects < kill) return;
    }
  },
);

test('a key of custom_config without a secret is rotated, and its old generations stay in the ring', async () => {
  const lab = await open(3);
  await go(lab, 'wildcard');
  expect((await lab.tsrke('rotate')).error).toBeUndefined();
  expect(astray(lab)).toEqual([]);
  const ring = lab.store.state.tsrke.keyRing.map(({ name, retired }) => [name, retired !== undefined]);
  expect(ring).toEqual([
    ['made', true],
    ['made-2', false],
  ]);
  expect((await lab.tsrke('up')).said).toMatch(/^nothing to do/);
});

test('the rotation of a key whose secret stands in cluster.yml is refused, and says how to do it', async () => {
  const lab = await open(1);
  await go(lab, 'two keys');
  const { error } = await lab.tsrke('rotate');
  expect(error).toMatchObject({ code: 'NOT_ROTATABLE', exitCode: 3 });
});
