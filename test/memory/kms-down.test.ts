/** KMS plugins that go down at any moment of a change to them or away from them. */
import { expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import type { Effects } from '../../src/lab/faults.ts';
import { entry, kms, KmsLab } from './kms-lab.ts';

async function towards(target: 'the KMS' | 'a key of its own'): Promise<KmsLab> {
  const lab = new KmsLab({ nodes: 3, secrets: 3 });
  const byKms = () => lab.asks(entry(kms('v2')));
  const byKey = () => lab.asks();
  const [first, then] = target === 'the KMS' ? [byKey, byKms] : [byKms, byKey];
  first();
  await lab.done('up');
  then();
  return lab;
}

const restartsOf = ({ log }: Effects, node: string) =>
  log.filter(({ what }) => what.startsWith('docker POST') && what.endsWith(`/restart on ${node}`));

/** Just before cp-2 is restarted in each line, before the first object is written anew, and before the prune. */
function momentsOf(effects: Effects): [string, number][] {
  const { log } = effects;
  const restarts = restartsOf(effects, 'cp-2');
  const lines = restarts.map(({ number }, i): [string, number] => [`restart ${i + 1}`, number - 1]);
  const first = (name: string, pattern: RegExp): [string, number] => [
    name,
    (log.find(({ what }) => pattern.test(what))?.number ?? Infinity) - 1,
  ];
  return [...lines, first('rewrite', /^kube PATCH .*\/secrets\//), first('prune', /^etcd Compact/)];
}

/** It found out by a restart. */
const stops = 'APISERVER_NOT_READY';
/** Nothing was restarted that needs the plugin. */
const asks = 'KMS_UNHEALTHY';

test.each([
  {
    target: 'the KMS',
    down: ['cp-2'],
    ends: /^kms2:vault:kek-1$/,
    outcomes: [stops, stops, stops, asks, asks],
  },
  // The last restart, that of the prune, is with a file that has no KMS any more.
  {
    target: 'a key of its own',
    down: ['cp-1', 'cp-2', 'cp-3'],
    ends: /^aescbc:/,
    outcomes: [stops, stops, 'done', 'done', 'done'],
  },
] as const)(
  'towards $target, down on $down: the run stops or is done, nothing is lost, and with them back the same command finishes',
  async ({ target, down, ends, outcomes }) => {
    const { effects } = await (await towards(target)).tsrke('up');
    const seen: string[] = [];
    for (const [name, moment] of momentsOf(effects)) {
      const lab = await towards(target);
      const { error } = await lab.tsrke('up', {
        // A kube-apiserver that starts without its plugin reads nothing, and serves nobody until it is ready.
        invariants: false,
        onDone({ number }) {
          if (number === moment) for (const each of down) lab.plugin(each).up = false;
        },
      });
      if (error !== undefined && !(error instanceof TsrkeError)) throw error;
      seen.push(error?.code ?? 'done');
      for (const each of down) lab.plugin(each).up = true;
      lab.clock.advance(10_000);
      await lab.done('up');
      expect([name, lab.problems()]).toEqual([name, []]);
      expect(Object.keys(lab.lies())).toEqual([expect.stringMatching(ends)]);
    }
    expect(seen).toEqual(outcomes);
  },
  120_000,
);

test('on one node before its turn in each line: it is asked first, and its kube-apiserver goes on as it is', async () => {
  const { effects } = await (await towards('the KMS')).tsrke('up');
  const beginnings = restartsOf(effects, 'cp-1').map(({ number }) => number - 1);
  expect(beginnings).toHaveLength(3);
  for (const [line, beginning] of beginnings.entries()) {
    const lab = await towards('the KMS');
    const { error, effects: done } = await lab.tsrke('up', {
      onDone({ number }) {
        if (number === beginning) lab.plugin('cp-2').up = false;
      },
    });
    expect(error).toMatchObject({ code: asks, node: 'cp-2', exitCode: 1 });
    expect(restartsOf(done, 'cp-1')).toHaveLength(line + 1);
    expect(restartsOf(done, 'cp-2')).toHaveLength(line);
    expect(lab.problems()).toEqual([]);
    lab.plugin('cp-2').up = true;
    lab.clock.advance(10_000);
    await lab.done('up');
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-1': 4 });
  }
});
