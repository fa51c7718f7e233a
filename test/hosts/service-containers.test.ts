/** RKE's containers, through dockerode and SSH on an engine that is made up. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ServiceContainers } from '../../src/ports.ts';
import { definitionOf, type Container, type ServiceName } from '../../src/services/container.ts';
import { driftOf } from '../../src/services/drift.ts';
import type { FakeContainer } from './fake-docker.ts';
import { FakeHost } from './fake-host.ts';

const [hyperkube, tools] = ['rancher/hyperkube:v1.30.5-rancher1', 'rancher/rke-tools:v0.1.103'];

function wanted(name: ServiceName, more: Partial<Container> = {}): Container {
  return {
    ...{ name, plane: 'worker', image: hyperkube, env: [], binds: [], volumesFrom: ['service-sidekick'] },
    entrypoint: ['/opt/rke-tools/entrypoint.sh', name, '--v=2'],
    ...{ network: 'host', hostPid: false, privileged: false, securityOptions: [] },
    labels: { 'io.rancher.rke.container.name': name },
    restart: 'always',
    ...more,
  };
}

const kubelet = wanted('kubelet', { binds: ['/etc/kubernetes:/etc/kubernetes'], env: ['A=1'] });
const next = { ...kubelet, entrypoint: ['/opt/rke-tools/entrypoint.sh', 'kubelet', '--v=4'] };
const sidekick = wanted('service-sidekick', {
  ...{ image: tools, entrypoint: ['/bin/bash'], volumesFrom: [], network: 'none', restart: undefined },
});

let host: FakeHost;
let services: ServiceContainers;
const { signal } = new AbortController();
beforeEach(async () => {
  host = new FakeHost();
  await host.listen();
  for (const image of [hyperkube, tools]) host.docker.images.set(image, `sha256:${image}`);
  host.docker.imageConfigs.set(`sha256:${hyperkube}`, { Env: ['PATH=/bin'] });
  host.docker.imageConfigs.set(`sha256:${tools}`, { Volumes: { '/opt/rke-tools': {} } });
  services = host.open().services;
});
afterEach(() => host.close());

/** By name, in Docker's order: the last argument, whether it runs, restart policy. */
const there = () =>
  host.docker.containers.map(({ name, config, running, hostConfig }) =>
    [
      name,
      (config['Entrypoint'] as string[]).at(-1),
      running ? 'runs' : 'stopped',
      (hostConfig.RestartPolicy as { Name: string } | undefined)?.Name ?? 'no',
    ].join(' '),
  );
const seen = async (name: ServiceName) => (await services.list('h1', signal)).get(name);
const own = (name: string): FakeContainer => {
  const found = host.docker.find(name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
};
const deploy = async (...containers: readonly Container[]) => {
  for (const each of containers) await services.create('h1', each, signal);
  host.docker.effects.length = 0;
};

test('a host is told as Docker tells it', async () => {
  host.docker.info = { ServerVersion: '20.10.24', SystemTime: '2026-01-01T00:00:00Z', OSType: 'linux' };
  expect(await services.info('h1', signal)).toEqual(host.docker.info);
});

describe('a container is made', () => {
  test('as it is wanted, and runs', async () => {
    await services.create('h1', kubelet, signal);
    expect(host.docker.definitions).toEqual([
      JSON.parse(JSON.stringify(definitionOf(kubelet))) as Record<string, unknown>,
    ]);
    expect(there()).toEqual(['kubelet --v=2 runs always']);
  });

  test('and not started where it has no restart policy', async () => {
    await services.create('h1', sidekick, signal);
    expect(host.docker.effects).toEqual(['create service-sidekick']);
    expect(await seen('service-sidekick')).toMatchObject({ interrupted: false });
  });

  test('but not where one is', async () => {
    await deploy(kubelet);
    await expect(services.create('h1', next, signal)).rejects.toMatchObject({
      ...{ code: 'DOCKER', node: 'h1', message: 'there is a container kubelet already' },
    });
    expect(there()).toEqual(['kubelet --v=2 runs always']);
  });

  test('and started by the next run where the first was cut off before that', async () => {
    host.docker.powerFailsAfter = 1;
    await expect(services.create('h1', kubelet, signal)).rejects.toMatchObject({ code: 'NODE_UNREACHABLE' });
    host.docker.reboot();
    expect(driftOf([kubelet], await services.list('h1', signal))).toEqual([
      { kind: 'stopped', name: 'kubelet' },
    ]);
    await services.finish('h1', 'kubelet', signal);
    expect(there()).toEqual(['kubelet --v=2 runs always']);
  });
});

describe('containers are listed', () => {
  test('none of anybody else', async () => {
    host.docker.create('else', { Image: tools, HostConfig: { RestartPolicy: { Name: 'no' } } });
    expect(await services.list('h1', signal)).toEqual(new Map());
  });

  test('so that there is nothing to change where all are as wanted', async () => {
    const all = [sidekick, kubelet, wanted('kube-proxy')];
    await deploy(...all);
    const list = await services.list('h1', signal);
    expect([...list.keys()]).toEqual(['service-sidekick', 'kubelet', 'kube-proxy']);
    expect(list.get('kubelet')).toMatchObject({ imageEnv: ['PATH=/bin'], interrupted: false });
    expect(driftOf(all, list)).toEqual([]);
  });

  test('each image being asked about once', async () => {
    await deploy(kubelet, wanted('kube-proxy'), wanted('kube-scheduler'));
    await services.list('h1', signal);
    await services.list('h1', signal);
    expect(host.report.debugs.filter((each) => each.includes('docker GET /images/'))).toHaveLength(1);
  });

  test.each([
    ['stopped', (one: FakeContainer): unknown => (one.running = false)],
    ['paused', (one: FakeContainer): unknown => (one.paused = true)],
  ])('a %s one as one that does not run, which `finish` puts in order', async (_, happen) => {
    await deploy(kubelet);
    happen(own('kubelet'));
    const [drift] = driftOf([kubelet], await services.list('h1', signal));
    expect(drift).toEqual({ kind: 'stopped', name: 'kubelet' });
    await services.finish('h1', 'kubelet', signal);
    expect(driftOf([kubelet], await services.list('h1', signal))).toEqual([]);
  });

  test('one whose image is gone as one that differs', async () => {
    await deploy(kubelet);
    host.docker.images.clear();
    expect(driftOf([kubelet], await host.open().services.list('h1', signal))).toMatchObject([
      { kind: 'differs', differences: [{ kind: 'environment', name: 'PATH' }] },
    ]);
  });

  test.each(['tsrke-new-kubelet', 'old-kubelet'])('%s where only that is left', async (name) => {
    await deploy(kubelet);
    Object.assign(own('kubelet'), { name, running: false });
    own(name).hostConfig.RestartPolicy = { Name: 'no', MaximumRetryCount: 0 };
    expect(await seen('kubelet')).toMatchObject({
      interrupted: true,
      inspect: { State: { Running: false } },
    });
    await services.finish('h1', 'kubelet', signal);
    expect(there()).toEqual(['kubelet --v=2 runs always']);
  });
});

describe('one is exchanged for another', () => {
  test.each([
    ['kept', 'keep', 'kubelet --v=4 runs always'],
    ['not kept', 'back', 'kubelet --v=2 runs always'],
  ] as const)('which is %s', async (_, which, left) => {
    await deploy(kubelet);
    await services.exchange('h1', next, signal);
    expect(there()).toEqual(['old-kubelet --v=2 stopped no', 'kubelet --v=4 runs always']);
    expect(await seen('kubelet')).toMatchObject({ interrupted: true });
    await services.settle('h1', 'kubelet', which, signal);
    expect(there()).toEqual([left]);
    expect(await seen('kubelet')).toMatchObject({ interrupted: false });
  });

  test('of kube-apiserver by the names that a recreation of it has', async () => {
    const apiserver = wanted('kube-apiserver');
    await deploy(apiserver);
    const { runtime } = host.open();
    await services.exchange('h1', { ...apiserver, env: ['A=1'] }, signal);
    expect(await runtime.apiserver('h1', signal)).toMatchObject({ running: true, interrupted: true });
    await runtime.settleApiserver('h1', 'back', signal);
    expect(there()).toEqual(['kube-apiserver --v=2 runs always']);
    // And the other way round.
    await runtime.recreateApiserver('h1', { args: ['--v=4'] }, signal);
    await services.finish('h1', 'kube-apiserver', signal);
    expect(there()).toEqual(['kube-apiserver --v=4 runs always']);
  });

  test('after one that was cut off is finished', async () => {
    await deploy(kubelet);
    host.docker.create('tsrke-new-kubelet', { ...definitionOf(next), Entrypoint: ['--v=3'] });
    await services.exchange('h1', next, signal);
    expect(there()).toEqual(['old-kubelet --v=2 stopped no', 'kubelet --v=4 runs always']);
  });

  test('not where there is none', async () => {
    await expect(services.exchange('h1', next, signal)).rejects.toMatchObject({
      ...{ code: 'DOCKER', message: 'there is no container kubelet any more' },
    });
  });

  test('and one of the two runs after the power has failed anywhere', async () => {
    await deploy(kubelet);
    await services.exchange('h1', next, signal);
    const effects = host.docker.effects.length;
    expect(effects).toBe(6);
    for (let after = 1; after <= effects; after++) {
      await services.remove('h1', 'kubelet', signal);
      await deploy(kubelet);
      host.docker.powerFailsAfter = after;
      await services.exchange('h1', next, signal).catch(() => undefined);
      host.docker.reboot();
      expect(await seen('kubelet'), `${after}`).toMatchObject({ interrupted: true });
      await services.finish('h1', 'kubelet', signal);
      expect(there(), `${after}`).toEqual([`kubelet --v=${after === 1 ? 2 : 4} runs always`]);
    }
    expect(host.docker.foughtForPort).toBe(false);
  });

  test('service-sidekick at once, and its volume stays for those who use it', async () => {
    await deploy(sidekick, kubelet);
    const [volume] = host.docker.volumes;
    await services.exchange('h1', { ...sidekick, env: ['NEW=1'] }, signal);
    expect(host.docker.effects).toEqual(['remove service-sidekick', 'create service-sidekick']);
    expect(host.docker.volumes).toContain(volume);
    expect(own('service-sidekick')).toMatchObject({ running: false, config: { Env: ['NEW=1'] } });
    // There is nothing to settle or to finish.
    for (const which of ['keep', 'back'] as const) {
      await services.settle('h1', 'service-sidekick', which, signal);
    }
    await services.finish('h1', 'service-sidekick', signal);
    await services.restart('h1', 'service-sidekick', signal);
    expect(host.docker.effects).toHaveLength(2);
    // Its last user takes the old one along.
    await services.remove('h1', 'kubelet', signal);
    expect(host.docker.volumes.has(volume ?? '')).toBe(false);
    expect(host.docker.volumes.size).toBe(1);
  });

  test.each([
    ['renamed and not made anew', []],
    ['made anew and the old one not removed', [sidekick]],
  ])('service-sidekick, which RKE has %s', async (_, made) => {
    await deploy(sidekick);
    own('service-sidekick').name = 'old-service-sidekick';
    await deploy(...made);
    expect(await seen('service-sidekick')).toMatchObject({ interrupted: true });
    await services.finish('h1', 'service-sidekick', signal);
    expect(host.docker.containers.map(({ name }) => name)).toEqual(['service-sidekick']);
    expect(own('service-sidekick').started).toBe(0);
  });
});

describe('one is restarted', () => {
  test.each([
    ['that runs', () => undefined, ['restart kubelet']],
    ['that is stopped', () => void (own('kubelet').running = false), ['start kubelet']],
    ['that is paused', () => void (own('kubelet').paused = true), ['unpause kubelet', 'restart kubelet']],
  ])('%s', async (_, happen, effects) => {
    await deploy(kubelet);
    happen();
    await services.restart('h1', 'kubelet', signal);
    expect(host.docker.effects).toEqual(effects);
  });

  test('but not one that is not there', async () => {
    await expect(services.restart('h1', 'kubelet', signal)).rejects.toMatchObject({ code: 'DOCKER' });
  });
});

test('all there is of one is removed, and nothing else, as often as one likes', async () => {
  await deploy(kubelet, wanted('kube-proxy'));
  await services.exchange('h1', next, signal);
  host.docker.create('tsrke-new-kubelet', definitionOf(next));
  await services.remove('h1', 'kubelet', signal);
  await services.remove('h1', 'kubelet', signal);
  expect(there()).toEqual(['kube-proxy --v=2 runs always']);
});

test('the last lines of its log, of none where it is not there', async () => {
  expect(await services.logs('h1', 'kubelet', 2, signal)).toEqual([]);
  await deploy(kubelet);
  own('kubelet').log = 'one\ntwo\nthree';
  expect(await services.logs('h1', 'kubelet', 2, signal)).toEqual(['two', 'three']);
});

describe('an image', () => {
  const pull = (...answers: ({ id: string } | { error: string } | { refusal: string })[]) => {
    let asked = 0;
    host.docker.registry = () => answers[asked++] ?? { error: 'asked too often' };
    return { asked: () => asked };
  };
  const need = (image = 'registry.example/rke-tools:1') => services.needImage('h1', image, signal);

  test('that is there is not pulled', async () => {
    await need(tools);
    expect(host.docker.effects).toEqual([]);
  });

  test('is pulled again where the registry has stumbled', async () => {
    const { asked } = pull({ error: 'unexpected EOF' }, { refusal: 'i/o timeout' }, { id: 'sha256:1' });
    await need();
    expect(asked()).toBe(3);
    expect(host.docker.images.get('registry.example/rke-tools:1')).toBe('sha256:1');
  });

  test.each([
    ['after three tries', 3, 'unexpected EOF'],
    ['at once where the registry does not have it', 1, 'manifest unknown'],
    ['at once where the registry does not let us in', 1, 'unauthorized: incorrect username or password'],
  ])('is given up %s', async (_, tries, error) => {
    const { asked } = pull({ error }, { error }, { error });
    await expect(need()).rejects.toMatchObject({
      code: 'DOCKER',
      message: expect.stringContaining(error) as string,
    });
    expect(asked()).toBe(tries);
  });
});
