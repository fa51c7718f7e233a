/** The folder of certificates, requests and keys that the user's own CA works with (`--cert-dir`). */
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { TsrkeError } from '../errors.ts';
import { readKey } from './certificate.ts';
import type { MadeRequest, Requested } from './request.ts';

/** `DIR/NAME_certs`, beside cluster.yml, as RKE has it. */
export function certDirOf(configPath: string): string {
  return join(dirname(configPath), `${basename(configPath, extname(configPath))}_certs`);
}

/** The text of a file in the folder; undefined: there is none. Throws CERTIFICATES_INVALID. */
export function certDirReader(dir: string): (file: string) => string | undefined {
  if (!statSync(dir, { throwIfNoEntry: false })?.isDirectory()) {
    throw new TsrkeError('CERTIFICATES_INVALID', `there is no folder ${dir} with certificates`, {
      next: 'name it with --cert-dir; `tsrke cert generate-csr` makes it, with requests for all that is needed',
    });
  }
  return (file) => readIfThere(join(dir, file));
}

/** What the folder holds for one certificate. Throws CERTIFICATES_INVALID for a key that is none: it is not replaced. */
export function requestedIn(dir: string, name: string): Requested {
  const keyPath = join(dir, `${name}-key.pem`);
  const key = readIfThere(keyPath);
  if (key !== undefined && readKey(key) === undefined) {
    throw new TsrkeError('CERTIFICATES_INVALID', `${keyPath} is not an RSA key in PEM without a passphrase`, {
      next: 'correct it, or move it away; then run the same command again',
    });
  }
  return { request: readIfThere(join(dir, `${name}-csr.pem`)), key };
}

/** Each file whole or not at all, the key first, mode 0600. Throws STATE_WRITE. */
export async function writeRequests(dir: string, made: readonly MadeRequest[]): Promise<void> {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    for (const { name, request, key } of made) {
      if (key !== undefined) await writeFileAtomic(join(dir, `${name}-key.pem`), key, { mode: 0o600 });
      await writeFileAtomic(join(dir, `${name}-csr.pem`), request, { mode: 0o600 });
    }
  } catch (cause) {
    throw new TsrkeError('STATE_WRITE', `requests could not be written to ${dir}`, {
      cause,
      next: 'make room or give write permission there, then run the same command again',
    });
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new TsrkeError('CERTIFICATES_INVALID', `${path} cannot be read`, { cause });
  }
}
