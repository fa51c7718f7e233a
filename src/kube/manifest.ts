/** Objects of Kubernetes as people write them: YAML with several documents, and lists. */
import { intYaml11Tag, load, NOT_RESOLVED, YAMLException } from 'js-yaml';
import { parseDocument, yaml11 } from '../config/document.ts';
import { isMap } from '../config/keys.ts';
import { TsrkeError } from '../errors.ts';

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly [key: string]: unknown;
  };
  readonly [key: string]: unknown;
}

export interface Manifest {
  /** Where it stands, for a person: `addons, document 3`. */
  readonly place: string;
  readonly object: KubeObject;
}

/** What is left of an object once it is only to be found again. */
export interface ObjectRef {
  readonly apiVersion: string;
  readonly kind: string;
  /** As written: empty in a namespaced object means `default`. */
  readonly namespace: string;
  readonly name: string;
}

export function refOf({ apiVersion, kind, metadata }: KubeObject): ObjectRef {
  return { apiVersion, kind, namespace: metadata.namespace ?? '', name: metadata.name };
}

/** Two with the same key are one object, whatever the version of its API. */
export function refKey({ apiVersion, kind, namespace, name }: ObjectRef): string {
  const group = apiVersion.includes('/') ? apiVersion.replace(/\/.*$/, '') : '';
  return [group, kind, namespace === '' ? 'default' : namespace, name].join('/');
}

/** `DaemonSet kube-system/kube-flannel`. */
export function nameOfRef({ kind, namespace, name }: ObjectRef): string {
  return `${kind} ${namespace === '' ? '' : `${namespace}/`}${name}`;
}

/**
 * Documents stand between lines of `---`, as kubectl has it; empty ones are left out, lists are taken apart. Throws
 * CONFIG_SYNTAX, or CONFIG_INVALID for a document that is no object of Kubernetes. Values are never quoted: they can be
 * secrets.
 */
export function parseManifests(text: string, source: string): Manifest[] {
  let number = 0;
  return documentsOf(text).flatMap((document) => {
    const value = valueOf(document, source);
    if (value === undefined || value === null) return [];
    number += 1;
    const place = `${source}, document ${number}`;
    return itemsOf(value, place).map((object) => ({ place, object }));
  });
}

/** To Go, which kubectl is written in, `22:22` is a text; in YAML 1.1 it is 1342. */
const schema = yaml11.withTags({
  ...intYaml11Tag,
  resolve: (source, isExplicit, tagName) =>
    source.includes(':') ? NOT_RESOLVED : intYaml11Tag.resolve(source, isExplicit, tagName),
});

/** As kubectl reads it: of a key that stands twice the last one counts. */
function valueOf(document: string, source: string): unknown {
  try {
    return load(document, { schema, json: true });
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    // The same mistake again, in words that quote nothing secret.
    return parseDocument(document, source).value;
  }
}

/** Each with empty lines before it, so that it keeps the line numbers of the whole. */
function documentsOf(text: string): string[] {
  const documents: string[] = [];
  let lines: string[] = [];
  for (const [index, line] of text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .entries()) {
    if (/^---\s*(#.*)?$/.test(line)) {
      documents.push(lines.join('\n'));
      lines = Array.from({ length: index + 1 }, () => '');
    } else lines.push(line);
  }
  return [...documents, lines.join('\n')].filter((document) => /^\s*[^\s#]/m.test(document));
}

function itemsOf(value: unknown, place: string): KubeObject[] {
  if (!isMap(value)) throw invalid(place, 'is not a map with `apiVersion`, `kind` and `metadata`');
  const { apiVersion, kind, metadata, items } = value;
  if (typeof apiVersion !== 'string' || apiVersion === '') throw invalid(place, 'has no `apiVersion`');
  if (typeof kind !== 'string' || kind === '') throw invalid(place, 'has no `kind`');
  if (kind.endsWith('List') && Array.isArray(items)) return items.flatMap((item) => itemsOf(item, place));
  const { name, namespace } = isMap(metadata) ? metadata : {};
  if (typeof name !== 'string' || name === '') {
    throw invalid(place, `(${kind}) has no \`metadata.name\`, without which nothing can be applied`);
  }
  if (namespace !== undefined && namespace !== null && typeof namespace !== 'string') {
    throw invalid(place, `(${kind} ${name}) has a \`metadata.namespace\` that is not a text`);
  }
  return [value as unknown as KubeObject];
}

function invalid(place: string, why: string): TsrkeError {
  return new TsrkeError('CONFIG_INVALID', `${place} ${why}`, { next: 'correct the manifest' });
}
