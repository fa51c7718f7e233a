/** What is wrong with a provider file although kube-apiserver starts with it: read keys nobody can tell apart, gaps. */
import { base64Bytes, groupResource, kmsVersion } from './server-rules.ts';
import {
  shown,
  type Decoded,
  type DecodedFile,
  type DecodedKey,
  type DecodedProvider,
} from './strict-decode.ts';

export interface Finding {
  /** As in the server's messages: `resources[0].providers[1].aescbc.keys[0].name`; empty for the file as a whole. */
  readonly path: string;
  readonly severity: 'error' | 'warning';
  readonly text: string;
}

type Report = (severity: Finding['severity'], path: string, text: string) => void;

/** Of an accepted file. No text holds a value of a secret. */
export function findingsOf({ file, stray }: Decoded, minor: number): Finding[] {
  const findings: Finding[] = [];
  const report: Report = (severity, path, text) => void findings.push({ path, severity, text });
  for (const { what, path } of stray) {
    report(
      'error',
      path,
      what === 'unknown field'
        ? 'kube-apiserver does not know this field and drops it in silence; from 1.31 on it does not start with it'
        : 'this field is there twice and the last one counts; from 1.31 on kube-apiserver does not start with it',
    );
  }
  keyFindings(file, report);
  resourceFindings(file, minor, report);
  plainFindings(file, report);
  return findings;
}

interface PlacedKey extends DecodedKey {
  readonly path: string;
  readonly provider: string;
}

function keysIn(provider: DecodedProvider, path: string): PlacedKey[] {
  return (['aescbc', 'aesgcm', 'secretbox'] as const).flatMap((kind) =>
    (provider[kind]?.keys ?? []).map((key, k) => ({
      ...key,
      path: `${path}.${kind}.keys[${k}]`,
      provider: kind,
    })),
  );
}

function keyFindings(file: DecodedFile, report: Report): void {
  const bytesOf = new Map<string, { bytes: string; path: string }>();
  for (const [i, entry] of (file.resources ?? []).entries()) {
    const names = new Map<string, string>();
    const seen = new Map<string, string>();
    for (const [j, element] of (entry.providers ?? []).entries()) {
      for (const { name = '', secret = '', path, provider } of keysIn(
        element,
        `resources[${i}].providers[${j}]`,
      )) {
        const bytes = base64Bytes(secret) ?? Buffer.alloc(0);
        const own = `${provider}:${name}`;
        const same = `${provider}:${bytes.toString('hex')}`;
        const namesake = names.get(own);
        const twin = seen.get(same);
        if (name.includes(':')) {
          report(
            'error',
            `${path}.name`,
            "a key's name must not contain ':': what etcd holds under it could not be told apart",
          );
        }
        if (namesake !== undefined) {
          report(
            'error',
            `${path}.name`,
            `${namesake} has the same name: values under it are tried with both, and nobody can tell which is in use`,
          );
        } else if (twin !== undefined) {
          report(
            'warning',
            `${path}.secret`,
            `${twin} has the same bytes: changing from one to the other protects nothing`,
          );
        }
        names.set(own, namesake ?? path);
        seen.set(same, twin ?? path);
        const before = bytesOf.get(own);
        if (before !== undefined && before.bytes !== same && namesake === undefined) {
          report(
            'warning',
            `${path}.name`,
            `${before.path} has the same name but other bytes; a rotation is easier to follow with names that differ`,
          );
        }
        bytesOf.set(own, before ?? { bytes: same, path });
        if (isWeak(bytes)) {
          report(
            'error',
            `${path}.secret`,
            'these bytes are no random key: too few of them differ, or they count up',
          );
        } else if (isText(bytes)) {
          report(
            'warning',
            `${path}.secret`,
            'these bytes are readable text; take random ones: `head -c 32 /dev/urandom | base64`',
          );
        }
      }
    }
  }
}

/** Random 16 bytes have fewer than 8 different values once in 10^11; counting ones have one difference only. */
function isWeak(bytes: Buffer): boolean {
  if (new Set(bytes).size < 8) return true;
  const steps = new Set([...bytes.subarray(1)].map((byte, index) => (byte - (bytes[index] ?? 0)) & 0xff));
  return steps.size <= 2;
}

/** RKE makes its keys from 32 hex digits, which still are 128 random bits; sentences are not. */
function isText(bytes: Buffer): boolean {
  const text = bytes.toString('latin1');
  return /^[\x20-\x7e\r\n\t]+$/.test(text) && !/^[\da-f]{32,}$/.test(text);
}

function resourceFindings(file: DecodedFile, minor: number, report: Report): void {
  const earlier = new Map<string, string>();
  for (const [i, entry] of (file.resources ?? []).entries()) {
    const here = new Set<string>();
    for (const [j, name] of (entry.resources ?? []).entries()) {
      const path = `resources[${i}].resources[${j}]`;
      const { group, resource } = groupResource(name);
      const id = `${resource}.${group}`;
      if (resource === '') report('error', path, 'an empty name encrypts nothing');
      if (resource.includes('*') && resource !== '*') {
        report(
          'error',
          path,
          `\`${shown(name)}\` is no pattern that kube-apiserver knows: it encrypts nothing`,
        );
      }
      if (minor < 27 && (resource === '*' || group === '*')) {
        report(
          'error',
          path,
          `wildcards are for Kubernetes 1.27 and later: 1.${minor} takes \`${shown(name)}\` literally and encrypts nothing`,
        );
      }
      if (minor < 26 && group.includes('.') && !group.endsWith('.k8s.io')) {
        report(
          'error',
          path,
          `custom resources are encrypted from Kubernetes 1.26 on: 1.${minor} leaves \`${shown(name)}\` as it is`,
        );
      }
      if (minor < 27 && name.toLowerCase() !== name) {
        report('error', path, 'names of resources have no capital letters: this one encrypts nothing');
      }
      const first = earlier.get(id);
      if (first !== undefined) {
        report(
          'warning',
          path,
          `${first} names it too: all providers of both are tried, and the first one there writes`,
        );
      } else if (here.has(id)) {
        report('warning', path, 'the same resource is in this list already');
      }
      here.add(id);
    }
    for (const id of here) if (!earlier.has(id)) earlier.set(id, `resources[${i}]`);
  }
}

function plainFindings(file: DecodedFile, report: Report): void {
  for (const [i, entry] of (file.resources ?? []).entries()) {
    const providers = entry.providers ?? [];
    const at = `resources[${i}].providers`;
    const identities = providers.flatMap(({ identity }, j) => (identity === undefined ? [] : [j]));
    if (identities.length === 0) {
      report(
        'warning',
        at,
        'without `identity` at the end, objects that are still stored in plain text cannot be read',
      );
    } else if (providers.length > 1 && identities[0] === 0) {
      report('warning', `${at}[0]`, '`identity` comes first: new objects are stored in plain text');
    }
    const again = identities[1];
    if (again !== undefined) report('warning', `${at}[${again}]`, '`identity` is there already');
    for (const [j, { kms }] of providers.entries()) {
      if (kms === undefined) continue;
      if (kms.apiVersion === undefined || kms.apiVersion === '') {
        report(
          'warning',
          `${at}[${j}].kms.apiVersion`,
          'without it this is KMS v1; write `apiVersion: v1` or `v2`',
        );
      }
      if (kmsVersion(kms) === 'v1' && kms.name?.includes(':') === true) {
        report(
          'error',
          `${at}[${j}].kms.name`,
          "a provider's name must not contain ':': what etcd holds under it could not be told apart",
        );
      }
    }
  }
}
