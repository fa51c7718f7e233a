/** What cluster.yml asks of encryption, and the provider files that answer it. Pure. */
import { TsrkeError } from '../errors.ts';
import { localKeysOf, parseProviderFile, sameMeaning, type ProviderFile } from './configuration.ts';
import { namedKey, type Key, type LocalProvider } from './key.ts';

export type Wanted =
  | { readonly kind: 'off' }
  /** One key that tsrke makes, keeps and rotates; RKE's own is aescbc for `secrets`. */
  | { readonly kind: 'managed'; readonly provider: LocalProvider; readonly resources: readonly string[] }
  /** A provider file of the user's own as JSON text; keys in it may leave out `secret`: tsrke makes those. */
  | { readonly kind: 'custom'; readonly text: string };

export type Managed = Extract<Wanted, { kind: 'managed' }>;

/** What a file that tsrke or RKE manages was made for; undefined for any other. */
export function managedShape(file: ProviderFile): Managed | undefined {
  const [entry, ...others] = file.entries;
  if (entry === undefined || others.length > 0) return undefined;
  const kinds = new Set(entry.providers.map(({ kind }) => kind));
  kinds.delete('identity');
  const [provider, ...further] = kinds;
  if (provider === undefined || provider === 'identity' || provider === 'kms' || further.length > 0) {
    return undefined;
  }
  return { kind: 'managed', provider, resources: entry.resources };
}

export function sameShape(a: Managed | undefined, b: Managed): boolean {
  if (a?.provider !== b.provider) return false;
  return a.resources.toSorted().join() === b.resources.toSorted().join();
}

/** A key of custom_config without `secret`: tsrke's generations of it are called `NAME`, `NAME-2`, `NAME-3`, … */
interface Slot {
  readonly provider: LocalProvider;
  readonly name: string;
  /** It writes for the resources of its entry. */
  readonly writes: boolean;
}

export interface Resolved {
  readonly file: ProviderFile;
  readonly minted: boolean;
  /** Whether a write key is one that tsrke makes, and can therefore rotate. */
  readonly rotatable: boolean;
}

export interface ResolveOptions {
  /** Keys that may be taken, the likeliest first: of the open transition, in force, in the ring and not retired. */
  readonly known: readonly Key[];
  /** Every key there ever was: their names are not used again. */
  readonly ever: readonly Key[];
  /** Makes each write key anew. */
  readonly rotate: boolean;
  readonly newKey: (provider: LocalProvider, name: string) => Key;
}

/** The custom file with a secret for every key. Throws PROVIDER_FILE_INVALID. */
export function resolveCustom(text: string, options: ResolveOptions): Resolved {
  const { text: complete, ...rest } = completed(text, options);
  return { file: parseProviderFile(complete, 'custom_config'), ...rest };
}

/** The text with a throwaway secret where one is left out: what a validator can judge without a state. */
export function completedForJudgement(text: string): string {
  return completed(text, { known: [], ever: [], rotate: false, newKey: namedKey }).text;
}

function completed(
  text: string,
  options: ResolveOptions,
): { readonly text: string; readonly minted: boolean; readonly rotatable: boolean } {
  let minted = false;
  let rotatable = false;
  const fill = (slot: Slot): Key => {
    const mine = ({ provider, name }: Key) => provider === slot.provider && generation(slot.name, name) > 0;
    const newest = (keys: readonly Key[]) =>
      keys.filter(mine).toSorted((a, b) => generation(slot.name, b.name) - generation(slot.name, a.name))[0];
    rotatable ||= slot.writes;
    const found = newest(options.known);
    if (found !== undefined && !(options.rotate && slot.writes)) return found;
    const last = newest(options.ever);
    const number = last === undefined ? 1 : generation(slot.name, last.name) + 1;
    minted = true;
    return options.newKey(slot.provider, number === 1 ? slot.name : `${slot.name}-${number}`);
  };
  const document = JSON.parse(text) as { resources?: unknown };
  for (const entry of listOf(document.resources)) {
    listOf(fieldOf(entry, 'providers')).forEach((element, first) => {
      for (const provider of ['aescbc', 'aesgcm', 'secretbox'] as const) {
        listOf(fieldOf(fieldOf(element, provider), 'keys')).forEach((key, second) => {
          if (!isMap(key) || typeof key['name'] !== 'string' || key['secret'] !== undefined) return;
          const made = fill({ provider, name: key['name'], writes: first === 0 && second === 0 });
          key['name'] = made.name;
          key['secret'] = made.secret.reveal();
        });
      }
    });
  }
  return { text: JSON.stringify(document, undefined, 2), minted, rotatable };
}

/** 1 for NAME, n for NAME-n, 0 for another key. */
function generation(slot: string, name: string): number {
  if (name === slot) return 1;
  const number = name.startsWith(`${slot}-`) ? Number(name.slice(slot.length + 1)) : 0;
  return Number.isInteger(number) && number > 1 ? number : 0;
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function fieldOf(value: unknown, name: string): unknown {
  return isMap(value) ? value[name] : undefined;
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

/** Whether the file, with the keys it holds itself, is what is wanted. */
export function answers(file: ProviderFile, wanted: Wanted): boolean {
  switch (wanted.kind) {
    case 'off':
      return file.entries.length === 0;
    case 'managed':
      return localKeysOf(file).length === 1 && sameShape(managedShape(file), wanted);
    case 'custom': {
      const known = localKeysOf(file);
      const newKey = (): Key => {
        throw new Missing();
      };
      try {
        const { file: resolved } = resolveCustom(wanted.text, { known, ever: known, rotate: false, newKey });
        return sameMeaning(resolved, file);
      } catch (error) {
        if (error instanceof Missing) return false;
        throw error;
      }
    }
  }
}

class Missing extends Error {}

/** How to rotate what tsrke does not make the keys of. */
export function notRotatable(): TsrkeError {
  return new TsrkeError(
    'NOT_ROTATABLE',
    'the secret of the write key stands in cluster.yml, so tsrke cannot make another one',
    {
      next: 'write a new key with a new name into custom_config in place of the old one and run `tsrke up`: it keeps the old one readable until etcd shows no need. Or leave `secret` out: then tsrke makes the key and rotates it',
    },
  );
}
