/** A KMS plugin on a node, asked as kube-apiserver asks it (k8s.io/kms: v2 as of 1.27, v1beta1 for KMS v1). */
import type { Duplex } from 'node:stream';
import { credentials, makeClientConstructor, type Client, type ServiceError } from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { messageOf, TsrkeError } from '../errors.ts';
import { openDoor, type Door } from '../hosts/door.ts';
import type { KmsPlugin, NodeName, WrappedKey } from '../ports.ts';
import { kmsPackage } from './proto.ts';

export interface PluginOptions {
  readonly node: NodeName;
  /** Where it listens on the node. */
  readonly path: string;
  readonly version: 'v1' | 'v2';
  readonly dial: () => Promise<Duplex>;
}

/** Milliseconds for one call; kube-apiserver's own limit is 3 s unless the provider file says otherwise. */
const patience = 10_000;

type Method = (
  request: object,
  options: { deadline: number },
  callback: (error: ServiceError | null, response: unknown) => void,
) => { cancel(): void };

interface Connection {
  readonly client: Client;
  readonly door: Door;
}

export function openPlugin(options: PluginOptions): KmsPlugin {
  const { node, path, version, dial } = options;
  const name = `${version === 'v1' ? 'v1beta1' : 'v2'}.KeyManagementService`;
  let connection: Promise<Connection> | undefined;

  const connect = async (): Promise<Connection> => {
    const door = await openDoor(dial, 'kms');
    const Service = makeClientConstructor(kmsPackage[name] as ServiceDefinition, name);
    // As kube-apiserver does: the plugin is nobody's host.
    const client = new Service(door.target, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
      'grpc.enable_http_proxy': 0,
    });
    return { client, door };
  };

  async function call<Response>(method: string, request: object, signal: AbortSignal): Promise<Response> {
    signal.throwIfAborted();
    try {
      const { client } = await (connection ??= connect());
      return await new Promise<Response>((resolve, reject) => {
        const ask = (client as unknown as Record<string, Method>)[method];
        if (ask === undefined) throw new Error(`${name} has no ${method}`);
        const running = ask.call(client, request, { deadline: Date.now() + patience }, (error, response) => {
          signal.removeEventListener('abort', cancel);
          if (signal.aborted) reject(signal.reason as Error);
          else if (error === null) resolve(response as Response);
          else reject(new Error(error.details));
        });
        const cancel = () => {
          running.cancel();
        };
        signal.addEventListener('abort', cancel, { once: true });
      });
    } catch (error) {
      signal.throwIfAborted();
      throw new TsrkeError(
        'KMS_UNHEALTHY',
        `the KMS plugin at ${path} did not answer ${method}: ${messageOf(error)}`,
        {
          node,
          cause: error,
          next: `see on ${node} that the plugin runs and listens at ${path}, and that the SSH user may use that socket; then run the same command again`,
        },
      );
    }
  }

  return {
    async status(signal) {
      if (version === 'v1') {
        const { version: says } = await call<{ version: string }>('Version', { version: 'v1beta1' }, signal);
        return { version: says, healthz: 'ok', keyId: '' };
      }
      const answer = await call<{ version: string; healthz: string; key_id: string }>('Status', {}, signal);
      return { version: answer.version, healthz: answer.healthz, keyId: answer.key_id };
    },
    async encrypt(plain, signal): Promise<WrappedKey> {
      if (version === 'v1') {
        const { cipher } = await call<{ cipher: Buffer }>('Encrypt', { version: 'v1beta1', plain }, signal);
        return { ciphertext: cipher, keyId: '', annotations: {} };
      }
      const answer = await call<{
        ciphertext: Buffer;
        key_id: string;
        annotations: Record<string, Buffer> | undefined;
      }>('Encrypt', { plaintext: plain, uid: 'tsrke-preflight' }, signal);
      return {
        ciphertext: answer.ciphertext,
        keyId: answer.key_id,
        annotations: answer.annotations ?? {},
      };
    },
    async decrypt({ ciphertext, keyId, annotations }, signal) {
      if (version === 'v1') {
        const request = { version: 'v1beta1', cipher: ciphertext };
        return (await call<{ plain: Buffer }>('Decrypt', request, signal)).plain;
      }
      const request = { ciphertext, uid: 'tsrke-preflight', key_id: keyId, annotations };
      return (await call<{ plaintext: Buffer }>('Decrypt', request, signal)).plaintext;
    },
    close() {
      connection?.then(
        ({ client, door }) => {
          client.close();
          door.close();
        },
        () => undefined,
      );
    },
  };
}
