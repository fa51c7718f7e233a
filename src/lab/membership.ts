/** EtcdMembership straight into the model, with the patience of src/etcd/membership.ts. */
import { messageOf, TsrkeError } from '../errors.ts';
import type { EtcdMembership, NodeName } from '../ports.ts';
import { lostAnswer } from './docker-client.ts';
import type { Effects } from './faults.ts';
import type { EtcdView, LabSurface } from './surface.ts';

/** Milliseconds until the real adapter gives a call up, and until it has seen etcd settle. */
const patience = { call: 10_000, settling: 30_000 };
const pause = 1_000;

export interface MemberEndpoint {
  /** `https://198.51.100.11:2379`. */
  readonly url: string;
  readonly node: NodeName;
}

/** By way of the first of these endpoints that answers; each call is an effect. */
export function labMembership(
  surface: LabSurface,
  effects: Effects,
  endpoints: readonly MemberEndpoint[],
): EtcdMembership {
  const { clock } = effects;
  const at = (url: string) => surface.member?.(new URL(url).hostname);
  const call = <T>(
    what: string,
    changes: boolean,
    signal: AbortSignal,
    work: (view: EtcdView) => Promise<T>,
  ): Promise<T> =>
    effects.run({
      ...{ kind: 'etcd', what, changes, signal },
      work: () => {
        const view = endpoints
          .map(({ url }) => at(url))
          .find((each) => each !== undefined && each.trouble === undefined);
        if (view === undefined) throw new TsrkeError('ETCD', `no etcd member answered ${what}`);
        return work(view);
      },
      lost: () => new TsrkeError('ETCD', `no etcd member answered ${what}`, { cause: lostAnswer() }),
      patience: patience.call,
    });

  async function patiently<T>(
    work: () => Promise<T>,
    settles: (words: string) => boolean,
    signal: AbortSignal,
  ): Promise<T> {
    for (const end = clock.now().getTime() + patience.settling; ;) {
      try {
        return await work();
      } catch (error) {
        const gone = clock.now().getTime() >= end;
        if (signal.aborted || !(error instanceof TsrkeError) || gone || !settles(wordsOf(error))) throw error;
      }
      await clock.sleep(pause, signal);
    }
  }

  const list = (signal: AbortSignal) => call('MemberList', false, signal, (view) => view.list());
  const isUnsettled = (words: string) => words.includes('unhealthy cluster');

  return {
    list,

    async addLearner(peerUrl, signal) {
      const add = async () => {
        if ((await list(signal)).some(({ peerUrls }) => peerUrls.includes(peerUrl))) return;
        await call('MemberAdd', true, signal, (view) => view.addLearner(peerUrl));
      };
      await patiently(add, isUnsettled, signal);
    },

    async promote(id, signal) {
      try {
        await call('MemberPromote', true, signal, (view) => view.promote(id));
        return true;
      } catch (error) {
        if (!(error instanceof TsrkeError)) throw error;
        if (wordsOf(error).includes('in sync with leader')) return false;
        if (wordsOf(error).includes('can only promote a learner member')) return true;
        throw error;
      }
    },

    async remove(id, signal) {
      const remove = async () => {
        try {
          await call('MemberRemove', true, signal, (view) => view.remove(id));
        } catch (error) {
          if (!(error instanceof TsrkeError) || !wordsOf(error).includes('member not found')) throw error;
        }
      };
      await patiently(remove, isUnsettled, signal);
      await patiently(
        () => list(signal),
        () => true,
        signal,
      );
    },

    health: (endpoint, signal) =>
      effects.run({
        ...{ kind: 'etcd', what: `Range of ${new URL(endpoint).host}`, changes: false, signal },
        work: () => {
          const view = at(endpoint);
          const refused = `connect ECONNREFUSED ${new URL(endpoint).host}`;
          return Promise.resolve(view === undefined ? refused : view.trouble);
        },
        lost: () => new TsrkeError('ETCD', 'the etcd member did not answer', { cause: lostAnswer() }),
        patience: patience.call,
      }),

    close: () => undefined,
  };
}

function wordsOf(error: TsrkeError): string {
  return messageOf(error.cause ?? error);
}
