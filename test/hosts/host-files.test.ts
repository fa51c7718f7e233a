/** Files of a bare host: the scripts run for real, in a folder that stands for the host's disk. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Delivered, HostFiles } from '../../src/ports.ts';
import { FakeHost } from './fake-host.ts';

const image = 'rancher/rke-tools:v0.1.103';
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

let host: FakeHost;
let files: HostFiles;
const { signal } = new AbortController();
beforeEach(async () => {
  host = new FakeHost();
  await host.listen();
  host.docker.images.set(image, 'sha256:1');
  files = host.open().hostFiles;
});
afterEach(() => {
  // Whatever was done, no helper is left.
  expect(host.docker.find('tsrke-files')).toBeUndefined();
  host.close();
});

const onDisk = (path: string) => readFileSync(host.docker.path(path), 'utf8');
const inFolder = (path: string) => readdirSync(host.docker.path(path)).sort();
const mkdir = (path: string) => mkdirSync(host.docker.path(path), { recursive: true });

/** A container of RKE's that mounts its folder; it need not run. */
const holder = (name: string, bind = '/etc/kubernetes:/etc/kubernetes') =>
  host.docker.create(name, {
    Image: image,
    HostConfig: { Binds: ['/run:/run', bind], RestartPolicy: { Name: 'always', MaximumRetryCount: 0 } },
  });

describe('files are listed', () => {
  test('as unknown where no container mounts their folder', async () => {
    host.docker.write('/etc/kubernetes/ssl/kube-ca.pem', 'ca');
    expect(await files.list('h1', signal)).toBeUndefined();
    host.docker.create('nginx-proxy', { Image: image, HostConfig: { RestartPolicy: { Name: 'always' } } });
    holder('kubelet', '/etc:/host/etc');
    expect(await files.list('h1', signal)).toBeUndefined();
    expect(host.docker.effects).toEqual([]);
  });

  test.each(['kube-apiserver', 'kubelet', 'kube-proxy', 'etcd', 'kube-controller-manager', 'kube-scheduler'])(
    'with their hashes through %s, wherever the host has them',
    async (name) => {
      holder(name, '/opt/rke/etc/kubernetes:/etc/kubernetes');
      host.docker.write('/opt/rke/etc/kubernetes/admission.yaml', 'kind: AdmissionConfiguration');
      host.docker.write('/opt/rke/etc/kubernetes/ssl/kube-ca.pem', 'ca');
      host.docker.write('/opt/rke/etc/kubernetes/.tmp/kube-ca.pem', 'of RKE 0.1');
      host.docker.write('/etc/kubernetes/ssl/kube-ca.pem', 'of something else');
      expect(await files.list('h1', signal)).toEqual(
        new Map([
          ['/etc/kubernetes/admission.yaml', sha256('kind: AdmissionConfiguration')],
          ['/etc/kubernetes/ssl/kube-ca.pem', sha256('ca')],
        ]),
      );
      expect(host.docker.effects).toEqual([]);
    },
  );

  test('as none in an empty folder', async () => {
    holder('etcd');
    expect(await files.list('h1', signal)).toEqual(new Map());
  });
});

describe('files are delivered', () => {
  const secret = '-----BEGIN RSA PRIVATE KEY-----\ngeheim\n';
  const all: readonly Delivered[] = [
    { path: '/etc/kubernetes/ssl/kube-ca.pem', text: 'ca', mode: 0o644 },
    { path: '/etc/kubernetes/ssl/kube-ca-key.pem', text: secret },
    { path: '/etc/kubernetes/ssl/kube-etcd-10-0-0-1-key.pem', text: 'etcd', uid: 52034 },
    { path: '/etc/kubernetes/admission.yaml', text: 'kind: AdmissionConfiguration' },
  ];
  const deliver = (delivered = all, folder = '/etc/kubernetes') =>
    files.deliver('h1', { image, folder, files: delivered }, signal);

  test('onto a bare host, with modes and owners, by one container', async () => {
    await deliver();
    expect(inFolder('/etc/kubernetes')).toEqual(['admission.yaml', 'ssl']);
    expect(inFolder('/etc/kubernetes/ssl')).toEqual([
      'kube-ca-key.pem',
      'kube-ca.pem',
      'kube-etcd-10-0-0-1-key.pem',
    ]);
    expect(onDisk('/etc/kubernetes/ssl/kube-ca-key.pem')).toBe(secret);
    const modes = all.map(({ path }) => statSync(host.docker.path(path)).mode & 0o777);
    expect(modes).toEqual([0o644, 0o600, 0o600, 0o600]);
    expect(host.docker.effects).toEqual([
      ...['create', 'put into', 'put into', 'start', 'run in', 'remove'].map((each) => `${each} tsrke-files`),
    ]);
    holder('kubelet');
    expect((await files.list('h1', signal))?.get(all[1]?.path ?? '')).toBe(sha256(secret));
  });

  test('into the folder that a prefix path makes of it', async () => {
    await deliver(all, '/opt/rke/etc/kubernetes');
    expect(onDisk('/opt/rke/etc/kubernetes/ssl/kube-ca.pem')).toBe('ca');
    expect(existsSync(host.docker.path('/etc/kubernetes'))).toBe(false);
  });

  test('over those that are there, which stay whole until then', async () => {
    host.docker.write('/etc/kubernetes/ssl/kube-ca.pem', 'before');
    host.docker.write('/etc/kubernetes/ssl/encryption.yaml', 'of somebody else');
    host.docker.beforeCommand = () => expect(onDisk('/etc/kubernetes/ssl/kube-ca.pem')).toBe('before');
    await deliver();
    expect(onDisk('/etc/kubernetes/ssl/kube-ca.pem')).toBe('ca');
    expect(onDisk('/etc/kubernetes/ssl/encryption.yaml')).toBe('of somebody else');
  });

  test('with nothing of them in a command, a definition or the report', async () => {
    await deliver();
    expect(JSON.stringify([host.docker.definitions, host.docker.commands])).not.toContain('geheim');
    expect(host.report.debugs.join()).not.toContain('geheim');
    expect(host.docker.definitions).toMatchObject([
      {
        ...{ User: '0:0', NetworkDisabled: true },
        HostConfig: { NetworkMode: 'none', RestartPolicy: { Name: 'no' }, SecurityOpt: ['label=disable'] },
      },
    ]);
  });

  test('not at all where a folder is in the way of one', async () => {
    mkdir('/etc/kubernetes/ssl/kube-ca-key.pem');
    await expect(deliver()).rejects.toMatchObject({ code: 'UNSUPPORTED', node: 'h1' });
    expect(inFolder('/etc/kubernetes')).toEqual(['admission.yaml.tsrke-tmp', 'ssl']);
  });

  test('and what the disk says is passed on', async () => {
    host.docker.beforeCommand = () => host.docker.breakFolder('/etc/kubernetes/ssl');
    await expect(deliver()).rejects.toMatchObject({
      ...{ code: 'DOCKER', message: 'files could not be put into /etc/kubernetes (exit code 1)' },
      details: [expect.stringContaining('mv:')],
    });
  });

  test.each([
    [
      'another text',
      'FILE_CHANGED',
      () => host.docker.write('/etc/kubernetes/admission.yaml.tsrke-tmp', 'x'),
    ],
    ['another owner', 'DOCKER', () => (host.docker.uid = 1000)],
  ])('and seen to have come with %s', async (_, code, happen) => {
    host.docker.beforeCommand = happen;
    await expect(deliver()).rejects.toMatchObject({ code, node: 'h1' });
  });

  test('by the next run wherever the power has failed', async () => {
    for (let after = 1; after <= 6; after++) {
      host.docker.write('/etc/kubernetes/ssl/kube-ca.pem', 'before');
      host.docker.effects.length = 0;
      host.docker.powerFailsAfter = after;
      await expect(deliver(), `${after}`).rejects.toMatchObject({ code: 'NODE_UNREACHABLE' });
      host.docker.reboot();
      expect(onDisk('/etc/kubernetes/ssl/kube-ca.pem'), `${after}`).toBe(after < 4 ? 'before' : 'ca');
      // Another set of files: what the first has left beside them goes as well.
      await deliver(all.slice(0, 1));
      expect(onDisk('/etc/kubernetes/ssl/kube-ca.pem')).toBe('ca');
      expect(inFolder('/etc/kubernetes/ssl').filter((each) => each.endsWith('tmp'))).toEqual([]);
    }
  });

  test('two at a time on one node, one after the other', async () => {
    await Promise.all(all.map((each) => deliver([each])));
    expect(inFolder('/etc/kubernetes/ssl')).toHaveLength(3);
    expect(host.docker.effects.filter((each) => each.startsWith('create'))).toHaveLength(4);
  });

  test('of none, nothing happens', async () => {
    await deliver([]);
    expect(host.docker.effects).toEqual([]);
  });
});

const { getuid = () => 0, getgid = () => 0 } = process;

test.runIf(getuid() === getgid())('a folder is made etcd’s own, also where it was not there', async () => {
  const uid = getuid();
  await files.own('h1', { image, path: '/var/lib/etcd', uid }, signal);
  expect(statSync(host.docker.path('/var/lib/etcd')).mode & 0o777).toBe(0o700);
  host.docker.write('/var/lib/etcd/member/wal', 'data');
  await files.own('h1', { image, path: '/var/lib/etcd/', uid }, signal);
  expect(onDisk('/var/lib/etcd/member/wal')).toBe('data');
  expect(host.docker.commands.at(-1)?.slice(-2)).toEqual(['/host/0', String(uid)]);
});

describe('a folder', () => {
  const holds = () => files.holdsAnything('h1', { image, path: '/var/lib/etcd' }, signal);

  test.each<[string, () => unknown, boolean]>([
    ['that is not there, and is not made,', () => undefined, false],
    ['that is empty', () => mkdir('/var/lib/etcd'), false],
    ['that is a new disk’s', () => mkdir('/var/lib/etcd/lost+found'), false],
    ['with a folder', () => mkdir('/var/lib/etcd/member'), true],
    ['with a hidden file', () => host.docker.write('/var/lib/etcd/.x', ''), true],
  ])('%s is seen for what it is', async (_, make, expected) => {
    make();
    const before = existsSync(host.docker.path('/var/lib/etcd'));
    expect(await holds()).toBe(expected);
    expect(existsSync(host.docker.path('/var/lib/etcd'))).toBe(before);
  });

  test('that is a link is looked into where it leads', async () => {
    // As a container sees it, the link leads nowhere.
    host.docker.write('/data/etcd/member/wal', 'data');
    mkdir('/var/lib');
    symlinkSync(host.docker.path('/data/etcd'), host.docker.path('/var/lib/etcd'));
    expect(await holds()).toBe(true);
    expect(
      host.docker.definitions.map((each) => (each as { HostConfig: { Binds: string[] } }).HostConfig.Binds),
    ).toEqual([['/var/lib:/host/0'], ['/var/lib/etcd:/host/0']]);
  });

  test.each(['/var/lib/etcd', '/var/lib/not/there'])(
    'tells how much room is on the disk of %s',
    async (path) => {
      const free = await files.free('h1', { image, path }, signal);
      expect(free).toBeGreaterThan(0);
      expect(free % 1024).toBe(0);
    },
  );
});

describe('folders are emptied', () => {
  const empty = (...paths: string[]) => files.empty('h1', { image, paths }, signal);

  test('and stay; those that are not there are not made', async () => {
    host.docker.write('/etc/kubernetes/ssl/kube-ca.pem', 'ca');
    host.docker.write('/etc/kubernetes/.tmp/x', 'x');
    host.docker.write('/var/lib/etcd/member/wal', 'data');
    host.docker.write('/etc/hosts', 'the host’s own');
    await empty('/etc/kubernetes/', '/etc/kubernetes/.tmp/', '/etc/cni/', '/var/lib/etcd/');
    expect(inFolder('/etc')).toEqual(['hosts', 'kubernetes']);
    expect(inFolder('/etc/kubernetes')).toEqual([]);
    expect(inFolder('/var/lib/etcd')).toEqual([]);
    expect(host.docker.effects.filter((each) => each.startsWith('create'))).toHaveLength(1);
  });

  test('and links in them are not followed', async () => {
    host.docker.write('/data/keep', 'kept');
    host.docker.write('/data/file', 'kept');
    mkdir('/var/lib/cni');
    symlinkSync(host.docker.path('/data'), host.docker.path('/var/lib/cni/folder'));
    symlinkSync(host.docker.path('/data/file'), host.docker.path('/var/lib/cni/file'));
    symlinkSync('nowhere', host.docker.path('/var/lib/cni/broken'));
    await empty('/var/lib/cni');
    expect(inFolder('/var/lib/cni')).toEqual([]);
    expect(inFolder('/data')).toEqual(['file', 'keep']);
  });

  test('also where one is a link itself', async () => {
    host.docker.write('/data/etcd/member/wal', 'data');
    host.docker.write('/var/lib/cni/x', 'x');
    symlinkSync(host.docker.path('/data/etcd'), host.docker.path('/var/lib/etcd'));
    await empty('/var/lib/etcd', '/var/lib/cni');
    expect(inFolder('/data/etcd')).toEqual([]);
    expect(inFolder('/var/lib/cni')).toEqual([]);
  });

  test.each(['/', '/etc', '/etc/', 'etc/kubernetes', '/etc/../x', '/etc//cni', '/var/lib', '/usr/lib', ''])(
    'but not %j',
    async (path) => {
      host.docker.write('/etc/hosts', 'the host’s own');
      await expect(empty('/etc/cni', path)).rejects.toMatchObject({ code: 'UNSUPPORTED', node: 'h1' });
      expect(host.docker.effects).toEqual([]);
    },
  );
});

describe('folders that were left go', () => {
  test('from the inside out, where nothing is in them; a link and what is not there are passed over', async () => {
    mkdir('/var/lib/rancher/rke');
    mkdir('/var/lib/kubelet/pods');
    host.docker.write('/opt/rke/etcd-snapshots/one.zip', 'snapshot');
    mkdir('/data/cni');
    mkdir('/etc');
    symlinkSync(host.docker.path('/data/cni'), host.docker.path('/etc/cni'));
    const paths = [
      ...['/var/lib/rancher/rke', '/var/lib/rancher', '/var/lib/kubelet', '/etc/cni', '/opt/cni'],
      ...['/opt/rke/etcd-snapshots', '/opt/rke'],
    ];
    await files.discard('h1', { image, paths }, signal);
    expect(inFolder('/var/lib')).toEqual(['kubelet']);
    expect(inFolder('/opt/rke')).toEqual(['etcd-snapshots']);
    expect(inFolder('/data')).toEqual(['cni']);
    expect(inFolder('/etc')).toEqual(['cni']);
  });

  test.each(['/etc', '/var/lib', '/usr'])('but %s never', async (path) => {
    mkdir('/var/lib');
    mkdir('/etc');
    mkdir('/usr');
    await files.discard('h1', { image, paths: [path, '/etc/cni'] }, signal);
    expect(inFolder('/')).toContain('usr');
    expect(inFolder('/var')).toEqual(['lib']);
  });

  test('what is mounted below one is unmounted on the host itself', async () => {
    host.docker.write('/var/lib/kubelet/pods/x', 'x');
    await files.unmount('h1', { image, paths: ['/var/lib/kubelet', '/var/run/calico'] }, signal);
    const helpers = host.docker.definitions.map((each) => (each as { HostConfig: object }).HostConfig);
    expect(helpers.at(-1)).toMatchObject({ Binds: ['/var/lib/kubelet:/host/0:rshared'], Privileged: true });
    expect(inFolder('/var')).not.toContain('calico');
  });
});

test('a security option that a host does not take is told in Docker’s words', async () => {
  const refuses = (securityOption: string) => files.refuses('h1', { image, securityOption }, signal);
  expect(await refuses('label=type:rke_container_t')).toBeUndefined();
  host.docker.refusedOptions.add('label=type:rke_container_t');
  expect(await refuses('label=type:rke_container_t')).toBe('invalid argument: label=type:rke_container_t');
});
