import { createHash } from 'node:crypto';

/** MD5 in hex, as RKE has it in the environment of containers: it tells files apart, it protects nothing. */
export function checksum(text: string): string {
  return createHash('md5').update(text).digest('hex');
}
