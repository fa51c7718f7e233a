/** Files between two files: more read keys, the same writers, and still something that kube-apiserver accepts. */
import { TsrkeError } from '../errors.ts';
import {
  entriesOf,
  identity,
  keysOf,
  resourcesOf,
  writeKeyOf,
  type Entry,
  type KeyRef,
  type KmsProvider,
  type Provider,
  type ProviderFile,
} from './configuration.ts';
import { isWildcard } from './pattern.ts';

/**
 * The file with more read keys; what it writes with stays. A key goes into the provider element of its kind where
 * there is one, else into an element of its own: behind all others (`last`) or right behind the first (`second`).
 * Resources that the file does not speak of get an entry that writes as before (`identity`).
 * Throws KEY_CONFLICT where one name would stand for two keys of one resource, or where no file can exist.
 */
export function withReadKeys(
  file: ProviderFile,
  needed: (resource: string) => readonly KeyRef[],
  resources: readonly string[],
  place: 'last' | 'second',
): ProviderFile {
  // Where only some of an entry's resources need a KMS provider, the entry is split: shared with a resource that does
  // not need it, it could stand in the way of that one's order.
  const split = file.entries.flatMap((entry) => splitByKms(entry, file, needed));
  const wanted = new Map<Entry, Map<string, KeyRef>>();
  const more = new Map<string, More>();
  const all = [...new Set([...resourcesOf(file), ...resources])];
  for (const resource of all) {
    const lacking = lackingOf(file, resource, needed);
    if (lacking.length === 0) continue;
    // The last one: what is added goes behind all that writes.
    const present = entriesOf({ entries: split }, resource);
    const entry = present.at(-1);
    const apart = entry !== undefined && standsApart(resource, lacking, entry, file, needed);
    if (entry !== undefined && !apart) {
      const found = wanted.get(entry) ?? new Map<string, KeyRef>();
      for (const ref of lacking) found.set(ref.id, ref);
      wanted.set(entry, found);
      continue;
    }
    // A wildcard that shares a list with another name would mask it.
    const from = entry === undefined ? '' : entry.resources.join();
    const alike = isWildcard(resource) ? resource : [from, ...lacking.map((ref) => ref.id)].join();
    const providers = entry === undefined ? [identity.provider] : present.flatMap((each) => each.providers);
    const group = more.get(alike) ?? { resources: [], providers, refs: lacking };
    group.resources.push(resource);
    more.set(alike, group);
  }
  const entries = split.map((entry): Entry => {
    const refs = [...(wanted.get(entry)?.values() ?? [])];
    return { resources: entry.resources, providers: refs.reduce(added(place), entry.providers) };
  });
  const additional = [...more.values()].map(({ resources: names, providers, refs }): Entry => {
    return { resources: names, providers: refs.reduce(added('last'), providers) };
  });
  const result = withUniqueKms({ entries: bySpecificity([...entries, ...additional]) });
  for (const resource of all) {
    const sameWriter = writeKeyOf(result, resource).id === writeKeyOf(file, resource).id;
    if (!sameWriter || lackingOf(result, resource, needed).length > 0) throw noSuchFile(resource);
  }
  return result;
}

/** An entry to be made: for resources that none speaks of yet, or that leave a wildcard's. */
interface More {
  readonly resources: string[];
  readonly providers: readonly Provider[];
  readonly refs: readonly KeyRef[];
}

/**
 * A resource that alone of all that a wildcard covers needs a KMS provider gets an entry of its own: that name may stand
 * only once, and other resources may need it elsewhere. Not where the wildcard's own providers cannot be copied either.
 */
function standsApart(
  resource: string,
  lacking: readonly KeyRef[],
  entry: Entry,
  file: ProviderFile,
  needed: (resource: string) => readonly KeyRef[],
): boolean {
  const [wildcard] = entry.resources;
  if (wildcard === undefined || entry.resources.includes(resource)) return false;
  if (entry.providers.some(({ kind }) => kind === 'kms')) return false;
  const alike = new Set(lackingOf(file, wildcard, needed).map(({ id }) => id));
  return lacking.some(({ id, provider }) => provider.kind === 'kms' && !alike.has(id));
}

function lackingOf(
  file: ProviderFile,
  resource: string,
  needed: (resource: string) => readonly KeyRef[],
): KeyRef[] {
  const lacking = new Map(needed(resource).map((ref) => [ref.id, ref]));
  for (const { id } of keysOf(file, resource)) lacking.delete(id);
  return [...lacking.values()];
}

function splitByKms(
  entry: Entry,
  file: ProviderFile,
  needed: (resource: string) => readonly KeyRef[],
): Entry[] {
  const parts = new Map<string, string[]>();
  for (const resource of entry.resources) {
    const kms = lackingOf(file, resource, needed).filter(({ provider }) => provider.kind === 'kms');
    const alike = kms
      .map(({ id }) => id)
      .toSorted()
      .join();
    parts.set(alike, [...(parts.get(alike) ?? []), resource]);
  }
  return [...parts.values()].map((resources) => ({ resources, providers: entry.providers }));
}

function noSuchFile(resource: string): TsrkeError {
  return new TsrkeError(
    'KEY_CONFLICT',
    `no provider file can lead there for ${resource}: KMS names may stand in it only once`,
    {
      next: 'go there in two edits: first move these resources to a local key or to another KMS name, then to the one you want',
    },
  );
}

/** kube-apiserver refuses a name that comes after a wildcard which covers it; otherwise the order stays. */
function bySpecificity(entries: readonly Entry[]): Entry[] {
  const rank = (entry: Entry) =>
    entry.resources.includes('*.*') ? 2 : entry.resources.some(isWildcard) ? 1 : 0;
  return entries.toSorted((a, b) => rank(a) - rank(b));
}

/**
 * A KMS provider's name may stand once in a file. Where several entries need it, they share one entry that holds
 * nothing else: lists of one resource are concatenated, so what writes with something else comes before it, and the
 * rest of what writes with it behind it. Throws KEY_CONFLICT where two names would each have to come first.
 */
function withUniqueKms(file: ProviderFile): ProviderFile {
  const holders = new Map<string, Entry[]>();
  for (const entry of file.entries) {
    for (const provider of entry.providers) {
      if (provider.kind !== 'kms') continue;
      const same = holders.get(provider.name) ?? [];
      expectSameKms(provider, same);
      holders.set(provider.name, [...same, entry]);
    }
  }
  const shared = new Map([...holders].filter(([, entries]) => entries.length > 1));
  if (shared.size === 0) return file;
  const isShared = (provider: Provider | undefined): provider is KmsProvider =>
    provider?.kind === 'kms' && shared.has(provider.name);
  const wild = [...shared].find(([, entries]) => entries.some(({ resources }) => resources.some(isWildcard)));
  if (wild !== undefined) throw noSuchFile(wild[1].flatMap(({ resources }) => resources).join(', '));

  const rest = (entry: Entry): Entry[] => {
    const providers = entry.providers.filter((provider) => !isShared(provider));
    return providers.length === 0 ? [] : [{ resources: entry.resources, providers }];
  };
  const own = [...shared].map(([name, entries]): Entry => {
    const kms = entries
      .flatMap(({ providers }) => providers)
      .filter((each) => isShared(each) && each.name === name);
    return {
      resources: [...new Set(entries.flatMap(({ resources }) => resources))],
      providers: kms.slice(0, 1),
    };
  });
  const writers = file.entries.filter(({ providers: [first] }) => isShared(first));
  const nameOf = (entry: Entry) => entry.providers.find(isShared)?.name;
  /** Whether some resource writes with `a` and reads with `b`. */
  const before = (a: Entry, b: Entry) =>
    writers.some((entry) => {
      return nameOf(entry) === nameOf(a) && entry.resources.some((each) => b.resources.includes(each));
    });
  const ordered: Entry[] = [];
  while (ordered.length < own.length) {
    const left = own.filter((entry) => !ordered.includes(entry));
    const next = left.find((entry) => left.every((other) => other === entry || !before(other, entry)));
    if (next === undefined) throw noSuchFile(left.flatMap(({ resources }) => resources).join(', '));
    ordered.push(next);
  }
  const others = file.entries.filter((entry) => !writers.includes(entry));
  return { entries: bySpecificity([...others.flatMap(rest), ...ordered, ...writers.flatMap(rest)]) };
}

function expectSameKms(provider: KmsProvider, entries: readonly Entry[]): void {
  const others = entries.flatMap(({ providers }) => providers).filter((each) => each.kind === 'kms');
  const other = others.find(({ name }) => name === provider.name);
  if (other === undefined) return;
  if (other.endpoint === provider.endpoint && other.apiVersion === provider.apiVersion) return;
  const both = other.apiVersion === provider.apiVersion ? 'two different plugins' : 'KMS v1 and v2';
  throw new TsrkeError('KEY_CONFLICT', `the name ${provider.name} would stand for ${both}`, {
    next: 'no provider file can hold both: give the new one a name of its own in cluster.yml',
  });
}

function added(place: 'last' | 'second') {
  return (providers: readonly Provider[], ref: KeyRef): readonly Provider[] => {
    const { provider } = ref;
    const [key] = provider.kind === 'identity' || provider.kind === 'kms' ? [] : provider.keys;
    if (key !== undefined) {
      const at = providers.findIndex((each) => each.kind === provider.kind);
      const element = providers[at];
      if (element !== undefined && element.kind !== 'identity' && element.kind !== 'kms') {
        if (element.keys.some((each) => each.name === key.name)) {
          throw new TsrkeError('KEY_CONFLICT', `two different keys are both called ${ref.stored}`, {
            next: 'no provider file can hold both; restore the state file that has the right one, or rotate from it first',
          });
        }
        return providers.toSpliced(at, 1, { kind: element.kind, keys: [...element.keys, key] });
      }
    }
    return providers.toSpliced(place === 'second' ? 1 : providers.length, 0, provider);
  };
}
