/** KMS plugins that tsrke runs itself: there before kube-apiserver needs them, upgraded node by node, gone last. */
import { inspect } from 'node:util';
import { expect, it } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { approvedBy } from '../../src/provision/plan.ts';
import { planOf } from './plan-of.ts';
import { statusOf } from './status-of.ts';
import { plugin, PluginLab, secret, socket, vault } from './kms-plugin-lab.ts';

const nodes = (count: 1 | 3, state: string) => Array.from({ length: count }, () => [state]);

async function encrypted(count: 1 | 3): Promise<PluginLab> {
  const lab = new PluginLab({ nodes: count });
  lab.asks(plugin(), vault());
  await lab.done();
  return lab;
}

/** Every Docker call on these containers, with its node. */
const onPlugins = ({ effects }: { effects: { log: readonly { what: string; changes: boolean }[] } }) =>
  effects.log.filter(({ what, changes }) => changes && /tsrke-kms/.test(what)).map(({ what }) => what);

it.each([1, 3] as const)('on %i node(s) encryption is enabled at once with a plugin', async (count) => {
  const lab = await encrypted(count);
  expect(lab.plugins()).toEqual(nodes(count, '1 kek-1 running always'));
  expect(lab.problems()).toEqual([]);
  const again = await lab.done();
  expect(again.said).toMatch(/^nothing to do/);
  expect(onPlugins(again)).toEqual([]);
});

it('the container has the host’s network, the socket’s folder, and labels that name tsrke', async () => {
  const lab = await encrypted(1);
  const found = lab.model.engine('cp-1').containers.find(({ name }) => name.startsWith('tsrke-kms-'));
  expect(found?.hostConfig).toMatchObject({
    NetworkMode: 'host',
    Binds: ['/var/run/kmsplugin:/var/run/kmsplugin'],
  });
  expect(found?.config.Labels).toMatchObject({ 'tsrke.io/kms-socket': socket });
  expect(lab.model.engine('cp-1').get('kube-apiserver').hostConfig.Binds).toContain(
    '/var/run/kmsplugin:/var/run/kmsplugin',
  );
});

it.each([
  ['without a plugin, up looks for containers once on each node', undefined, 'up', 1],
  ['without a plugin, no other command looks', undefined, 'rotate', 0],
  ['with one that is as it should be, once', plugin(), 'up', 1],
] as const)('%s', async (_, wish, command, looks) => {
  const lab = new PluginLab({ nodes: 1 });
  lab.asks(wish, ...(wish === undefined ? [] : [vault()]));
  await lab.done();
  const { effects, error } = await lab.tsrke(command);
  expect(error).toBeUndefined();
  expect(effects.log.filter(({ what }) => what.includes('GET /containers/json'))).toHaveLength(looks);
});

it('comes back with its node', async () => {
  const lab = await encrypted(3);
  for (const { name } of lab.model.nodes) lab.model.reboot(name);
  lab.clock.advance(20_000);
  expect(lab.problems()).toEqual([]);
  expect((await lab.done()).said).toMatch(/^nothing to do/);
});

it('one that somebody has stopped is started, and one that is gone is made again', async () => {
  const lab = await encrypted(3);
  const engine = (node: string) => lab.model.engine(node);
  const of = (node: string) =>
    engine(node).containers.find(({ name }) => name.startsWith('tsrke-kms-'))?.name ?? '';
  engine('cp-2').stop(engine('cp-2').get(of('cp-2')), lab.clock.now().getTime());
  engine('cp-3').remove(engine('cp-3').get(of('cp-3')), true, lab.clock.now().getTime());
  lab.clock.advance(70_000);
  const { said } = await lab.done();
  expect(said).toMatch(/^the KMS plugins are as cluster.yml has them, nothing else to do: secrets are enc/);
  expect(lab.plugins()).toEqual(nodes(3, '1 kek-1 running always'));
});

it('status says of each node whether its plugin is there, runs, and is made as cluster.yml says', async () => {
  const lab = new PluginLab({ nodes: 3 });
  const states = async () => {
    const { status, log } = await statusOf(lab);
    expect(log.filter(({ changes }) => changes)).toEqual([]);
    expect(JSON.stringify(status)).not.toContain(secret);
    const told = status.nodes.map(({ plugins }) => plugins?.map(({ state }) => state).join());
    const problems = status.problems.flatMap(({ kind, node = '' }) => (kind === 'kms-plugin' ? [node] : []));
    return [...told, `problems: ${problems.join()}`];
  };
  const plain = await statusOf(lab);
  expect(plain.log.filter(({ what }) => what.includes('/containers/json'))).toEqual([]);
  expect(plain.status.nodes.every((each) => !('plugins' in each))).toBe(true);
  lab.asks(plugin(), vault());
  expect(await states()).toEqual(['missing', 'missing', 'missing', 'problems: cp-1,cp-2,cp-3']);
  await lab.done();
  expect(await states()).toEqual(['running', 'running', 'running', 'problems: ']);
  const of = (node: string) => {
    const engine = lab.model.engine(node);
    const found = engine.containers.find(({ name }) => name.startsWith('tsrke-kms-'));
    if (found === undefined) throw new Error('it is not there');
    return { engine, found, now: lab.clock.now().getTime() };
  };
  const [second, third] = [of('cp-2'), of('cp-3')];
  second.engine.stop(second.found, second.now);
  third.engine.remove(third.found, true, third.now);
  expect(await states()).toEqual(['running', 'stopped', 'missing', 'problems: cp-2,cp-3']);
  await lab.done();
  lab.asks(plugin({ tag: '2' }), vault());
  const other = 'other-definition';
  expect(await states()).toEqual([other, other, other, 'problems: cp-1,cp-2,cp-3']);
  await lab.done();
  // What cluster.yml does not name any more the state still knows.
  lab.asks(undefined);
  const gone = 'not-wanted';
  expect(await states()).toEqual([gone, gone, gone, 'problems: cp-1,cp-2,cp-3']);
  await lab.done();
  expect((await statusOf(lab)).status.nodes.every((each) => !('plugins' in each))).toBe(true);
});

it('a changed definition is upgraded one node after the other, with a new key of the same KMS', async () => {
  const lab = await encrypted(3);
  lab.asks(plugin({ tag: '2', keyId: 'kek-2' }), vault());
  const states = new Set<string>();
  const ran = await lab.done({
    onDone: () =>
      states.add(
        lab
          .plugins()
          .map((each) => each.length)
          .join(),
      ),
  });
  expect(lab.plugins()).toEqual(nodes(3, '2 kek-2 running always'));
  // Two at a time, the new and the former, on one node alone.
  expect([...states].filter((each) => each.match(/2/g)?.length !== 1)).toEqual(['1,1,1']);
  expect([...new Set(onPlugins(ran).map((what) => what.replace(/.* on /, '')))]).toEqual([
    'cp-1',
    'cp-2',
    'cp-3',
  ]);
  expect((await lab.done()).said).toMatch(/^nothing to do/);
});

it('one with other keys is taken back from the first node, and no other is touched', async () => {
  const lab = await encrypted(3);
  lab.asks(plugin({ tag: '2', secret: 'another KMS altogether' }), vault());
  let seen = false;
  const ran = await lab.tsrke('up', {
    onDone() {
      const at = lab.model.plugin('cp-1', socket);
      seen ||= at !== undefined && lab.plugins()[0]?.some((each) => /^2 .*always/.test(each)) === true;
    },
  });
  // It was tried out where no kube-apiserver could write with its keys.
  expect(seen).toBe(false);
  expect(ran.error).toMatchObject({ code: 'KMS_KEYS_DIFFER', node: 'cp-1', exitCode: 1 });
  expect(ran.error?.message).toContain('it was taken back; the former plugin runs again');
  expect(new Set(onPlugins(ran).map((what) => what.replace(/.* on /, '')))).toEqual(new Set(['cp-1']));
  expect(lab.plugins()).toEqual(nodes(3, '1 kek-1 running always'));
  lab.clock.advance(70_000);
  expect(lab.problems()).toEqual([]);
  lab.asks(plugin(), vault());
  expect((await lab.done()).said).toMatch(/^nothing to do/);
});

it('on one node, too, one that cannot decrypt what the former has encrypted is taken back', async () => {
  const lab = await encrypted(1);
  lab.asks(plugin({ tag: '2', secret: 'another KMS altogether' }), vault());
  const { error } = await lab.tsrke('up');
  expect(error).toMatchObject({ code: 'KMS_KEYS_DIFFER' });
  expect(lab.plugins()).toEqual([['1 kek-1 running always']]);
});

it.each([
  ['as the first one is removed again', new PluginLab({ nodes: 3 }), [[], [], []]],
  ['as an upgrade gets the former one back', undefined, nodes(3, '1 kek-1 running always')],
] as const)(
  'one that does not come up %s, with its last words and no credentials',
  async (_, fresh, left) => {
    const lab = fresh ?? (await encrypted(3));
    lab.asks(plugin({ tag: '2', secret: 'tooshort' }), vault());
    const { error, notes } = await lab.tsrke('up');
    if (!(error instanceof TsrkeError)) throw error ?? new Error('it was done');
    expect(error).toMatchObject({ code: 'KMS_UNHEALTHY', node: 'cp-1' });
    expect(error.message).toContain('it does not stay up');
    expect(error.details).toContain('  KMS_SECRET is "[redacted]", which is too short');
    expect(JSON.stringify([error.message, error.details, error.next, notes])).not.toMatch(/tooshort|kek-1/);
    expect(lab.plugins()).toEqual(left);
  },
);

it('an image that cannot be pulled stops the run before anything is made', async () => {
  const lab = new PluginLab({ nodes: 3 });
  lab.asks(plugin({ tag: '3' }), vault());
  const { error } = await lab.tsrke('up');
  expect(error).toMatchObject({ code: 'DOCKER', node: 'cp-1' });
  expect(error?.message).toMatch(
    /could not be pulled from docker\.io without credentials: manifest for .*:3 not found$/,
  );
  expect(lab.plugins()).toEqual([[], [], []]);
});

const registry = 'registry.example';
const password = 'dolphin & saddle+/?';

/** Its plugin's image lies in a registry that lets in nobody but `puller`. */
function behindLogin(count: 1 | 3): PluginLab {
  const lab = new PluginLab({ nodes: count });
  for (const { name } of lab.model.nodes) {
    const { registry: images, logins } = lab.model.engine(name);
    for (const image of [...images]) images.add(`${registry}/${image}`);
    logins.set(registry, { user: 'puller', password });
  }
  lab.asks(plugin({ registry: `${registry}/` }), vault());
  return lab;
}

it('an image is pulled with the credentials of its registry', async () => {
  const lab = behindLogin(3);
  lab.names(
    `[{url: other.example, user: a, password: b}, {url: ${registry}, user: puller, password: '${password}'}]`,
  );
  const { notes, effects } = await lab.done();
  expect(lab.model.engine('cp-3').images.has(`${registry}/tsrke/lab-kms-plugin:1`)).toBe(true);
  expect(lab.problems()).toEqual([]);
  expect(
    [...notes, ...effects.log.map(({ what }) => what)].filter((each) => each.includes('dolphin')),
  ).toEqual([]);
});

it.each([
  [
    'none',
    undefined,
    /without credentials: .*no basic auth credentials$/,
    /an entry with url registry\.example,/,
  ],
  [
    'of another registry',
    `{url: other.example, user: puller, password: '${password}'}`,
    /without credentials: .*no basic auth credentials$/,
    /an entry with url registry\.example,/,
  ],
  [
    'of AWS',
    `{url: ${registry}, ecr_credential_plugin: {aws_access_key_id: id, aws_secret_access_key: dolphin}}`,
    /without credentials: /,
    /tsrke does not ask AWS/,
  ],
  [
    'that are wrong',
    `{url: ${registry}, user: puller, password: dolphin}`,
    /with its credentials of private_registries: .*incorrect username or password$/,
    /user and password of registry\.example in private_registries are right,/,
  ],
] as const)(
  'with credentials %s the refusal names the registry and what was given, not the password',
  async (_, given, message, next) => {
    const lab = behindLogin(1);
    if (given !== undefined) lab.names(`[${given}]`);
    const { error, notes } = await lab.tsrke('up');
    if (!(error instanceof TsrkeError)) throw error ?? new Error('it was done');
    expect(error).toMatchObject({ code: 'DOCKER', node: 'cp-1' });
    expect(error.message).toMatch(
      /^the image registry\.example\/.* could not be pulled from registry\.example /,
    );
    expect(error.message).toMatch(message);
    expect(error.next).toMatch(next);
    expect(`${inspect(error, { depth: null, showHidden: true })} ${notes.join()}`).not.toContain('dolphin');
    expect(lab.plugins()).toEqual([[]]);
  },
);

it('taken out of cluster.yml together with its provider, it goes once no file names it', async () => {
  const lab = await encrypted(3);
  lab.asks(undefined);
  let early = false;
  await lab.done({
    onDone() {
      const files = lab.model.nodes.map(
        ({ name }) => lab.model.host(name).read(file)?.bytes.toString() ?? '',
      );
      if (files.some((text) => text.includes('kms:')) && lab.plugins().some((each) => each.length === 0)) {
        early = true;
      }
    },
  });
  expect(early).toBe(false);
  expect(lab.plugins()).toEqual([[], [], []]);
  expect(lab.problems()).toEqual([]);
  expect(lab.model.engine('cp-1').get('kube-apiserver').hostConfig.Binds).not.toContain(
    '/var/run/kmsplugin:/var/run/kmsplugin',
  );
  expect((await lab.done()).said).toMatch(/^nothing to do/);
});

const file = '/etc/kubernetes/ssl/encryption.yaml';

it('taken out of cluster.yml while its provider stays, it is refused', async () => {
  const lab = await encrypted(3);
  lab.asks(undefined, vault());
  const { error } = await lab.tsrke('up');
  expect(error).toMatchObject({ code: 'KMS_UNMOUNTED', exitCode: 3 });
  expect(lab.plugins()).toEqual(nodes(3, '1 kek-1 running always'));
});

it('only `up` upgrades; whatever does not run every command starts', async () => {
  const lab = await encrypted(1);
  lab.asks(plugin({ tag: '2', keyId: 'kek-2' }), vault());
  const { error } = await lab.tsrke('rotate');
  expect(error).toBeUndefined();
  expect(lab.plugins()).toEqual([['1 kek-1 running always']]);
});

it('no credential goes into the state, nor a hash of one', async () => {
  const lab = await encrypted(3);
  const text = JSON.stringify(lab.store.state);
  expect(text).toContain('KMS_SECRET');
  expect(text).not.toContain(secret);
});

it('killed between the exchange and its proof, the next run proves it anew against the former one', async () => {
  const whole = await encrypted(1);
  whole.asks(plugin({ tag: '2', secret: 'another KMS altogether' }), vault());
  const starts = (await whole.tsrke('up')).effects.log.filter(({ what }) => /tsrke-kms.*start/.test(what));
  const first = starts[0]?.number;
  expect(first).toBeDefined();
  const lab = await encrypted(1);
  lab.asks(plugin({ tag: '2', secret: 'another KMS altogether' }), vault());
  await lab.tsrke('up', {
    faultOf: ({ number }) => (number === first ? { kind: 'killed', when: 'after' } : undefined),
  });
  expect(lab.plugins()[0]).toHaveLength(2);
  const { error } = await lab.tsrke('up');
  expect(error).toMatchObject({ code: 'KMS_KEYS_DIFFER' });
  expect(lab.plugins()).toEqual([['1 kek-1 running always']]);
});

it('a plan says what becomes of the containers, node by node, without a credential', async () => {
  const lab = new PluginLab({ nodes: 3 });
  const steps = async () => {
    const plan = await planOf(lab, 'up');
    expect(JSON.stringify(plan)).not.toContain(secret);
    const { error } = await lab.tsrke('up', { approve: approvedBy(plan) });
    expect(error).toBeUndefined();
    expect((await planOf(lab, 'up')).somethingToDo).toBe(false);
    return plan.steps.map((step) => [
      step.line,
      ...('nodes' in step
        ? step.nodes.map((each) => ('container' in each ? each.container : each.node))
        : []),
    ]);
  };
  lab.asks(plugin(), vault());
  const [first, ...others] = await steps();
  expect(first).toEqual(['plugins', 'created', 'created', 'created']);
  expect(others.map(([line]) => line)).toEqual(['read', 'write', 'rewrite']);
  lab.asks(plugin({ tag: '2' }), vault());
  expect(await steps()).toEqual([['plugins', 'recreated', 'recreated', 'recreated']]);
  lab.asks(undefined);
  const all = await steps();
  expect(all.at(-1)).toEqual(['unplug', 'removed', 'removed', 'removed']);
});

it('a plan is not carried out for another plugin than it was made for', async () => {
  const lab = new PluginLab({ nodes: 1 });
  lab.asks(plugin(), vault());
  const plan = await planOf(lab, 'up');
  lab.asks(plugin({ tag: '2' }), vault());
  expect((await lab.tsrke('up', { approve: approvedBy(plan) })).error).toMatchObject({ code: 'PLAN_STALE' });
  expect(lab.plugins()).toEqual([[]]);
});
