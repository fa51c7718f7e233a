import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FakeHost } from './fake-host.ts';

interface Inspect {
  Name: string;
  Image: string;
  Config: Record<string, unknown> & { Entrypoint: string[]; Image: string };
  HostConfig: Record<string, unknown> & { RestartPolicy: { Name: string; MaximumRetryCount: number } };
}
/** What RKE 1.6.3 made on a real host. */
const rke = (
  JSON.parse(
    readFileSync(new URL('../fixtures/rke-1.6.3/docker-inspect-h1.json', import.meta.url), 'utf8'),
  ) as Inspect[]
).find(({ Name }) => Name === '/kube-apiserver') as Inspect;
const rkeArgs = rke.Config.Entrypoint.slice(2);
const newArgs = [...rkeArgs.filter((arg) => !arg.includes('encryption')), '--added=1'];

let host: FakeHost;
const { signal } = new AbortController();
beforeEach(async () => {
  host = new FakeHost();
  await host.listen();
});
afterEach(() => host.close());

/** The apiserver as RKE makes it, running since the host was set up. */
function deploy(name = 'kube-apiserver', policy = 'always', args = rkeArgs) {
  host.docker.images.set(rke.Config.Image, rke.Image);
  const container = host.docker.create(
    name,
    structuredClone({
      ...rke.Config,
      Entrypoint: [...rke.Config.Entrypoint.slice(0, 2), ...args],
      HostConfig: { ...rke.HostConfig, RestartPolicy: { Name: policy, MaximumRetryCount: 0 } },
    }),
  );
  return container;
}

function running(name?: string, policy?: string, args?: string[]) {
  const container = deploy(name, policy, args);
  host.docker.start(container);
  return container;
}

const names = () => host.docker.containers.map(({ name }) => name).sort();

describe('the apiserver is described', () => {
  test('as RKE has made it', async () => {
    running();
    expect(await host.open().runtime.apiserver('h1', signal)).toEqual({
      running: true,
      startedAt: '2026-01-01T00:00:00.1Z',
      args: rkeArgs,
      image: rke.Config.Image,
      hostname: 'h1',
      binds: ['/etc/kubernetes:/etc/kubernetes', '/var/log/kube-audit:/var/log/kube-audit'],
      interrupted: false,
    });
  });

  test('with its arguments in Cmd, the component by its path', async () => {
    const container = running();
    container.config['Entrypoint'] = null;
    container.config['Cmd'] = ['/usr/local/bin/kube-apiserver', '--a=1', '--b=kube-apiserver'];
    expect(await host.open().runtime.apiserver('h1', signal)).toMatchObject({
      args: ['--a=1', '--b=kube-apiserver'],
    });
  });

  test('by the name of the host where it shares the host name with it', async () => {
    running().hostConfig['UTSMode'] = 'host';
    expect(await host.open().runtime.apiserver('h1', signal)).toMatchObject({ hostname: 'host-1' });
  });

  test('as absent where none was ever deployed', async () => {
    const { runtime } = host.open();
    expect(await runtime.apiserver('h1', signal)).toBeUndefined();
    await expect(runtime.restartApiserver('h1', signal)).rejects.toMatchObject({ code: 'APISERVER_MISSING' });
    await expect(runtime.finishRecreation('h1', signal)).rejects.toMatchObject({ code: 'APISERVER_MISSING' });
    await expect(runtime.logs('h1', 5, signal)).rejects.toMatchObject({ code: 'APISERVER_MISSING' });
  });

  test.each(['old-kube-apiserver', 'tsrke-new-kube-apiserver'])(
    'as %s when only that is left',
    async (name) => {
      deploy(name, 'no');
      expect(await host.open().runtime.apiserver('h1', signal)).toMatchObject({
        running: false,
        interrupted: true,
        args: rkeArgs,
      });
    },
  );

  test('as interrupted without its restart policy', async () => {
    running('kube-apiserver', 'no');
    expect(await host.open().runtime.apiserver('h1', signal)).toMatchObject({
      running: true,
      interrupted: true,
    });
  });
});

describe('a restart', () => {
  test('of a running container', async () => {
    running();
    await host.open().runtime.restartApiserver('h1', signal);
    expect(host.docker.effects).toEqual(['restart kube-apiserver']);
  });

  test('of a stopped one is a start', async () => {
    deploy();
    await host.open().runtime.restartApiserver('h1', signal);
    expect(host.docker.effects).toEqual(['start kube-apiserver']);
  });

  test('of a paused one lets it go on first', async () => {
    running().paused = true;
    await host.open().runtime.restartApiserver('h1', signal);
    expect(host.docker.effects).toEqual(['unpause kube-apiserver', 'restart kube-apiserver']);
  });
});

describe('a recreation', () => {
  test('changes the arguments and nothing else', async () => {
    running();
    await host.open().runtime.recreateApiserver('h1', { args: newArgs }, signal);
    const made = host.docker.find('kube-apiserver');
    expect(made?.config).toEqual({
      ...rke.Config,
      Entrypoint: [...rke.Config.Entrypoint.slice(0, 2), ...newArgs],
    });
    expect(made?.hostConfig).toEqual(rke.HostConfig);
    expect(made?.running).toBe(true);
  });

  test('keeps the old one aside, stopped and without a policy, until it is settled', async () => {
    running();
    const { runtime } = host.open();
    await runtime.recreateApiserver('h1', { args: newArgs }, signal);
    expect(host.docker.find('old-kube-apiserver')).toMatchObject({
      running: false,
      hostConfig: { RestartPolicy: { Name: 'no' } },
    });
    await runtime.settleApiserver('h1', 'keep', signal);
    expect(names()).toEqual(['kube-apiserver']);
    expect(await runtime.apiserver('h1', signal)).toMatchObject({
      running: true,
      args: newArgs,
      interrupted: false,
    });
  });

  test('that goes back leaves what was there before, with its policy', async () => {
    const before = running('kube-apiserver', 'unless-stopped');
    const { runtime } = host.open();
    await runtime.recreateApiserver('h1', { args: newArgs }, signal);
    await runtime.settleApiserver('h1', 'back', signal);
    expect(host.docker.containers).toEqual([before]);
    expect(before).toMatchObject({
      name: 'kube-apiserver',
      running: true,
      hostConfig: { RestartPolicy: { Name: 'unless-stopped', MaximumRetryCount: 0 } },
    });
  });

  test('cannot go back twice', async () => {
    running();
    await expect(host.open().runtime.settleApiserver('h1', 'back', signal)).rejects.toMatchObject({
      code: 'DOCKER',
    });
  });

  test('never has two running, and takes its steps in the safe order', async () => {
    running();
    await host.open().runtime.recreateApiserver('h1', { args: newArgs }, signal);
    expect(host.docker.effects).toEqual([
      'create tsrke-new-kube-apiserver',
      'policy no of kube-apiserver',
      'stop kube-apiserver',
      'rename kube-apiserver',
      'rename tsrke-new-kube-apiserver',
      'start kube-apiserver',
    ]);
    expect(host.docker.foughtForPort).toBe(false);
  });

  test('leaves arguments in Cmd where they were', async () => {
    const container = running();
    container.config['Entrypoint'] = ['/opt/rke-tools/entrypoint.sh', 'kube-apiserver'];
    container.config['Cmd'] = ['--a=1'];
    await host.open().runtime.recreateApiserver('h1', { args: ['--b=2'] }, signal);
    expect(host.docker.find('kube-apiserver')?.config).toMatchObject({
      Entrypoint: ['/opt/rke-tools/entrypoint.sh', 'kube-apiserver'],
      Cmd: ['--b=2'],
    });
  });

  test.each(['moved', 'gone'])('keeps the image by its id where its tag is %s, and says so', async (what) => {
    running();
    host.docker.images.set('another', rke.Image);
    if (what === 'gone') host.docker.images.delete(rke.Config.Image);
    else host.docker.images.set(rke.Config.Image, 'sha256:another');
    await host.open().runtime.recreateApiserver('h1', { args: newArgs }, signal);
    expect(host.docker.find('kube-apiserver')).toMatchObject({
      image: rke.Image,
      config: { Image: rke.Image },
    });
    expect(host.report.notes.at(-1)).toContain('by id');
  });

  test('that Docker refuses has touched nothing', async () => {
    const before = running();
    host.docker.images.clear();
    await expect(
      host.open().runtime.recreateApiserver('h1', { args: newArgs }, signal),
    ).rejects.toMatchObject({
      code: 'DOCKER',
      node: 'h1',
    });
    expect(host.docker.containers).toEqual([before]);
    expect(before.running).toBe(true);
  });

  test('finishes one that was cut off before it begins', async () => {
    running();
    deploy('tsrke-new-kube-apiserver', 'always', ['--stale']);
    await host.open().runtime.recreateApiserver('h1', { args: newArgs }, signal);
    expect(await host.open().runtime.apiserver('h1', signal)).toMatchObject({ args: newArgs });
    expect(names()).toEqual(['kube-apiserver', 'old-kube-apiserver']);
  });
});

/** Runs the work with a power cut after each number of effects, until one run is left whole. */
async function cutOffAfterEach(
  work: (signal: AbortSignal) => Promise<void>,
  then: (cut: number) => Promise<void>,
): Promise<number> {
  for (let cut = 0; ; cut++) {
    host.docker.containers.length = 0;
    host.docker.effects.length = 0;
    host.docker.foughtForPort = false;
    host.docker.powerFailsAfter = Infinity;
    running();
    host.docker.powerFailsAfter = cut;
    const failure = await work(signal).then(
      () => undefined,
      (error: unknown) => error,
    );
    const done = host.docker.effects.length;
    host.docker.powerFailsAfter = Infinity;
    host.docker.effects.length = 0;
    if (failure === undefined && done < cut) return cut;
    await then(cut);
  }
}

function expectOneGoodApiserver(cut: number, possible: readonly (readonly string[])[]) {
  const [only] = host.docker.containers;
  expect(names(), `cut off after ${cut} effects`).toEqual(['kube-apiserver']);
  expect(only, `cut off after ${cut} effects`).toMatchObject({
    running: true,
    hostConfig: { RestartPolicy: { Name: 'always', MaximumRetryCount: 0 } },
  });
  expect(possible).toContainEqual((only?.config['Entrypoint'] as string[]).slice(2));
  expect(host.docker.foughtForPort).toBe(false);
}

describe('cut off after each of its effects', () => {
  test.each([false, true])('a recreation is finished by the next run (host rebooted: %s)', async (reboot) => {
    const hosts = host.open();
    const cuts = await cutOffAfterEach(
      (abort) => hosts.runtime.recreateApiserver('h1', { args: newArgs }, abort),
      async (cut) => {
        if (reboot) host.docker.reboot();
        const seen = await hosts.runtime.apiserver('h1', signal);
        expect(seen?.interrupted, `after ${cut}`).toBe(cut > 0);
        // Nothing but the first two effects leaves the old one: then the new one has taken over.
        expect(seen?.args).toEqual(cut < 4 ? rkeArgs : newArgs);
        await hosts.runtime.finishRecreation('h1', signal);
        expectOneGoodApiserver(cut, [cut < 2 ? rkeArgs : newArgs]);
        expect(await hosts.runtime.apiserver('h1', signal)).toMatchObject({ interrupted: false });
      },
    );
    expect(cuts).toBe(7);
  });

  test.each(['keep', 'back'] as const)('settling (%s) is finished by the next run', async (which) => {
    const hosts = host.open();
    await cutOffAfterEach(
      async (abort) => {
        const cut = host.docker.powerFailsAfter;
        host.docker.powerFailsAfter = Infinity;
        await hosts.runtime.recreateApiserver('h1', { args: newArgs }, abort);
        host.docker.effects.length = 0;
        host.docker.powerFailsAfter = cut;
        await hosts.runtime.settleApiserver('h1', which, abort);
      },
      async (cut) => {
        host.docker.reboot();
        await hosts.runtime.finishRecreation('h1', signal);
        // Going back is under way once the new one has lost its policy, the second effect.
        expectOneGoodApiserver(cut, [which === 'back' && cut >= 2 ? rkeArgs : newArgs]);
      },
    );
  });

  test('finishing a recreation is itself finished by the next run', async () => {
    const hosts = host.open();
    for (let first = 0; first < 7; first++) {
      await cutOffAfterEach(
        async (abort) => {
          const cut = host.docker.powerFailsAfter;
          host.docker.powerFailsAfter = first;
          await hosts.runtime.recreateApiserver('h1', { args: newArgs }, abort).catch(() => undefined);
          host.docker.effects.length = 0;
          host.docker.powerFailsAfter = cut;
          await hosts.runtime.finishRecreation('h1', abort);
        },
        async (second) => {
          host.docker.reboot();
          await hosts.runtime.finishRecreation('h1', signal);
          expectOneGoodApiserver(second, [rkeArgs, newArgs]);
        },
      );
    }
  });
});

describe('what RKE has left half done', () => {
  test('renamed and not yet made anew: the old one is put back', async () => {
    deploy('old-kube-apiserver');
    await host.open().runtime.finishRecreation('h1', signal);
    expectOneGoodApiserver(0, [rkeArgs]);
  });

  test('made anew and never started: it is started, and the old one removed', async () => {
    deploy('old-kube-apiserver', 'always', ['--of=before']);
    deploy();
    await host.open().runtime.finishRecreation('h1', signal);
    expectOneGoodApiserver(0, [rkeArgs]);
  });

  test('both up after a reboot: the old one is stopped and removed', async () => {
    running('old-kube-apiserver', 'always', ['--of=before']);
    running();
    host.docker.foughtForPort = false;
    await host.open().runtime.finishRecreation('h1', signal);
    expectOneGoodApiserver(0, [rkeArgs]);
  });

  test("an old one that came up with the host, with tsrke's own leftover beside it", async () => {
    running('old-kube-apiserver');
    deploy('tsrke-new-kube-apiserver', 'always', ['--stale']);
    await host.open().runtime.finishRecreation('h1', signal);
    expectOneGoodApiserver(0, [rkeArgs]);
  });
});

test('the last lines of the log, standard output and error together', async () => {
  running().log = 'one\ntwo\nthree\nfour';
  expect(await host.open().runtime.logs('h1', 3, signal)).toEqual(['two', 'three', 'four']);
});

describe('a marker', () => {
  test('is made once, shows its labels, and is removed by who put them there', async () => {
    running();
    const { runtime } = host.open();
    const labels = { owner: 'a', until: 'b' };
    expect(await runtime.marker('h1', 'tsrke-lock', signal)).toBeUndefined();
    expect(await runtime.createMarker('h1', 'tsrke-lock', labels, signal)).toBe(true);
    expect(await runtime.createMarker('h1', 'tsrke-lock', { owner: 'c' }, signal)).toBe(false);
    expect(await runtime.marker('h1', 'tsrke-lock', signal)).toEqual({ labels, beats: 0 });
    await runtime.beatMarker('h1', 'tsrke-lock', 3, signal);
    expect(await runtime.marker('h1', 'tsrke-lock', signal)).toEqual({ labels, beats: 3 });
    expect(host.docker.find('tsrke-lock')).toMatchObject({ running: false, started: 0 });
    expect(await runtime.removeMarker('h1', 'tsrke-lock', { owner: 'c' }, signal)).toBe(false);
    expect(await runtime.removeMarker('h1', 'tsrke-lock', labels, signal)).toBe(true);
    expect(await runtime.removeMarker('h1', 'tsrke-lock', labels, signal)).toBe(true);
    expect(names()).toEqual(['kube-apiserver']);
  });

  test('has no effect where nothing was deployed', async () => {
    await expect(host.open().runtime.createMarker('h1', 'tsrke-lock', {}, signal)).rejects.toMatchObject({
      code: 'APISERVER_MISSING',
    });
  });
});

describe('the connection', () => {
  test('is made anew when it broke', async () => {
    const { runtime } = host.open();
    await runtime.version('h1', signal);
    host.disconnect();
    expect(await runtime.version('h1', signal)).toBe('20.10.24');
    expect(host.logins).toBe(2);
  });

  test('lost in the middle of a call says which', async () => {
    running();
    const { runtime } = host.open();
    await runtime.version('h1', signal);
    host.docker.powerFailsAfter = 1;
    await expect(runtime.restartApiserver('h1', signal)).rejects.toMatchObject({
      code: 'NODE_UNREACHABLE',
      message: 'the connection was lost during docker POST /containers/kube-apiserver/restart',
    });
  });

  test('carries streams to ports beside Docker', async () => {
    const hosts = host.open();
    await hosts.runtime.version('h1', signal);
    const stream = await hosts.dial('h1', '127.0.0.1', host.docker.port);
    stream.end('GET /version HTTP/1.1\r\nhost: docker\r\nconnection: close\r\n\r\n');
    expect(await text(stream)).toContain('20.10.24');
    expect(host.logins).toBe(1);
  });

  test('does not wait for ever for a port behind a silent firewall', async () => {
    host.portsAreSilent = true;
    await expect(host.open({ dialTimeout: 2_000 }).dial('h1', '198.51.100.99', 6443)).rejects.toMatchObject({
      code: 'NODE_UNREACHABLE',
      message: expect.stringMatching(/^no stream to 198\.51\.100\.99:6443 through SSH within 2/) as string,
    });
  });

  test('with a Docker that does not answer', async () => {
    host.docker.hangs = true;
    await expect(host.open({ dockerTimeout: 200 }).runtime.version('h1', signal)).rejects.toMatchObject({
      code: 'DOCKER',
      message: 'no answer to docker GET /version within 200 ms',
    });
  });

  test('whose call is aborted rejects with the reason, at once', async () => {
    host.docker.hangs = true;
    const abort = new AbortController();
    const reason = new Error('interrupted');
    const call = host.open().runtime.version('h1', abort.signal);
    setTimeout(() => abort.abort(reason), 100);
    await expect(call).rejects.toBe(reason);
    await expect(host.open().runtime.version('h1', abort.signal)).rejects.toBe(reason);
  });

  test('cannot be used after it was closed', async () => {
    const hosts = host.open();
    await hosts.runtime.version('h1', signal);
    hosts.close();
    await expect(hosts.runtime.version('h1', signal)).rejects.toMatchObject({ code: 'NODE_UNREACHABLE' });
  });

  test('to a node that cluster.yml does not name', async () => {
    const hosts = host.open();
    await expect(hosts.runtime.version('h9', signal)).rejects.toMatchObject({
      code: 'NODE_UNREACHABLE',
      node: 'h9',
    });
    await expect(hosts.connect('h9', signal)).rejects.toMatchObject({ code: 'NODE_UNREACHABLE' });
  });

  test('to a socket where Docker is not', async () => {
    const { runtime } = host.open({ dockerSocket: '/run/elsewhere.sock' });
    await expect(runtime.version('h1', signal)).rejects.toMatchObject({
      code: 'NODE_UNREACHABLE',
      next: expect.stringContaining('group docker') as string,
    });
  });

  test("ignores the user's own DOCKER_HOST", async () => {
    process.env['DOCKER_HOST'] = 'nonsense://';
    try {
      expect(await host.open().runtime.version('h1', signal)).toBe('20.10.24');
      expect(process.env['DOCKER_HOST']).toBe('nonsense://');
    } finally {
      delete process.env['DOCKER_HOST'];
    }
  });

  test('shows each call with its duration, and no body', async () => {
    running();
    const { runtime } = host.open();
    await runtime.restartApiserver('h1', signal);
    expect(host.report.debugs).toContainEqual(
      expect.stringMatching(/^h1: docker POST \/containers\/kube-apiserver\/restart \d+ ms$/),
    );
  });
});
