import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import {
  mayRestart,
  nextMembershipChange,
  type EtcdNode,
  type MembershipChange,
  type MembershipView,
} from '../../src/etcd/membership-change.ts';
import type { EtcdMember } from '../../src/ports.ts';

const urlOf = (node: string) => `https://${node}:2380`;
const etcdNode = (node: string): EtcdNode => ({ node, name: `etcd-${node}`, peerUrl: urlOf(node) });

/** `a` has a vote, `-a` does not answer, `a?` is a learner, `a!` was added and has never started. */
function memberOf(words: string): EtcdMember {
  const node = words.replace(/^-|[?!]/g, '');
  const started = !words.includes('!');
  return {
    id: `id-${node}`,
    name: started ? `etcd-${node}` : '',
    peerUrls: [urlOf(node)],
    clientUrls: started ? [`https://${node}:2379`] : [],
    learner: words.includes('?'),
  };
}

function view(
  wanted: string,
  members: string,
  more: { gone?: string; blank?: string; recorded?: string } = {},
) {
  const list = (text: string) => text.split(' ').filter(Boolean);
  const wantedNodes = list(wanted).map(etcdNode);
  const isWell = (words: string) => !/[-?!]/.test(words);
  return {
    wanted: wantedNodes,
    recorded: list(more.recorded ?? members.replace(/[-?!]/g, '')).map(etcdNode),
    members: list(members).map(memberOf),
    healthy: new Set(
      list(members)
        .filter(isWell)
        .map((words) => memberOf(words).id),
    ),
    reachable: new Set(
      wantedNodes.map(({ node }) => node).filter((node) => !list(more.gone ?? '').includes(node)),
    ),
    blank: new Set(list(more.blank ?? '')),
  } satisfies MembershipView;
}

function inWords(change: MembershipChange | undefined): string {
  if (change === undefined) return 'nothing';
  if (change.kind === 'remove') return `remove ${change.name}`;
  return `${change.kind} ${change.node}`;
}

describe('the next change of who belongs to etcd', () => {
  test.each([
    ['a b c', 'a b c', 'nothing'],
    ['a b c', '-a -b c', 'nothing'],
    ['a b c', 'a', 'add-learner b'],
    ['a b c', 'a b?!', 'start b'],
    ['a b c', 'a b?', 'promote b'],
    ['a b c', 'a b', 'add-learner c'],
    ['a b c', 'a b!', 'etcd has no quorum: 1 of 2 members answered, and 2 must'],
    ['a b c', 'a b c!', 'start c'],
    // A live one goes once its replacement has a vote, a dead one before anything joins.
    ['a b d', 'a b c', 'add-learner d'],
    ['a b d', 'a b c d?', 'promote d'],
    ['a b d', 'a b c d', 'remove etcd-c'],
    ['a b d', 'a b -c', 'remove etcd-c'],
    ['a b d', 'a b c e?', 'remove etcd-e'],
    ['a b d', 'a b c e?!', 'remove https://e:2380'],
    ['a', 'a b c', 'remove etcd-b'],
    ['a', 'a c', 'remove etcd-c'],
    ['a b', 'a -b c', 'etcd-c cannot leave etcd: of the 2 others 1 answered, and 2 must'],
    ['a b d', 'a -b c', 'etcd-d cannot join etcd: etcd-b did not answer'],
    ['a b', '-a b c', 'etcd-c cannot leave etcd: of the 2 others 1 answered, and 2 must'],
    ['a b d', '-a -b c', 'etcd has no quorum: 1 of 3 members answered, and 2 must'],
    ['d e', 'a b c', /all at once cannot be replaced/],
    ['', 'a b c', /no etcd node any more/],
  ])('wanted %j, there %j ⇒ %s', (wanted, members, expected) => {
    const next = () => inWords(nextMembershipChange(view(wanted, members)));
    if (expected instanceof RegExp || expected.includes('cannot') || expected.includes('quorum')) {
      expect(next).toThrow(expected);
    } else {
      expect(next()).toBe(expected);
    }
  });

  test('what cannot be reached is neither added, started, promoted nor removed', () => {
    const next = (...[wanted, members, more]: Parameters<typeof view>) =>
      inWords(nextMembershipChange(view(wanted, members, more)));
    expect(next('a b c', 'a b -c', { gone: 'c' })).toBe('nothing');
    expect(next('a b c', 'a b', { gone: 'c' })).toBe('nothing');
    expect(next('a b c', 'a b c?!', { gone: 'c' })).toBe('nothing');
    expect(next('a b c', 'a b c?', { gone: 'c' })).toBe('nothing');
    expect(() => next('a b c d', 'a b c?', { gone: 'c' })).toThrow(
      'etcd-d cannot join etcd before etcd-c has: its node cannot be reached',
    );
  });

  test('a member whose data are gone is no longer that member: it joins anew', () => {
    const next = (...[wanted, members, more]: Parameters<typeof view>) =>
      nextMembershipChange(view(wanted, members, more));
    expect(next('a b c', 'a b -c', { blank: 'c' })).toMatchObject({ kind: 'remove', name: 'etcd-c' });
    expect(inWords(next('a b c', 'a b', { blank: 'c' }))).toBe('add-learner c');
    expect(() => next('a', '-a', { blank: 'a' })).toThrow('etcd has no quorum');
  });

  test('a node with another address leaves before it joins, and not where that costs the quorum', () => {
    const moved = { ...memberOf('old'), name: 'etcd-c' };
    const seen = view('a b c', 'a b');
    const withOld = (members: EtcdMember[], down: string[] = []): MembershipView => ({
      ...seen,
      members: [...members, moved],
      healthy: new Set([...seen.healthy, moved.id].filter((id) => !down.includes(id))),
    });
    expect(nextMembershipChange(withOld(seen.members))).toMatchObject({ kind: 'remove', id: moved.id });
    expect(() => nextMembershipChange(withOld(seen.members, ['id-b']))).toThrow('etcd-c cannot leave etcd');
  });

  test('a learner starts with exactly the members of this moment, whatever cluster.yml has', () => {
    const twin = { ...memberOf('old'), name: 'etcd-d' };
    const seen = view('a b d e', 'a c b! d?!');
    const change = nextMembershipChange({
      ...seen,
      members: [...seen.members.filter(({ id }) => id !== 'id-b'), twin],
      healthy: new Set([...seen.healthy, twin.id]),
    });
    expect(change).toEqual({
      kind: 'start',
      node: 'd',
      initialCluster: [
        'etcd-a=https://a:2380',
        'etcd-c=https://c:2380',
        'etcd-d=https://d:2380',
        'member-id-old=https://old:2380',
      ],
    });
  });

  test('who is there counts where no state tells who was', () => {
    expect(() => nextMembershipChange(view('d', 'a', { recorded: '' }))).toThrow('all at once');
    expect(nextMembershipChange(view('a b', 'a', { recorded: '' }))?.kind).toBe('add-learner');
  });

  test('a refusal says what to do and that nothing was touched', () => {
    const error = (() => {
      try {
        nextMembershipChange(view('a b d', 'a -b -c'));
      } catch (thrown) {
        return thrown as TsrkeError;
      }
      return undefined;
    })();
    expect(error).toMatchObject({
      code: 'ETCD',
      next: 'bring etcd-b, etcd-c back, or restore etcd from a snapshot; no member was added or removed',
    });
  });
});

describe('a restart of a member', () => {
  test.each([
    ['a', true],
    ['a b', true],
    ['a -b', false],
    ['a b c', true],
    ['a b -c', false],
    ['-a -b c', true],
    ['a b c d -e', true],
    ['a b c -d -e', false],
    ['a? b -c', true],
  ])('of a, where there is %j ⇒ %s', (members, expected) => {
    expect(mayRestart('id-a', view('', members))).toBe(expected);
  });
});

type State = 'up' | 'stopped' | 'gone';
const machines = ['a', 'b', 'c', 'd', 'e'];
const machine = fc.constantFrom(...machines);
/** Machines, each with its first or another address. */
const nodes = fc.uniqueArray(fc.tuple(machine, fc.constantFrom('', '', '', '2')), {
  minLength: 1,
  maxLength: 5,
  selector: ([name]) => name,
});
const event = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('steps' as const), count: fc.integer({ min: 1, max: 6 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('state' as const),
      machine,
      to: fc.constantFrom<State>('up', 'up', 'up', 'stopped', 'gone'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('wipe' as const), machine }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('edit' as const), nodes }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('slow' as const), machine }) },
);
type Event = typeof event extends fc.Arbitrary<infer T> ? T : never;

/** etcd on a few machines, with the rules by which it takes and refuses members. */
class World {
  wanted: EtcdNode[];
  recorded: EtcdNode[];
  members: EtcdMember[];
  readonly story: string[] = [];
  readonly states = new Map<string, State>(machines.map((name) => [name, 'up']));
  /** Which member's data a machine holds. */
  readonly data = new Map<string, string>();
  /** It is well, but did not answer in time when asked. */
  slow: string | undefined;
  #ids = 0;

  constructor(first: readonly (readonly [string, string])[]) {
    this.wanted = first.map(([name, address]) => this.#node(name, address));
    this.recorded = this.wanted;
    this.members = this.wanted.map((node) => ({ ...this.#member(node), name: node.name, learner: false }));
    for (const { id, name } of this.members) this.data.set(machineOf(name), id);
  }

  happen(event: Exclude<Event, { kind: 'steps' }>): void {
    this.story.push(JSON.stringify(event));
    if (event.kind === 'edit') this.wanted = event.nodes.map(([name, address]) => this.#node(name, address));
    else if (event.kind === 'state') this.states.set(event.machine, event.to);
    else if (event.kind === 'slow') this.slow = event.machine;
    else this.data.delete(event.machine);
  }

  /** What was taken, `refused`, `waits` for a learner, or `done`. */
  step(): string {
    const seen: MembershipView = {
      wanted: this.wanted,
      recorded: this.recorded,
      members: this.members,
      healthy: new Set(this.#well().flatMap(({ id, name }) => (machineOf(name) === this.slow ? [] : [id]))),
      reachable: new Set(machines.filter((name) => this.states.get(name) !== 'gone')),
      blank: new Set(machines.filter((name) => this.states.get(name) !== 'gone' && !this.data.has(name))),
    };
    this.slow = undefined;
    const had = this.hasQuorum();
    let change;
    try {
      change = nextMembershipChange(seen);
    } catch (error) {
      if (!(error instanceof TsrkeError)) throw error;
      this.story.push(error.message);
      return error.code === 'UNSUPPORTED' ? 'unsupported' : 'refused';
    }
    this.story.push(inWords(change));
    if (change === undefined) {
      this.recorded = this.wanted;
      return 'done';
    }
    if (!had) this.#fail('changed without quorum');
    const waits = !this.#take(change);
    if (!this.hasQuorum()) this.#fail('lost the quorum');
    return waits ? 'waits' : 'changed';
  }

  hasQuorum(): boolean {
    const voters = this.members.filter(({ learner }) => !learner);
    return this.#well().length > voters.length / 2;
  }

  #take(change: MembershipChange): boolean {
    if (change.kind === 'remove') {
      const member = this.members.find(({ id }) => id === change.id);
      if (member === undefined) return this.#fail('removed what is not there');
      const node = this.wanted.find(({ peerUrl }) => member.peerUrls.includes(peerUrl));
      if (node !== undefined && this.states.get(node.node) === 'gone')
        this.#fail('removed an unreachable node');
      this.members = this.members.filter((other) => other !== member);
      return true;
    }
    if (this.states.get(change.node) === 'gone') this.#fail('worked on an unreachable node');
    if (change.kind === 'add-learner') {
      if (this.members.some(({ learner }) => learner)) this.#fail('too many learner members in cluster');
      if (this.#well().length < this.members.length) this.#fail('unhealthy cluster');
      const node = this.wanted.find(({ peerUrl }) => peerUrl === change.peerUrl);
      if (node === undefined) return this.#fail('added what is not wanted');
      this.data.delete(change.node);
      this.members = [...this.members, this.#member(node)];
      return true;
    }
    const node = this.wanted.find((each) => each.node === change.node);
    const member = this.members.find(({ peerUrls }) => node !== undefined && peerUrls.includes(node.peerUrl));
    if (node === undefined || member === undefined) return this.#fail('no such member');
    if (change.kind === 'start') {
      const urls = change.initialCluster.map((each) => each.split('=')[1]).sort();
      const theirs = this.members.flatMap(({ peerUrls }) => peerUrls).sort();
      if (urls.join() !== theirs.join()) this.#fail('member count is unequal');
      if (new Set(change.initialCluster.map((each) => each.split('=')[0])).size < urls.length)
        this.#fail('two members of one name');
      if (!change.initialCluster.includes(`${node.name}=${node.peerUrl}`)) this.#fail('itself is missing');
      this.states.set(change.node, 'up');
      this.data.set(change.node, member.id);
      this.#replace(member, { ...member, name: node.name });
      return true;
    }
    if (!member.learner || member.id !== change.id) this.#fail('can only promote a learner member');
    // The caller starts its container where it is stopped.
    if (this.data.get(change.node) !== member.id) return false;
    this.states.set(change.node, 'up');
    this.#replace(member, { ...member, learner: false });
    return true;
  }

  #well(): EtcdMember[] {
    return this.members.filter(({ id, name, learner }) => {
      const at = machineOf(name);
      return !learner && this.states.get(at) === 'up' && this.data.get(at) === id;
    });
  }

  #replace(old: EtcdMember, by: EtcdMember): void {
    this.members = this.members.map((member) => (member === old ? by : member));
  }

  #node(name: string, address: string): EtcdNode {
    return { ...etcdNode(name), peerUrl: urlOf(`${name}${address}`) };
  }

  #member({ peerUrl }: EtcdNode): EtcdMember {
    this.#ids += 1;
    return { id: `${this.#ids}`, name: '', peerUrls: [peerUrl], clientUrls: [], learner: true };
  }

  #fail(why: string): never {
    throw new Error(`${why}\n${this.story.join('\n')}\n${JSON.stringify(this.members)}`);
  }
}

function machineOf(name: string): string {
  return name.replace('etcd-', '');
}

/** Two for each machine that joins or leaves, twice where addresses change, and some to spare. */
const enough = 40;

function finish(world: World): string {
  for (let count = 0; count < enough; count += 1) {
    const result = world.step();
    if (result !== 'changed') return result;
  }
  throw new Error(`does not come to an end\n${world.story.join('\n')}`);
}

test('whatever dies, returns or is edited meanwhile: quorum is never spent, and it comes to an end', () => {
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(nodes, fc.array(event, { maxLength: 25 }), (first, events) => {
      const world = new World(first);
      for (const each of events) {
        if (each.kind !== 'steps') world.happen(each);
        else for (let count = 0; count < each.count && world.step() === 'changed'; count += 1);
      }
      finish(world);
      for (const name of machines) world.states.set(name, 'up');
      const had = world.hasQuorum();
      const result = finish(world);
      seen.set(result, (seen.get(result) ?? 0) + 1);
      const voters = world.members.flatMap(({ learner, peerUrls }) => (learner ? [] : peerUrls)).sort();
      const wanted = world.wanted.map(({ peerUrl }) => peerUrl).sort();
      const isDone =
        result === 'done' && world.members.length === wanted.length && voters.join() === wanted.join();
      const mayRefuse = !had || result === 'unsupported';
      if (!isDone && !mayRefuse) throw new Error(`ends with ${result}\n${world.story.join('\n')}`);
    }),
    { numRuns: 5_000 },
  );
  // The histories are not all cut short by a lost quorum.
  expect(seen.get('done')).toBeGreaterThan(1_500);
});
