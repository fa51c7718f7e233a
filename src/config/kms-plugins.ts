/** `secrets_encryption_config.kms_plugin`: KMS plugins that tsrke itself runs on every controlplane node. */
import { posix } from 'node:path';
import { bindOf } from '../bind.ts';
import { isMap, kubeApiIn } from './keys.ts';

export interface KmsPluginWish {
  readonly image: string;
  /** Words for the image's entrypoint. */
  readonly command: readonly string[];
  /** `NAME=value`: may be credentials, so never shown. */
  readonly env: readonly string[];
  readonly binds: readonly string[];
  /** Path on the node and in the container. */
  readonly socket: string;
}

type Reporter = (pointer: string, text: string) => void;

/** Folders that hold far more than a plugin's socket, Docker's own among it. */
const shared = new Set(['/', '/etc', '/run', '/tmp', '/var', '/var/lib', '/var/run']);

const spoken = 'services.kube-api.secrets_encryption_config.kms_plugin';

export function kmsPluginsOf(field: unknown): KmsPluginWish[] {
  return entriesOf(field).map((entry) => ({
    image: textOf(entry['image']),
    command: textsOf(entry['command']),
    env: textsOf(entry['env']),
    binds: textsOf(entry['binds']),
    socket: textOf(entry['socket']),
  }));
}

/**
 * The socket folders' binds that kube-apiserver needs beside `extra_binds`, where one of them may mount such a folder
 * already.
 */
export function socketBinds(plugins: readonly KmsPluginWish[], extraBinds: readonly string[]): string[] {
  const mounted = new Set(extraBinds.map((bind) => bindOf(bind).target));
  const folders = new Set(plugins.map(({ socket }) => posix.dirname(socket)));
  return [...folders].filter((folder) => !mounted.has(folder)).map((folder) => `${folder}:${folder}`);
}

/** What the schema cannot tell; mistakes of type are told there and passed over here. */
export function checkKmsPlugins(raw: Readonly<Record<string, unknown>>, report: Reporter): void {
  const { api, encryption: wish } = kubeApiIn(raw);
  const field = wish['kms_plugin'];
  const at = '/services/kube-api/secrets_encryption_config/kms_plugin';
  const sockets = new Set<string>();
  entriesOf(field).forEach((entry, index) => {
    const [pointer, name] = Array.isArray(field) ? [`${at}/${index}`, `${spoken}[${index}]`] : [at, spoken];
    textsOf(entry['env']).forEach((each, i) => {
      // Whatever it is, it may be half of a password.
      if (!/^[^=\s]+=/.test(each)) report(`${pointer}/env/${i}`, `${name}.env[${i}] is not NAME=value`);
    });
    textsOf(entry['binds']).forEach((each, i) => {
      if (/^[^:]+:\/[^:]*(:[^:]*)?$/.test(each)) return;
      report(
        `${pointer}/binds/${i}`,
        `${name}.binds[${i}] is ${JSON.stringify(each)}, not /host/folder:/folder`,
      );
    });
    const socket = textOf(entry['socket']);
    if (socket === '') return;
    const wrong = wrongSocket(socket, [...textsOf(api['extra_binds']), ...textsOf(entry['binds'])]);
    if (wrong !== undefined)
      report(`${pointer}/socket`, `${name}.socket is ${JSON.stringify(socket)}, ${wrong}`);
    else if (sockets.has(socket)) report(`${pointer}/socket`, `two KMS plugins have the socket ${socket}`);
    sockets.add(socket);
  });
}

function wrongSocket(socket: string, binds: readonly string[]): string | undefined {
  const isPath = socket.startsWith('/') && posix.normalize(socket) === socket && !/[:\s]|\/$/.test(socket);
  if (!isPath) return 'not an absolute path such as /var/run/kmsplugin/socket.sock';
  const folder = posix.dirname(socket);
  if (shared.has(folder)) return `which needs a folder of its own: all of ${folder} would be mounted with it`;
  const other = binds.find((bind) => {
    const { source, target } = bindOf(bind);
    return target === folder && source !== folder;
  });
  if (other !== undefined) return `but the bind ${other} mounts something else at ${folder}`;
  return undefined;
}

function entriesOf(field: unknown): Record<string, unknown>[] {
  return [field].flat().filter(isMap);
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [];
}
