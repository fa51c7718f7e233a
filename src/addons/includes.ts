/** The manifests of `addons_include`: files beside cluster.yml, and what URLs answer. */
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { EnvHttpProxyAgent, fetch } from 'undici';
import { TsrkeError } from '../errors.ts';

export interface Include {
  /** For a person; of a URL without what may be a password. */
  readonly place: string;
  readonly text: string;
}

const timeout = 30_000;

/**
 * All of them, before anything is touched. Paths are taken from the folder of cluster.yml. Throws CONFIG_UNREADABLE for
 * one that cannot be had.
 */
export async function readIncludes(
  configPath: string,
  includes: readonly string[],
  signal: AbortSignal,
): Promise<Include[]> {
  const read: Include[] = [];
  for (const include of includes) {
    read.push(
      /^https?:\/\//i.test(include)
        ? await download(include, signal)
        : await readBeside(configPath, include, signal),
    );
  }
  return read;
}

async function readBeside(configPath: string, path: string, signal: AbortSignal): Promise<Include> {
  try {
    const text = await readFile(resolve(dirname(configPath), path), { encoding: 'utf8', signal });
    return { place: path, text };
  } catch (cause) {
    signal.throwIfAborted();
    throw unreadable(path, { cause });
  }
}

async function download(address: string, signal: AbortSignal): Promise<Include> {
  const place = shown(address);
  // HTTP_PROXY and its kin, as RKE takes them.
  const dispatcher = new EnvHttpProxyAgent();
  try {
    const url = new URL(address);
    const { username, password } = url;
    url.username = '';
    url.password = '';
    const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    const answer = await fetch(url, {
      dispatcher,
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeout)]),
      headers: username === '' ? {} : { authorization: `Basic ${Buffer.from(login).toString('base64')}` },
    });
    if (!answer.ok) throw unreadable(place, { cause: new Error(`the server answered ${answer.status}`) });
    return { place, text: await answer.text() };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof TsrkeError) throw error;
    throw unreadable(place, { cause: error });
  } finally {
    await dispatcher.destroy();
  }
}

function shown(address: string): string {
  return address.replace(/[?#].*$/s, '').replace(/^(https?:\/\/)[^/]*@/i, '$1');
}

function unreadable(place: string, { cause }: { cause: unknown }): TsrkeError {
  return new TsrkeError('CONFIG_UNREADABLE', `addons_include: ${place} cannot be read`, {
    cause,
    next: 'correct `addons_include` in cluster.yml; nothing was touched',
  });
}
