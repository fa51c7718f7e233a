/**
 * What kube-apiserver 1.24 to 1.37 checks of a decoded provider file, in its order and words
 * (k8s.io/apiserver: apis/apiserver/validation and server/options/encryptionconfig).
 */
import { formatDuration, jsonText, parseUrl, quote } from './go-text.ts';
import type { DecodedFile, DecodedKey, DecodedKms, DecodedProvider } from './strict-decode.ts';

export interface ServerOptions {
  /** Of the Kubernetes version: 24 to 37. */
  readonly minor: number;
  /** --encryption-provider-config-automatic-reload */
  readonly reload: boolean;
  /** --feature-gates=KMSv1=…, from 1.28 on. */
  readonly kmsV1Gate: boolean;
  /** --feature-gates=KMSv2=…, 1.25 to 1.28. */
  readonly kmsV2Gate: boolean;
}

export interface Fault {
  readonly path: string;
  /** Without the path: `Required value: …`, `Invalid value: …: …`. */
  readonly text: string;
  /** What to do about it, where the server's own words leave that open. */
  readonly advice?: string;
}

type Report = (path: string, text: string) => void;

/** Stands for a value that holds keys, where the server would print them. */
export const redacted = 'REDACTED';

/** Every fault that stops the start, each once, as `ToAggregate` leaves them. */
export function validationFaults(file: DecodedFile, options: ServerOptions): readonly Fault[] {
  const faults = new Map<string, Fault>();
  const report: Report = (path, text) => void faults.set(`${path}: ${text}`, { path, text });
  const entries = file.resources ?? [];
  if (entries.length === 0) report('resources', 'Required value: at least one resources is required');
  const kmsNames = new Set<string>();
  entries.forEach((entry, i) => {
    const names = entry.resources ?? [];
    const providers = entry.providers ?? [];
    const at = `resources[${i}]`;
    if (names.length === 0) {
      report(`${at}.resources`, `Required value: at least one ${at}.resources is required`);
    }
    if (options.minor >= 27) {
      overlapFaults(names, `${at}.resources`, options.minor, report);
      names.forEach((name, j) => nameFault(name, `${at}.resources[${j}]`, report));
    }
    if (providers.length === 0) {
      report(`${at}.providers`, `Required value: at least one ${at}.providers is required`);
    }
    providers.forEach((provider, j) => {
      const path = `${at}.providers[${j}]`;
      elementFault(provider, path, report);
      const { kms, aesgcm, aescbc, secretbox } = provider;
      if (kms !== undefined) {
        kmsFaults(kms, `${path}.kms`, kmsNames, options, report);
        kmsNames.add(kms.name ?? '');
      } else if (aesgcm !== undefined) keyFaults(aesgcm.keys, `${path}.aesgcm.keys`, [16, 24, 32], report);
      else if (aescbc !== undefined) keyFaults(aescbc.keys, `${path}.aescbc.keys`, [16, 24, 32], report);
      else if (secretbox !== undefined) keyFaults(secretbox.keys, `${path}.secretbox.keys`, [32], report);
    });
  });
  return [...faults.values()];
}

/** Group and resource of `secrets`, `deployments.apps`, `*.`: what follows the first dot is the group. */
export function groupResource(name: string): { readonly group: string; readonly resource: string } {
  const dot = name.indexOf('.');
  return dot < 0
    ? { group: '', resource: name }
    : { group: name.slice(dot + 1), resource: name.slice(0, dot) };
}

/** From 1.27: at most one fault of each kind per list. */
function overlapFaults(names: readonly string[], path: string, minor: number, report: Report): void {
  const parsed = names.map(groupResource);
  let overlap = false;
  let duplicate = false;
  for (const [i, one] of parsed.entries()) {
    for (const [j, other] of parsed.entries()) {
      if (i === j) continue;
      const sameGroup = one.group === other.group;
      if (sameGroup && one.resource === other.resource && !duplicate) duplicate = true;
      else if (one.group === '*' && one.resource === '*') overlap = true;
      else if (sameGroup && (one.resource === '*' || other.resource === '*')) overlap = true;
    }
  }
  const list = minor >= jsonValues ? jsonText(names) : `[]string{${names.map(quote).join(', ')}}`;
  if (duplicate) {
    report(path, `Invalid value: ${list}: the same resource cannot be specified multiple times`);
  }
  if (overlap) {
    const words =
      "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";
    report(path, `Invalid value: ${list}: ${words}`);
  }
}

/** From this minor on, lists and durations in messages are JSON; before, they are as Go prints them. */
const jsonValues = 34;

const notServed = new Set(['apiserveripinfo', 'serviceipallocations', 'servicenodeportallocations']);

function nameFault(name: string, path: string, report: Report): void {
  const { group, resource } = groupResource(name);
  const words =
    name.toLowerCase() !== name
      ? 'resource name should not contain capital letters'
      : name === '*'
        ? "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
        : notServed.has(name)
          ? 'resources which do not have REST API/s cannot be encrypted'
          : group === 'events.k8s.io'
            ? "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
            : group === 'extensions'
              ? "'extensions' group has been removed and cannot be used for encryption"
              : group === '*' && resource !== '*'
                ? 'encrypting the same resource across groups is not supported'
                : undefined;
  if (words !== undefined) report(path, `Invalid value: ${quote(name)}: ${words}`);
}

function elementFault(provider: DecodedProvider, path: string, report: Report): void {
  const { kms, aesgcm, aescbc, secretbox, identity } = provider;
  const found = [kms, aesgcm, aescbc, secretbox, identity].filter((each) => each !== undefined).length;
  if (found === 1) return;
  const words =
    found === 0
      ? 'provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity'
      : 'more than one provider specified in a single element, should split into different list elements';
  // The server prints the whole element here, with its keys from 1.34 on.
  report(path, `Invalid value: ${quote(redacted)}: ${words}`);
}

function keyFaults(
  keys: readonly DecodedKey[] | undefined,
  path: string,
  lengths: readonly number[],
  report: Report,
): void {
  if (keys === undefined || keys.length === 0) {
    report(path, 'Required value: at least one keys is required');
    return;
  }
  keys.forEach(({ name = '', secret = '' }, k) => {
    const at = `${path}[${k}]`;
    if (name === '') report(`${at}.name`, 'Required value: name is a mandatory field for a key');
    if (secret === '') {
      report(`${at}.secret`, 'Required value: secret is a mandatory field for a key');
      return;
    }
    const bytes = base64Bytes(secret);
    if (bytes === undefined) {
      report(`${at}.secret`, `Invalid value: ${quote(redacted)}: secrets must be base64 encoded`);
    } else if (!lengths.includes(bytes.length)) {
      const words = `secret is not of the expected length, got ${bytes.length}, expected one of [${lengths.join(' ')}]`;
      report(`${at}.secret`, `Invalid value: ${quote(redacted)}: ${words}`);
    }
  });
}

/** Standard base64 with padding; line ends inside do not count, all else does. Undefined where it is not that. */
export function base64Bytes(text: string): Buffer | undefined {
  const packed = text.replace(/[\r\n]/g, '');
  return /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(packed)
    ? Buffer.from(packed, 'base64')
    : undefined;
}

export function kmsVersion(kms: DecodedKms): string {
  return kms.apiVersion === undefined || kms.apiVersion === '' ? 'v1' : kms.apiVersion;
}

function kmsFaults(
  kms: DecodedKms,
  path: string,
  earlier: ReadonlySet<string>,
  { minor, reload }: ServerOptions,
  report: Report,
): void {
  const { name = '', endpoint = '', timeout, cachesize } = kms;
  const version = kmsVersion(kms);
  if (name === '') report(`${path}.name`, 'Required value: name is a mandatory field for a provider');
  if (version !== 'v1' && name.includes(':')) {
    const words = `invalid KMS provider name ${name}, must not contain ':'`;
    report(`${path}.name`, `Invalid value: ${quote(name)}: ${words}`);
  }
  if (minor >= 26 && (reload || version !== 'v1') && earlier.has(name)) {
    const words = `duplicate KMS provider name ${name}, names must be unique`;
    report(`${path}.name`, `Invalid value: ${quote(name)}: ${words}`);
  }
  if (timeout !== undefined && timeout <= 0n) {
    const value =
      minor >= jsonValues ? quote(formatDuration(timeout)) : `v1.Duration{Duration:${timeout.toString()}}`;
    report(`${path}.timeout`, `Invalid value: ${value}: timeout should be a positive value`);
  }
  endpointFault(endpoint, `${path}.endpoint`, report);
  const size = cachesize ?? (minor < 27 || version === 'v1' ? 1000 : undefined);
  if (minor >= 27 && version !== 'v1' && size !== undefined) {
    report(`${path}.cachesize`, `Invalid value: ${size}: cachesize is not supported in v2`);
  }
  if (size === 0 && (minor < 27 || version === 'v1')) {
    const words = 'cachesize should be a positive value, or negative to disable';
    report(`${path}.cachesize`, `Invalid value: 0: ${words}`);
  }
  if (version !== 'v1' && version !== 'v2') {
    const words = 'unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported';
    report(`${path}.apiVersion`, `Invalid value: ${quote(version)}: ${words}`);
  }
}

function endpointFault(endpoint: string, path: string, report: Report): void {
  if (endpoint === '') {
    report(path, 'Invalid value: "": endpoint is a mandatory field for a kms');
    return;
  }
  const url = parseUrl(endpoint);
  if ('wrong' in url) {
    report(path, `Invalid value: ${quote(endpoint)}: invalid endpoint for kms provider, error: ${url.wrong}`);
  } else if (url.scheme !== 'unix') {
    const words = `unsupported scheme ${quote(url.scheme)} for KMS provider, only unix is supported`;
    report(path, `Invalid value: ${quote(endpoint)}: ${words}`);
  }
}

const kmsV1Refused =
  'KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  ' +
  'Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.';
const kmsV1Advice =
  'a kms provider without `apiVersion` is v1: where its plugin speaks v2, write `apiVersion: v2` and leave out `cachesize`, which v2 does not have';

/** The first thing that stops the transformers of a valid file from being built; undefined where nothing does. */
export function buildFault(file: DecodedFile, options: ServerOptions): Fault | undefined {
  const earlier = new Set<string>();
  for (const [i, entry] of (file.resources ?? []).entries()) {
    for (const [j, { kms }] of (entry.providers ?? []).entries()) {
      if (kms === undefined) continue;
      const path = `resources[${i}].providers[${j}].kms`;
      const v1 = kmsVersion(kms) === 'v1';
      if (v1 && options.minor >= 28 && !options.kmsV1Gate) {
        return { path, text: kmsV1Refused, advice: kmsV1Advice };
      }
      if (!v1 && options.minor <= 28 && !options.kmsV2Gate) {
        const text = `could not configure KMSv2 plugin ${quote(kms.name ?? '')}, KMSv2 feature is not enabled`;
        return { path, text };
      }
    }
    if (options.minor < 27) continue;
    for (const [j, name] of (entry.resources ?? []).entries()) {
      const { group } = groupResource(name);
      const mask = [`*.${group}`, '*.*'].find((pattern) => earlier.has(pattern));
      if (mask !== undefined) {
        const spoken = group === '' && name.endsWith('.') && !name.startsWith('*') ? name.slice(0, -1) : name;
        const text = `resource ${quote(spoken)} is masked by earlier rule ${quote(mask)}`;
        return { path: `resources[${i}].resources[${j}]`, text };
      }
      const { resource } = groupResource(name);
      earlier.add(`${resource}.${group}`);
    }
  }
  return undefined;
}
