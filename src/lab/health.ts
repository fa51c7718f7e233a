/** Health straight into the model: asked on the host, without SSH, TLS and HTTP. */
import { messageOf, TsrkeError } from '../errors.ts';
import type { ClientCertificate, Health, Knock, NodeName } from '../ports.ts';
import { lostAnswer, unreachable } from './docker-client.ts';
import type { Effects } from './faults.ts';
import { NoAnswer, type LabSurface } from './surface.ts';
import { isTrusted } from './trust.ts';

/** Milliseconds until the real adapter gives up. */
const patience = 5_000;

/** What is asked counts as a look: nothing changes by it. */
export function labHealth(surface: LabSurface, effects: Effects): Health {
  return {
    async ask(node, check, client, signal) {
      const url = new URL(check.url);
      try {
        return await effects.run({
          ...{ kind: 'ssh', node, what: `GET ${check.url}`, changes: false, signal },
          work: () => healthOf(surface, node, url, client),
          lost: () => unreachable(node, `GET ${check.url}`, lostAnswer()),
          patience,
        });
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof TsrkeError || error instanceof NoAnswer) return messageOf(error);
        throw error;
      }
    },

    async knock(node, { host, port }, signal) {
      const what = `knock at ${host}:${port}`;
      try {
        return await effects.run({
          ...{ kind: 'ssh', node, what, changes: false, signal },
          work: async () => {
            await surface.docker(node, ping);
            return knockOn(surface, node, host, port);
          },
          lost: () => unreachable(node, what, lostAnswer()),
          patience,
        });
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof TsrkeError || error instanceof NoAnswer) {
          return { kind: 'failed', why: messageOf(error) };
        }
        throw error;
      }
    },
  };
}

const ping = { method: 'GET', path: '/_ping', headers: {}, body: Buffer.alloc(0) };

function knockOn(surface: LabSurface, node: NodeName, host: string, port: number): Knock {
  const own = surface.nodes.find(({ name }) => name === node)?.address;
  const to = ['localhost', '127.0.0.1'].includes(host) ? own : host;
  const target = surface.nodes.find(({ address }) => address === to);
  const listens = target !== undefined && surface.listening?.(target.name, port, to === own) !== undefined;
  return listens
    ? { kind: 'accepted', why: '' }
    : { kind: 'refused', why: `connect ECONNREFUSED ${host}:${port}` };
}

async function healthOf(
  surface: LabSurface,
  node: NodeName,
  url: URL,
  client: ClientCertificate | undefined,
): Promise<string | undefined> {
  // The way there is SSH: a host without power has none.
  await surface.docker(node, ping);
  const own = surface.nodes.find(({ name }) => name === node)?.address;
  const to = ['localhost', '127.0.0.1'].includes(url.hostname) ? own : url.hostname;
  const target = surface.nodes.find(({ address }) => address === to);
  const listening = target && surface.listening?.(target.name, Number(url.port), to === own);
  if (listening === undefined) return `connect ECONNREFUSED ${url.host}`;
  if (listening.kind === 'health') return undefined;
  const known = client !== undefined && isTrusted(client.cert, listening.tls.ca);
  if (listening.kind === 'etcd') {
    if (!known) return 'tlsv1 alert bad certificate';
    return listening.isWell() ? undefined : 'answers 503: {"health":"false","reason":"RAFT NO LEADER"}';
  }
  if (!known) return 'answers 401: Unauthorized';
  const { status, body } = await surface.kube(listening.node, { ...ping, path: url.pathname });
  return status === 200 ? undefined : `answers ${status}: ${body.toString().split('\n')[0] ?? ''}`;
}
