import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FakeHost } from './fake-host.ts';

const path = '/etc/kubernetes/ssl/encryption.yaml';
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const secret = 'kind: EncryptionConfiguration\nsecret: c2VjcmV0IGtleSBtYXRlcmlhbA==\n';

let host: FakeHost;
const { signal } = new AbortController();
beforeEach(async () => {
  host = new FakeHost();
  await host.listen();
  host.docker.images.set('hyperkube', 'sha256:1');
  const container = host.docker.create('kube-apiserver', {
    Image: 'hyperkube',
    Entrypoint: ['/opt/rke-tools/entrypoint.sh', 'kube-apiserver'],
    HostConfig: {
      ...{
        Binds: ['/etc/kubernetes:/etc/kubernetes'],
        NetworkMode: 'host',
        VolumesFrom: ['service-sidekick'],
      },
      ...{ Runtime: 'nores', RestartPolicy: { Name: 'always', MaximumRetryCount: 0 } },
    },
  });
  host.docker.start(container);
  mkdirSync(host.docker.path('/etc/kubernetes/ssl'), { recursive: true });
});
afterEach(() => host.close());

const stopApiserver = () => {
  for (const container of host.docker.containers) container.running = false;
};
const onDisk = () => readFileSync(host.docker.path(path), 'utf8');

describe('a file is read', () => {
  test('with its bytes, digest, mode and owner', async () => {
    host.docker.write(path, secret);
    expect(await host.open().files.read('h1', path, signal)).toEqual({
      text: secret,
      sha256: sha256(secret),
      mode: 0o600,
      uid: 0,
    });
  });

  test('as absent when it, or its folder, is not there', async () => {
    const { files } = host.open();
    expect(await files.read('h1', path, signal)).toBeUndefined();
    expect(await files.read('h1', '/etc/nowhere/encryption.yaml', signal)).toBeUndefined();
  });

  test('unless it is a folder', async () => {
    await expect(host.open().files.read('h1', '/etc/kubernetes/ssl', signal)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
  });

  test('from whichever container a cut-off recreation has left', async () => {
    host.docker.write(path, secret);
    const [container] = host.docker.containers;
    if (container !== undefined) container.name = 'old-kube-apiserver';
    expect(await host.open().files.read('h1', path, signal)).toMatchObject({ text: secret });
  });
});

describe.each([
  ['the apiserver runs', () => undefined],
  ['the apiserver is stopped', stopApiserver],
])('a file is replaced while %s', (_name, prepare) => {
  beforeEach(prepare);

  test('in one move, with mode 600', async () => {
    host.docker.write(path, 'before');
    const written = await host.open().files.replace('h1', path, secret, sha256('before'), signal);
    expect(written).toEqual({ text: secret, sha256: sha256(secret), mode: 0o600, uid: 0 });
    expect(onDisk()).toBe(secret);
    expect(statSync(host.docker.path(path)).mode & 0o777).toBe(0o600);
    expect(existsSync(host.docker.path(`${path}.tsrke-tmp`))).toBe(false);
    expect(host.docker.containers.map(({ name }) => name)).toEqual(['kube-apiserver']);
  });

  test('and made when it was not there', async () => {
    await host.open().files.replace('h1', path, secret, undefined, signal);
    expect(onDisk()).toBe(secret);
  });

  test('but not when it is not the one that was seen', async () => {
    host.docker.write(path, 'somebody else');
    const { files } = host.open();
    for (const seen of [undefined, sha256('before')]) {
      await expect(files.replace('h1', path, secret, seen, signal)).rejects.toMatchObject({
        code: 'FILE_CHANGED',
        node: 'h1',
      });
      await expect(files.remove('h1', path, seen, signal)).rejects.toMatchObject({ code: 'FILE_CHANGED' });
    }
    expect(onDisk()).toBe('somebody else');
    expect(host.docker.effects).toEqual([]);
  });

  test('but not when it changes at the last moment', async () => {
    host.docker.write(path, 'before');
    host.docker.beforeCommand = () => writeFileSync(host.docker.path(path), 'somebody else');
    await expect(
      host.open().files.replace('h1', path, secret, sha256('before'), signal),
    ).rejects.toMatchObject({ code: 'FILE_CHANGED' });
    expect(onDisk()).toBe('somebody else');
    expect(existsSync(host.docker.path(`${path}.tsrke-tmp`))).toBe(false);
  });

  test('but not when one appears, or goes, at the last moment', async () => {
    const { files } = host.open();
    host.docker.beforeCommand = () => host.docker.write(path, 'somebody else');
    await expect(files.replace('h1', path, secret, undefined, signal)).rejects.toMatchObject({
      code: 'FILE_CHANGED',
    });
    expect(onDisk()).toBe('somebody else');
  });

  test('and removed, together with what a cut-off run left beside it', async () => {
    host.docker.write(path, 'before');
    host.docker.write(`${path}.tsrke-tmp`, 'left over');
    const { files } = host.open();
    await files.remove('h1', path, sha256('before'), signal);
    expect(existsSync(host.docker.path(path))).toBe(false);
    expect(existsSync(host.docker.path(`${path}.tsrke-tmp`))).toBe(false);
    await files.remove('h1', path, undefined, signal);
  });

  test('and what was left beside it is cleared away, while it stays as it is', async () => {
    host.docker.write(path, 'before');
    host.docker.write(`${path}.tsrke-tmp`, secret);
    const mover = host.docker.create('tsrke-file-mover', {
      Image: 'hyperkube',
      Entrypoint: ['sh'],
      HostConfig: {},
    });
    const { files } = host.open();
    await files.clear('h1', path, signal);
    expect(existsSync(host.docker.path(`${path}.tsrke-tmp`))).toBe(false);
    expect(onDisk()).toBe('before');
    expect(host.docker.containers).not.toContain(mover);
    expect(host.docker.containers.map(({ name }) => name)).toEqual(['kube-apiserver']);
    host.docker.effects.length = 0;
    await files.clear('h1', path, signal);
    expect(host.docker.effects).toEqual([]);
  });

  test('cut off anywhere, it is the old or the new one whole, and the next run succeeds', async () => {
    const hosts = host.open();
    for (let cut = 0; cut < 6; cut++) {
      host.docker.write(path, 'before');
      host.docker.effects.length = 0;
      host.docker.powerFailsAfter = cut;
      await hosts.files.replace('h1', path, secret, sha256('before'), signal).catch(() => undefined);
      expect(['before', secret]).toContain(onDisk());
      host.docker.powerFailsAfter = Infinity;
      const seen = await hosts.files.read('h1', path, signal);
      await hosts.files.replace('h1', path, secret, seen?.sha256, signal);
      expect(onDisk()).toBe(secret);
      expect(host.docker.containers.map(({ name }) => name)).toEqual(['kube-apiserver']);
    }
  });

  test('and no command, environment, definition or debug line holds its contents', async () => {
    await host.open().files.replace('h1', path, secret, undefined, signal);
    const said = JSON.stringify([host.docker.definitions, host.docker.commands, host.report]);
    expect(said).not.toContain('EncryptionConfiguration');
    expect(said).not.toContain('c2VjcmV0');
  });
});

test('a container in place of a stopped apiserver has its mounts, no network, and is none to be started again', async () => {
  stopApiserver();
  await host.open().files.replace('h1', path, secret, undefined, signal);
  expect(host.docker.definitions.at(-1)).toMatchObject({
    Image: 'sha256:1',
    NetworkDisabled: true,
    HostConfig: {
      Binds: ['/etc/kubernetes:/etc/kubernetes'],
      VolumesFrom: ['service-sidekick'],
      Runtime: 'nores',
      NetworkMode: 'none',
      RestartPolicy: { Name: 'no' },
    },
  });
});

test('a file system that forgets owners is noticed', async () => {
  host.docker.uid = 1000;
  await expect(host.open().files.replace('h1', path, secret, undefined, signal)).rejects.toMatchObject({
    code: 'DOCKER',
    message: expect.stringContaining('owner 1000') as string,
  });
});

test('a failing command is told with its own words', async () => {
  host.docker.beforeCommand = () => host.docker.breakFolder('/etc/kubernetes/ssl');
  await expect(host.open().files.replace('h1', path, secret, undefined, signal)).rejects.toMatchObject({
    code: 'DOCKER',
    details: [expect.stringContaining('mv:')],
  });
});

test('no container, no files', async () => {
  host.docker.containers.length = 0;
  await expect(host.open().files.read('h1', path, signal)).rejects.toMatchObject({
    code: 'APISERVER_MISSING',
  });
});
