/** A twin has the shape of somebody's cluster and none of its secrets. */
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseProviderFile, localKeysOf } from '../../src/encryption/configuration.ts';
import { TsrkeError } from '../../src/errors.ts';
import { startLab } from '../../src/lab/lab.ts';
import { shapeOf } from '../../src/lab/rehearsal.ts';
import { parseState } from '../../src/state/rkestate.ts';

const fixtures = join(import.meta.dirname, '../fixtures/rke-1.6.3');
let theirs = '';
let twin = '';

beforeEach(() => {
  theirs = mkdtempSync(join(tmpdir(), 'tsrke-theirs-'));
  twin = mkdtempSync(join(tmpdir(), 'tsrke-twin-'));
  copyFileSync(join(fixtures, 'cluster.yml'), join(theirs, 'cluster.yml'));
  copyFileSync(join(fixtures, 'enabled.rkestate'), join(theirs, 'cluster.rkestate'));
});
afterEach(() => {
  for (const dir of [theirs, twin]) rmSync(dir, { recursive: true, force: true });
});

const config = () => join(theirs, 'cluster.yml');
const statePath = () => join(theirs, 'cluster.rkestate');

interface StateFile {
  currentState: { encryptionConfig: string; certificatesBundle: Record<string, { keyPEM: string }> };
  tsrke?: unknown;
}
const stateOf = (dir: string) => JSON.parse(readFileSync(join(dir, 'cluster.rkestate'), 'utf8')) as StateFile;

describe('a twin', () => {
  it('has the names, the version and the key names of the cluster, on nodes that serve', async () => {
    const lab = await startLab({ ...shapeOf(config()), dir: twin, secrets: 3 });
    try {
      expect(lab.model.nodes.map(({ name }) => name)).toEqual(['h1', 'h2', 'h3']);
      expect(lab.model.minor).toBe(30);
      const text = readFileSync(lab.config, 'utf8');
      expect(text).toContain('kubernetes_version: v1.30.5-rancher1-1');
      expect(text).toContain('enabled: true');
      const { encryptionConfig } = stateOf(twin).currentState;
      for (const { name } of lab.model.nodes) {
        const onNode = lab.model.host(name).read('/etc/kubernetes/ssl/encryption.yaml');
        expect(onNode?.bytes.toString()).toBe(encryptionConfig);
      }
      const keys = (file: string) => localKeysOf(parseProviderFile(file, 'a file')).map(({ name }) => name);
      expect(keys(encryptionConfig)).toEqual(keys(stateOf(theirs).currentState.encryptionConfig));
    } finally {
      lab.close();
    }
  });

  it('holds no key and no certificate of theirs, and their files stay as they were', async () => {
    const before = [config(), statePath()].map((path) => readFileSync(path, 'utf8'));
    const lab = await startLab({ ...shapeOf(config()), dir: twin });
    lab.close();
    const { encryptionConfig, certificatesBundle } = stateOf(theirs).currentState;
    const secret = /secret: (\S+)/.exec(encryptionConfig)?.[1] ?? '';
    expect(secret).not.toBe('');
    const written = readdirSync(twin).map((name) => readFileSync(join(twin, name), 'utf8'));
    expect(written.some((text) => text.includes('secret: '))).toBe(true);
    for (const text of written) {
      expect(text.includes(secret)).toBe(false);
      for (const { keyPEM } of Object.values(certificatesBundle)) {
        expect(text.includes(JSON.stringify(keyPEM).slice(40, 100))).toBe(false);
      }
    }
    expect([config(), statePath()].map((path) => readFileSync(path, 'utf8'))).toEqual(before);
  });

  it('takes an open rotation over, each key with the same other bytes wherever it stands', async () => {
    const state = stateOf(theirs);
    const key = (name: string, byte: number) => ({
      ...{ name, provider: 'aescbc', secret: Buffer.alloc(32, byte).toString('base64') },
      ...{ fingerprint: '', created: '2026-01-01T00:00:00Z', why: 'test' },
    });
    const file = (...names: [string, number][]) =>
      [
        'apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]',
        '  providers:\n  - aescbc:\n      keys:',
        ...names.map(([name, byte]) => `      - {name: ${name}, secret: ${key(name, byte).secret}}`),
        '  - identity: {}',
      ].join('\n');
    state.currentState.encryptionConfig = file(['k-old', 1], ['k-new', 2]);
    const started = '2026-01-02T00:00:00Z';
    state.tsrke = {
      ...{ formatVersion: 1, serial: 7, lineage: 'theirs', loaded: {}, hostKeys: {} },
      transition: { kind: 'rotate', target: file(['k-new', 2]), started },
      keyRing: [key('k-old', 1), key('k-new', 2)],
    };
    writeFileSync(statePath(), JSON.stringify(state));
    const lab = await startLab({ ...shapeOf(config()), dir: twin });
    lab.close();
    const { tsrke, document } = parseState(readFileSync(lab.state, 'utf8'), 'the twin');
    expect(tsrke).toMatchObject({ serial: 7, transition: { kind: 'rotate', started } });
    expect(tsrke.lineage).not.toBe('theirs');
    const secrets = new Map(tsrke.keyRing.map(({ name, secret }) => [name, secret.reveal()]));
    expect([...secrets.keys()]).toEqual(['k-old', 'k-new']);
    const text = document.currentState?.encryptionConfig ?? '';
    for (const each of [
      ...localKeysOf(parseProviderFile(text, 'the twin')),
      ...localKeysOf(parseProviderFile(tsrke.transition?.target ?? '', 'the twin')),
    ]) {
      expect(each.secret.reveal()).toBe(secrets.get(each.name));
      expect(each.secret.bytes()).toHaveLength(32);
    }
    for (const byte of [1, 2]) expect([...secrets.values()]).not.toContain(key('', byte).secret);
  });

  it('of a cluster that shall be encrypted and is not yet asks for it and is not', async () => {
    const state = stateOf(theirs) as { currentState: { encryptionConfig?: string } };
    delete state.currentState.encryptionConfig;
    writeFileSync(statePath(), JSON.stringify(state));
    const lab = await startLab({ ...shapeOf(config()), dir: twin });
    lab.close();
    expect(readFileSync(lab.config, 'utf8')).toContain('enabled: true');
    expect(lab.model.host('h1').read('/etc/kubernetes/ssl/encryption.yaml')).toBeUndefined();
    expect(stateOf(twin).currentState.encryptionConfig).toBeUndefined();
  });

  it('is refused where it would need keys of theirs', () => {
    const text = readFileSync(config(), 'utf8');
    const custom =
      'enabled: true\n      custom_config: {apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: []}';
    writeFileSync(config(), text.replace('enabled: true', custom));
    expect(() => shapeOf(config())).toThrow(TsrkeError);
  });
});
