/** Builders for what was seen of a cluster, and what its state says. */
import { noFile, renderProviderFile, type ProviderFile } from '../../src/encryption/configuration.ts';
import type { Holding } from '../../src/encryption/holdings.ts';
import { keyId } from '../../src/encryption/key.ts';
import type { NodeSight, Sight } from '../../src/encryption/status/sight.ts';
import { parseState, withKeys, type ClusterState, type Transition } from '../../src/state/rkestate.ts';
import { key, secretsFile } from './samples.ts';

const time = new Date('2026-11-25T12:00:00Z');

/** A node that runs this file, all in order. */
export function node(name: string, strip: string, more: Partial<NodeSight> = {}): NodeSight {
  const file = strip === '' ? undefined : secretsFile(strip);
  const sha256 = strip.padEnd(64, '0');
  return {
    ...{ node: name, address: `10.0.0.${name.slice(1)}`, named: true, recorded: true, reachable: true },
    failure: undefined,
    container: {
      ...{ running: true, startedAt: '2026-11-25T11:00:00Z', args: [], image: '', hostname: name, binds: [] },
      interrupted: false,
    },
    ...{ flag: strip !== '', path: '/etc/kubernetes/ssl/encryption.yaml', file, fileProblem: undefined },
    onDisk: strip === '' ? undefined : { sha256, mode: 0o600, uid: 0 },
    readiness: { serves: true, ready: true, failing: [] },
    ...{ minor: 34, version: 'v1.34.4', reported: strip === '' ? undefined : sha256, loaded: 'yes' },
    ...{ metrics: undefined, binds: 'as wanted', reloadFlag: 'as wanted', plugins: [] },
    ...more,
  };
}

/** `a: 3` aescbc key a; `identity: 2` plain; `?x: 1` a key that nobody has; `!a: 1` does not open with key a. */
export function stored(counts: Record<string, number>, resource = 'secrets'): Sight['stored'] {
  const holdings = Object.entries(counts).map(([text, count]): Holding => {
    const name = text.replace(/^[?!]/, '');
    const base = { resource, kmsKeyId: undefined, count, refused: 0, samples: ['default/s1', 'default/s2'] };
    if (text === 'identity') return { ...base, provider: 'identity', name: '', id: 'identity' };
    const stranger = text !== name;
    return {
      ...{ ...base, provider: 'aescbc', name, id: stranger ? `aescbc:${name}` : keyId(key(name)) },
      refused: text.startsWith('!') ? count : 0,
    };
  });
  return { total: 20, at: [{ clusterId: '1', revision: 7n }], holdings };
}

export function sight(nodes: readonly NodeSight[], more: Partial<Sight> = {}): Sight {
  return {
    time,
    nodes,
    strangers: [],
    stored: stored({ a: 5 }),
    stale: undefined,
    atWork: undefined,
    ...more,
  };
}

export function state(strip: string, transition?: Transition, ring: readonly string[] = ['a']): ClusterState {
  const half = strip === '' ? {} : { encryptionConfig: renderProviderFile(secretsFile(strip)) };
  const parsed = parseState(JSON.stringify({ desiredState: half, currentState: half }), 'it');
  const created = '2026-11-20T12:00:00.000Z';
  const keyRing = withKeys(
    [],
    ring.map((name) => key(name)),
    created,
    'rotate',
  );
  const tsrke = { ...parsed.tsrke, serial: 3, keyRing };
  return { ...parsed, tsrke: transition === undefined ? tsrke : { ...tsrke, transition } };
}

const textOf = (file: ProviderFile) => (file === noFile ? '' : renderProviderFile(file));
export const rotation: Transition = {
  kind: 'rotate',
  target: textOf(secretsFile('b,identity')),
  from: textOf(secretsFile('a,identity')),
  started: '2026-11-25T11:30:00.000Z',
};
export const disable: Transition = { ...rotation, kind: 'disable', target: '' };

export const three = (strip: string, ...others: NodeSight[]) => [
  ...['n1', 'n2', 'n3'].slice(0, 3 - others.length).map((name) => node(name, strip)),
  ...others,
];
export const inForce = state('a,identity');
