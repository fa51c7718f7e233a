/**
 * A line of a broken cluster.yml for a message. Nobody can tell which part of broken YAML is a secret, so only words
 * that every cluster.yml may have are shown, and the signs between them: those are what is wrong with a syntax.
 */
import { clusterSchema } from './keys.ts';
import type { Schema } from './keys.ts';

/** Words of an EncryptionConfiguration, which the schema leaves open, and of YAML. */
const words = new Set(
  'apiVersion kind resources providers secrets configmaps aescbc aesgcm secretbox kms identity keys name secret true false null yes no'.split(
    ' ',
  ),
);
collect(clusterSchema);

function collect(schema: Schema): void {
  for (const [key, inner] of Object.entries(schema.properties ?? {})) {
    words.add(key);
    collect(inner);
  }
  for (const value of schema.enum ?? []) if (typeof value === 'string') words.add(value);
  if (schema.items !== undefined) collect(schema.items);
  if (typeof schema.additionalProperties === 'object') collect(schema.additionalProperties);
}

/** The line with `…` for every word that is not one of cluster.yml's own. */
export function excerpt(line: string): string {
  return line.replace(/[^\s,:[\]{}"'#&*!|>%@`]+/g, (word) =>
    words.has(word) || /^-+$/.test(word) ? word : '…',
  );
}

/** js-yaml's reason, without what it quotes: to YAML a password that begins with `*` or `!` is an alias or a tag. */
export function withoutQuotes(reason: string): string {
  // What is quoted may hold quotes itself: from the first to the last.
  return reason.replace(/".*"/s, '"…"').replace(/!\S+/g, '!…');
}
