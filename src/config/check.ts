/** What is wrong with a cluster.yml: one sentence per mistake, with its place. Values that may be secret are not told. */
import { Ajv } from 'ajv';
import type { ErrorObject } from 'ajv';
import { escapePointer } from './document.ts';
import type { Document } from './document.ts';
import { excerpt } from './excerpt.ts';
import { clusterSchema, isMap, kubeApiIn, schemaOf, takesText } from './keys.ts';
import type { Schema } from './keys.ts';
import { checkKmsPlugins } from './kms-plugins.ts';
import { checkRules } from './rules.ts';

const validate = new Ajv({
  ...{ allErrors: true, allowUnionTypes: true, verbose: true },
  // What these leave out takes a tenth of a second of every command, for a check that takes a millisecond. That the
  // schema is one is for the tests to say.
  ...{ code: { optimize: false }, inlineRefs: false, meta: false, validateSchema: false },
}).compile(clusterSchema);

export function check(
  raw: Record<string, unknown>,
  document: Document,
  ignoreUnknownKeys: boolean,
): string[] {
  const found: { pointer: string; text: string }[] = [];
  const report = (pointer: string, text: string) => void found.push({ pointer, text });

  validate(withoutEmpty(raw, clusterSchema));
  for (const error of validate.errors ?? []) {
    if (error.keyword === 'additionalProperties') {
      const key = String(error.params['additionalProperty']);
      if (!ignoreUnknownKeys) report(`${error.instancePath}/${escapePointer(key)}`, unknownKey(key, error));
    } else if (error.keyword !== 'minItems') {
      // An empty list of nodes or roles is told below, in better words.
      report(error.instancePath, wrongValue(error));
    }
  }
  checkNodes(raw, report);
  checkBastion(raw, report);
  checkEncryption(raw, report);
  checkKmsPlugins(raw, report);
  checkRules(raw, report);

  return found
    .map(({ pointer, text }) => ({ place: document.place(pointer), text }))
    .sort((a, b) => a.place.localeCompare(b.place, 'en', { numeric: true }))
    .map(({ place, text }) => `${place}: ${text}`);
}

/** Null and empty text mean "not set" wherever RKE reads text, also where only some words are allowed. */
function withoutEmpty(value: unknown, schema: Schema | undefined): unknown {
  if (Array.isArray(value)) return value.map((item) => withoutEmpty(item, schema?.items));
  if (!isMap(value)) return value;
  const told = Object.entries(value).filter(([key, item]) => {
    const child = schema && schemaOf(schema, key);
    const known = child !== undefined || schema?.additionalProperties !== false;
    const unset = item === null || (item === '' && child !== undefined && (takesText(child) || child.enum));
    return !(known && unset);
  });
  return Object.fromEntries(
    told.map(([key, item]) => [key, withoutEmpty(item, schema && schemaOf(schema, key))]),
  );
}

type Reporter = (pointer: string, text: string) => void;

function checkNodes(raw: Record<string, unknown>, report: Reporter): void {
  const nodes = Array.isArray(raw['nodes'])
    ? raw['nodes'].map((node: unknown) => (isMap(node) ? node : {}))
    : [];
  const addresses = new Map<string, number>();
  const names = new Map<string, number>();
  nodes.forEach((node, index) => {
    const at = `/nodes/${index}`;
    for (const key of ['address', 'user', 'role']) {
      const value = node[key];
      if (Array.isArray(value) && value.length === 0)
        report(`${at}/${key}`, `\`${key}\` of nodes[${index}] is empty`);
    }
    checkPort(node['port'], `${at}/port`, report);

    const address = typeof node['address'] === 'string' ? node['address'] : '';
    const override = typeof node['hostname_override'] === 'string' ? node['hostname_override'] : '';
    const name = (override === '' ? address : override).toLowerCase();
    const twin = addresses.get(address);
    const namesake = names.get(name);
    if (address !== '' && twin !== undefined) {
      report(`${at}/address`, `nodes[${index}] has the same \`address\` ${address} as nodes[${twin}]`);
    } else if (address !== '') {
      addresses.set(address, index);
    }
    if (name !== '' && namesake !== undefined && (override !== '' || twin === undefined)) {
      const key = override === '' ? 'address' : 'hostname_override';
      report(`${at}/${key}`, `nodes[${index}] has the same name ${name} (\`${key}\`) as nodes[${namesake}]`);
    } else if (name !== '' && namesake === undefined) {
      names.set(name, index);
    }
  });
  const isControlPlane = (node: Record<string, unknown>) =>
    Array.isArray(node['role']) && node['role'].includes('controlplane');
  if (Array.isArray(raw['nodes']) && !nodes.some(isControlPlane))
    report('/nodes', 'no node has the role `controlplane`');
}

function checkBastion(raw: Record<string, unknown>, report: Reporter): void {
  const bastion = raw['bastion_host'];
  if (!isMap(bastion) || bastion['address'] === undefined || bastion['address'] === null) return;
  if (bastion['address'] === '') return;
  checkPort(bastion['port'], '/bastion_host/port', report);
  if (typeof bastion['user'] !== 'string' || bastion['user'] === '') {
    report('/bastion_host', '`user` of bastion_host is missing');
  }
}

function checkPort(port: unknown, pointer: string, report: Reporter): void {
  if (typeof port !== 'string' || port === '') return;
  if (!/^\d+$/.test(port) || Number(port) < 1 || Number(port) > 65535) {
    report(pointer, `\`port\` is ${JSON.stringify(port)}, not a number from 1 to 65535`);
  }
}

/**
 * RKE would let the argument win over the file it manages, and then rotate a key that nobody uses. Automatic reload
 * alone is the user's choice, but kube-apiserver does not start with it while there is no file.
 */
function checkEncryption(raw: Record<string, unknown>, report: Reporter): void {
  const { api, encryption: wish } = kubeApiIn(raw);
  const reload = wish['reload'];
  for (const section of ['extra_args', 'extra_args_array']) {
    const args = isMap(api[section]) ? api[section] : {};
    for (const [key, value] of Object.entries(args)) {
      // kube-apiserver reads `_` in the name of an argument as `-`.
      const name = key.replaceAll('_', '-');
      const pointer = `/services/kube-api/${section}/${escapePointer(key)}`;
      if (name === 'encryption-provider-config') {
        report(
          pointer,
          `\`${key}\` in services.kube-api.${section} takes encryption out of tsrke's hands: ` +
            'remove it, and move the content of that file to ' +
            '`services.kube-api.secrets_encryption_config.custom_config`',
        );
      }
      if (name !== 'encryption-provider-config-automatic-reload') continue;
      const isOff = [value].flat().every((one) => one === 'false');
      if (isOff ? reload === 'automatic' : reload === 'restart') {
        report(
          pointer,
          `\`${key}\` in services.kube-api.${section} says otherwise than \`reload: ${isOff ? 'automatic' : 'restart'}\` in ` +
            '`services.kube-api.secrets_encryption_config`: remove one of them',
        );
        continue;
      }
      if (isOff || wish['enabled'] === true) continue;
      report(
        pointer,
        `\`${key}\` in services.kube-api.${section} keeps kube-apiserver from starting while encryption is off: ` +
          'remove it, or set `enabled: true` in `services.kube-api.secrets_encryption_config`',
      );
    }
  }
}

function wrongValue(error: ErrorObject): string {
  const where = spoken(error.instancePath);
  switch (error.keyword) {
    case 'required':
      return `\`${String(error.params['missingProperty'])}\`${where === '' ? '' : ` of ${where}`} is missing`;
    case 'enum': {
      const allowed = (error.params['allowedValues'] as unknown[]).filter(
        (value) => value !== '' && value !== null,
      );
      const value = typeof error.data === 'string' ? JSON.stringify(error.data) : kind(error.data);
      return `${where} is ${value}, not one of ${allowed.join(', ')}`;
    }
    case 'type': {
      const types = [error.params['type'] as string | string[]].flat();
      return `${where} is ${kind(error.data)}, not ${wanted(types)}`;
    }
    case 'pattern': {
      const { examples = [] } = error.parentSchema as Schema;
      return `${where} is ${JSON.stringify(error.data)}, not in a form such as ${examples.join(' or ')}`;
    }
    default:
      return `${where} ${error.message ?? 'is wrong'}`;
  }
}

function wanted(types: readonly string[]): string {
  if (types[0] === 'string') return 'text';
  if (types.includes('string')) return 'a number or text';
  if (types.includes('object')) return 'a map';
  if (types.includes('array')) return 'a list';
  if (types.includes('boolean')) return 'true or false';
  return types.includes('integer') ? 'a whole number' : 'a number';
}

function kind(value: unknown): string {
  if (value === null || value === undefined) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'string') return 'text';
  if (typeof value === 'boolean') return String(value);
  return typeof value === 'number' ? 'a number' : 'a map';
}

/** `/nodes/0/address` as the user would say it: `nodes[0].address`. */
function spoken(pointer: string): string {
  const words = pointer
    .slice(1)
    .replace(/\/(\d+)(?=\/|$)/g, '[$1]')
    .replaceAll('/', '.');
  return words.replaceAll('~1', '/').replaceAll('~0', '~');
}

function unknownKey(written: string, error: ErrorObject): string {
  // A forgotten colon makes a key of a whole line, with the password on it.
  const key = /^[\w./-]{1,64}$/.test(written) ? written : excerpt(written);
  const near = nearest(key, Object.keys((error.parentSchema as Schema).properties ?? {}));
  const where = error.instancePath === '' ? '' : ` in ${spoken(error.instancePath)}`;
  if (near !== undefined) return `unknown key \`${key}\`${where}; did you mean \`${near}\`?`;
  const homes = homesOf(key, clusterSchema, '').filter((home) => home !== '');
  if (homes.length === 1 && homes[0] !== undefined)
    return `unknown key \`${key}\`${where}; it belongs in ${homes[0]}`;
  return `unknown key \`${key}\`${where}`;
}

function homesOf(key: string, schema: Schema, path: string): string[] {
  const own = schema.properties ?? {};
  const here = Object.hasOwn(own, key) ? [path] : [];
  const below = Object.keys(own).flatMap((name) => {
    const child = schemaOf(schema, name) ?? {};
    const childPath = path === '' ? name : `${path}.${name}`;
    return child.items ? homesOf(key, child.items, `${childPath}[]`) : homesOf(key, child, childPath);
  });
  return [...here, ...below];
}

function nearest(key: string, known: readonly string[]): string | undefined {
  const plain = (word: string) => word.toLowerCase().replace(/[-_]/g, '');
  const ranked = known
    .map((name) => ({ name, distance: distance(plain(key), plain(name)) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best !== undefined && best.distance <= Math.max(1, Math.floor(key.length / 4))
    ? best.name
    : undefined;
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, swap));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
