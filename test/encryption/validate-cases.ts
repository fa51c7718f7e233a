/**
 * Invalid and odd provider files, with the verdict and the words of each Kubernetes version. test/encryption checks
 * ours against them, test/oracle checks kube-apiserver's own code.
 */
import { nodeFile, type Case } from './validate-cases/builders.ts';
import { ofEntries } from './validate-cases/entries.ts';
import { ofFiles } from './validate-cases/files.ts';
import { ofKms } from './validate-cases/kms.ts';

export { nodeFile, type Case };

/** The whole of what kube-apiserver 1.`minor` prints; undefined where it starts. */
export function expected({ says }: Case, minor: number): string | undefined {
  const [, stage, words = ''] = says.findLast(([from]) => from <= minor) ?? [0, 'accepted'];
  const old = minor < 26 ? `error while parsing encryption provider configuration file "${nodeFile}": ` : '';
  const decoding = minor < 27 ? '' : `error decoding encryption provider configuration file "${nodeFile}": `;
  switch (stage) {
    case 'accepted':
      return undefined;
    case 'loading':
      return `${old}error while parsing file: ${minor < 29 ? '' : 'error while loading file: '}${words}`;
    case 'parsing':
      return `${old}error while parsing file: ${words}`;
    case 'decoding':
      return `${old}error while parsing file: ${decoding}${words}`;
    case 'building':
      return `${minor < 26 ? old : 'error while building transformers: '}${words}`;
  }
}

export const cases: readonly Case[] = [...ofFiles, ...ofEntries, ...ofKms];
