/** Containers of KMS plugins, through dockerode and SSH on an engine that is made up. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { KmsContainers, KmsDefinition } from '../../src/ports.ts';
import type { FakeContainer } from './fake-docker.ts';
import { FakeHost } from './fake-host.ts';

const socket = '/run/kms-a/kms.sock';
const definition: KmsDefinition = {
  image: 'registry.example/kms:1',
  command: [`--listen=${socket}`],
  env: ['TOKEN=geheim'],
  binds: ['/etc/kms:/etc/kms:ro'],
  socket,
  hash: 'one',
};
const next: KmsDefinition = { ...definition, image: 'registry.example/kms:2', hash: 'two' };

let host: FakeHost;
let containers: KmsContainers;
const { signal } = new AbortController();
beforeEach(async () => {
  host = new FakeHost();
  await host.listen();
  for (const { image } of [definition, next]) host.docker.images.set(image, `sha256:${image}`);
  containers = host.open().kmsContainers;
});
afterEach(() => host.close());

/** By name without what is the same in all, in Docker's order: image, whether it runs, restart policy. */
const there = () =>
  host.docker.containers.map(({ name, config, running, hostConfig }) =>
    [
      name.replace(/^tsrke-kms-kms-a-[0-9a-f]{8}/, 'it'),
      String(config['Image']).split(':')[1],
      running ? 'runs' : 'stopped',
      hostConfig.RestartPolicy.Name,
    ].join(' '),
  );
const listed = async () => {
  const [one, ...others] = await containers.list('h1', signal);
  expect(others).toEqual([]);
  return one;
};
const own = (): FakeContainer => {
  const [found] = host.docker.containers;
  if (found === undefined) throw new Error('there is none');
  return found;
};

describe('a first one', () => {
  test('is made with its labels, the socket’s folder and a policy that brings it back, and runs', async () => {
    await containers.create('h1', definition, signal);
    expect(there()).toEqual(['it 1 runs always']);
    expect(host.docker.definitions).toEqual([
      {
        Image: definition.image,
        Cmd: definition.command,
        Env: definition.env,
        Labels: { 'tsrke.io/kms-socket': socket, 'tsrke.io/kms-definition': 'one' },
        HostConfig: {
          Binds: ['/etc/kms:/etc/kms:ro', '/run/kms-a:/run/kms-a'],
          NetworkMode: 'host',
          RestartPolicy: { Name: 'always', MaximumRetryCount: 0 },
        },
      },
    ]);
    expect(await listed()).toEqual({
      ...{ name: own().name, socket, hash: 'one', running: true, startedAt: '2026-01-01T00:00:00.1Z' },
      ...{ hasFormer: false, interrupted: false },
    });
  });

  test('keeps the image’s own command, and a bind that mounts the socket’s folder already', async () => {
    await containers.create(
      'h1',
      { ...definition, command: [], binds: ['/run/kms-a:/run/kms-a/:z'] },
      signal,
    );
    expect(host.docker.definitions).toMatchObject([{ HostConfig: { Binds: ['/run/kms-a:/run/kms-a/:z'] } }]);
    expect(host.docker.definitions[0]).not.toHaveProperty('Cmd');
  });

  test('that was cut off before its start is started', async () => {
    host.docker.powerFailsAfter = 1;
    await expect(containers.create('h1', definition, signal)).rejects.toMatchObject({
      code: 'NODE_UNREACHABLE',
    });
    host.docker.reboot();
    expect(there()).toEqual(['it 1 stopped always']);
    await containers.create('h1', definition, signal);
    expect(there()).toEqual(['it 1 runs always']);
  });

  test('is not made where somebody else’s has its name, which is left alone', async () => {
    await containers.create('h1', definition, signal);
    const [labels, effects] = [own().config['Labels'] as Record<string, string>, host.docker.effects.length];
    delete labels['tsrke.io/kms-socket'];
    await expect(containers.create('h1', definition, signal)).rejects.toMatchObject({
      code: 'DOCKER',
      node: 'h1',
      message: `a container named ${own().name} that tsrke has not made is in the way`,
    });
    expect(host.docker.effects).toHaveLength(effects);
    expect(await containers.list('h1', signal)).toEqual([]);
  });

  test('that ends at once is one that Docker starts again and again', async () => {
    host.docker.shortLived.add(definition.image);
    await containers.create('h1', definition, signal);
    const starts = [await listed(), await listed()].map((each) => [each?.running, each?.startedAt]);
    expect(starts[0]?.[0]).toBe(true);
    expect(starts[0]).not.toEqual(starts[1]);
    own().log = 'no key\nbye';
    expect(await containers.logs('h1', socket, 1, signal)).toEqual(['bye']);
  });
});

describe('one that is there', () => {
  beforeEach(() => containers.create('h1', definition, signal));

  test.each([
    [
      'is stopped',
      (one: FakeContainer): unknown => (one.running = false),
      { running: false, interrupted: false },
    ],
    [
      'is paused',
      (one: FakeContainer): unknown => (one.paused = true),
      { running: false, interrupted: false },
    ],
    [
      'has lost its restart policy',
      (one: FakeContainer): unknown => (one.hostConfig.RestartPolicy = { Name: '', MaximumRetryCount: 0 }),
      { running: true, interrupted: true },
    ],
  ] as const)('and %s is told so, and put in order', async (_, happen, seen) => {
    happen(own());
    expect(await listed()).toMatchObject(seen);
    await containers.finish('h1', socket, signal);
    expect(there()).toEqual(['it 1 runs always']);
    expect(await listed()).toMatchObject({ running: true, interrupted: false });
  });

  test('is told apart from that of another socket, and from containers of others', async () => {
    await containers.create('h1', { ...definition, socket: '/run/kms-b/kms.sock', hash: 'b' }, signal);
    host.docker.create('else', { Image: definition.image, HostConfig: { RestartPolicy: { Name: 'no' } } });
    const all = await containers.list('h1', signal);
    expect(all.map((each) => [each.socket, each.hash])).toEqual([
      [socket, 'one'],
      ['/run/kms-b/kms.sock', 'b'],
    ]);
  });

  test('is stopped while another is tried out beside it, which neither counts nor comes back', async () => {
    const aside = await containers.tryOut('h1', next, signal);
    expect(aside).toBe('/run/kms-a.tsrke-try/kms.sock');
    expect(there()).toEqual(['it 1 stopped always', 'it-try 2 runs no']);
    expect(host.docker.definitions[1]).not.toHaveProperty('Labels');
    expect(host.docker.definitions[1]).toMatchObject({
      HostConfig: { Binds: ['/etc/kms:/etc/kms:ro', '/run/kms-a.tsrke-try:/run/kms-a'] },
    });
    expect(await containers.isTried('h1', socket, signal)).toBe(true);
    expect(await listed()).toMatchObject({ hash: 'one', interrupted: true });
    await containers.endTrial('h1', socket, signal);
    expect(there()).toEqual(['it 1 stopped always']);
    expect(await containers.isTried('h1', socket, signal)).toBe(false);
    // Cut off, a trial is ended by the next run.
    await containers.tryOut('h1', next, signal);
    await containers.finish('h1', socket, signal);
    expect(there()).toEqual(['it 1 runs always']);
  });

  test('gives way to a bind of its own for the folder in a trial, too', async () => {
    await containers.tryOut('h1', { ...next, binds: ['/run/kms-a:/run/kms-a/'] }, signal);
    expect(host.docker.definitions[1]).toMatchObject({
      HostConfig: { Binds: ['/run/kms-a.tsrke-try:/run/kms-a'] },
    });
  });

  test('and a trial that ends at once shows it, with its own last words', async () => {
    host.docker.shortLived.add(next.image);
    await containers.tryOut('h1', next, signal);
    expect(await containers.isTried('h1', socket, signal)).toBe(false);
    own().log = 'all is well';
    const tried = host.docker.containers[1];
    if (tried !== undefined) tried.log = 'no key';
    expect(await containers.logs('h1', socket, 5, signal)).toEqual(['no key']);
    await containers.endTrial('h1', socket, signal);
    expect(await containers.logs('h1', socket, 5, signal)).toEqual(['all is well']);
  });

  test.each([
    ['kept', 'keep', ['it 2 runs always'], 'two'],
    ['put back', 'back', ['it 1 runs always'], 'one'],
  ] as const)('is kept aside for another one, which is then %s', async (_, which, left, hash) => {
    await containers.exchange('h1', next, signal);
    expect(there()).toEqual(['it-old 1 stopped no', 'it 2 runs always']);
    expect(await listed()).toMatchObject({ hash: 'two', running: true, hasFormer: true, interrupted: true });
    await containers.settle('h1', socket, which, signal);
    expect(there()).toEqual(left);
    expect(await listed()).toMatchObject({ hash, hasFormer: false, interrupted: false });
  });

  test('cannot be put back where nothing is aside', async () => {
    await expect(containers.settle('h1', socket, 'back', signal)).rejects.toMatchObject({
      code: 'DOCKER',
      message: `there is no ${own().name}-old to go back to`,
    });
    expect(there()).toEqual(['it 1 runs always']);
  });

  test('is left alone where a new one has just appeared', async () => {
    const name = own().name;
    host.docker.create(`${name}-new`, {
      Image: next.image,
      HostConfig: { RestartPolicy: { Name: 'always' } },
    });
    await expect(containers.exchange('h1', next, signal)).rejects.toMatchObject({
      code: 'DOCKER',
      message: `a container named ${name}-new has just appeared`,
    });
    expect(there()).toEqual(['it 1 runs always', 'it-new 2 stopped always']);
  });

  test('and all that was ever beside it is removed, as often as one likes', async () => {
    await containers.exchange('h1', next, signal);
    await containers.tryOut('h1', definition, signal);
    expect(host.docker.containers).toHaveLength(3);
    await containers.remove('h1', socket, signal);
    await containers.remove('h1', socket, signal);
    expect(there()).toEqual([]);
    // The one that says whose they are goes last.
    expect(host.docker.effects.at(-1)).toMatch(/^remove tsrke-kms-kms-a-[0-9a-f]{8}$/);
    expect(await containers.logs('h1', socket, 5, signal)).toEqual([]);
  });

  test('is one that runs after the power has failed anywhere in an exchange', async () => {
    const begin = host.docker.effects.length;
    await containers.exchange('h1', next, signal);
    const effects = host.docker.effects.length - begin;
    expect(effects).toBeGreaterThan(4);
    await containers.settle('h1', socket, 'back', signal);
    for (let after = 1; after <= effects; after += 1) {
      host.docker.effects.length = 0;
      host.docker.powerFailsAfter = after;
      await containers.exchange('h1', next, signal).catch(() => undefined);
      host.docker.reboot();
      expect(host.docker.containers.filter(({ running }) => running).length, `${after}`).toBeLessThan(2);
      // As every run goes about it: the new one was not proved, so the former one comes back.
      if ((await listed())?.hasFormer !== true) await containers.finish('h1', socket, signal);
      if ((await listed())?.hasFormer === true) await containers.settle('h1', socket, 'back', signal);
      expect(there(), `${after}`).toEqual(['it 1 runs always']);
    }
  });
});

test('with none there, there is nothing to finish, and it says so', async () => {
  const gone = {
    code: 'DOCKER',
    message: expect.stringMatching(/^there is no container tsrke-kms-kms-a-/) as string,
  };
  await expect(containers.finish('h1', socket, signal)).rejects.toMatchObject(gone);
  expect(await containers.list('h1', signal)).toEqual([]);
});

describe('an image', () => {
  const pulled = 'registry.example/kms:3';
  const need = (raw: Record<string, unknown> = {}) =>
    host.open({ raw }).kmsContainers.needImage('h1', pulled, signal);
  const login = {
    private_registries: [{ url: 'registry.example', user: 'puller', password: 'geheim???>>>' }],
  };

  test('that is there is not pulled', async () => {
    await containers.needImage('h1', definition.image, signal);
    expect(host.docker.effects).toEqual([]);
  });

  test.each([
    ['without credentials', {}, undefined],
    ['with those of its registry', login, { username: 'puller', password: 'geheim???>>>' }],
  ])('that is not there is pulled %s', async (_, raw, credentials) => {
    let header: string | undefined;
    host.docker.registry = (_image, auth) => {
      header = auth;
      return { id: 'sha256:3' };
    };
    await need(raw);
    expect(host.docker.effects).toEqual([`pull ${pulled}`]);
    // As Docker's Go code insists: for URLs, with padding.
    if (header !== undefined) expect(header).toMatch(/^(?:[\w-]{4})*(?:[\w-]{4}|[\w-]{3}=|[\w-]{2}==)$/);
    const given =
      header === undefined ? undefined : (JSON.parse(Buffer.from(header, 'base64url').toString()) as object);
    expect(given).toEqual(credentials);
    expect(host.report.debugs.join()).not.toContain('geheim');
  });

  test.each([
    [
      'the registry does not have',
      {},
      { error: 'manifest unknown' },
      'without credentials: manifest unknown',
    ],
    [
      'the registry does not give',
      login,
      { refusal: 'unauthorized: puller:geheim???>>>' },
      'with its credentials of private_registries: unauthorized: puller:[redacted]',
    ],
  ])('that %s is no failure of the node, and says what was asked', async (_, raw, answer, how) => {
    host.docker.registry = () => answer;
    await expect(need(raw)).rejects.toMatchObject({
      code: 'DOCKER',
      node: 'h1',
      message: `the image ${pulled} is not there and could not be pulled from registry.example ${how}`,
    });
  });

  test('whose pull is cut off is a lost connection', async () => {
    host.docker.powerFailsAfter = 1;
    host.docker.registry = () => ({ id: 'sha256:3' });
    await expect(need()).rejects.toMatchObject({ code: 'NODE_UNREACHABLE', node: 'h1' });
  });
});
