import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { messageOf } from '../../src/errors.ts';
import {
  film,
  parseProviderFile,
  renderProviderFile,
  sameMeaning,
  localRef,
} from '../../src/encryption/configuration.ts';
import { withReadKeys } from '../../src/encryption/compose.ts';
import { Secret } from '../../src/encryption/key.ts';
import { parseState } from '../../src/state/rkestate.ts';
import { key, secretsFile } from './samples.ts';

const path = new URL('../fixtures/rke-1.6.3/enabled.rkestate', import.meta.url);
const rke = parseState(readFileSync(path, 'utf8'), 'fixture').document.currentState?.encryptionConfig ?? '';
const secret = key('a').secret.reveal();

function failure(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

test("RKE's own text comes back byte for byte", () => {
  expect(rke).toContain('aescbc');
  expect(renderProviderFile(parseProviderFile(rke, 'fixture'))).toBe(rke);
  expect(sameMeaning(parseProviderFile(`# x\n${rke}\n`, 'fixture'), parseProviderFile(rke, 'fixture'))).toBe(
    true,
  );
});

test.each(['a,identity', 'identity,a', 'a,b,identity', 'a,identity,b', 'identity'])(
  'round trip: %s',
  (strip) => {
    const file = secretsFile(strip);
    const again = parseProviderFile(renderProviderFile(file), 'it');
    expect(renderProviderFile(again)).toBe(renderProviderFile(file));
    expect(film(again)).toBe(film(file));
  },
);

test('KMS and names that YAML would take for something else come back as they were', () => {
  const text = JSON.stringify({
    kind: 'EncryptionConfiguration',
    apiVersion: 'apiserver.config.k8s.io/v1',
    resources: [
      {
        resources: ['secrets', '*.apps'],
        providers: [
          { kms: { apiVersion: 'v2', name: 'true', endpoint: 'unix:///run/kms.sock', timeout: '3s' } },
          { kms: { apiVersion: 'v1', name: 'b', endpoint: 'unix:///run/kms.sock', cachesize: 1000 } },
          { aesgcm: { keys: [{ name: '0x10', secret }] } },
          { identity: {} },
        ],
      },
    ],
  });
  const file = parseProviderFile(text, 'it');
  const again = parseProviderFile(renderProviderFile(file), 'it');
  expect(again.entries[0]?.providers.slice(0, 2)).toEqual(file.entries[0]?.providers.slice(0, 2));
  expect(film(parseProviderFile(renderProviderFile(file), 'it'))).toBe(
    'secrets+*.apps: kms2:true,kms1:b,aesgcm:0x10,identity',
  );
});

const whole = renderProviderFile(secretsFile('a,identity'));
test.each<[string, string]>([
  ['cut off in the key', whole.slice(0, whole.indexOf(secret) + 20)],
  ['broken YAML around the key', whole.replace(secret, `"${secret}`)],
  ['a key of a wrong length', whole.replace(secret, secret.slice(0, 20))],
  ['the key as the name of a provider', whole.replace('aescbc', `"${secret}"`)],
  ['the key as a colon name', whole.replace('name: a', `name: "x:${secret}"`)],
  ['another kind', whole.replace('EncryptionConfiguration', secret)],
  ['nothing but the key', secret],
  ['empty', ''],
])('PROVIDER_FILE_INVALID, and no error prints a secret: %s', (_, text) => {
  const error = failure(() => parseProviderFile(text, 'it'));
  expect(error).toMatchObject({ code: 'PROVIDER_FILE_INVALID' });
  const shown = [inspect(error, { depth: 9 }), JSON.stringify(error), messageOf(error)].join('\n');
  expect(shown).not.toContain(secret.slice(0, 12));
});

test('one name for two keys of a resource is a conflict, without their bytes', () => {
  const other = key('a', 'z');
  const error = failure(() => withReadKeys(secretsFile('a'), () => [localRef(other)], ['secrets'], 'last'));
  expect(error).toMatchObject({ code: 'KEY_CONFLICT' });
  expect(inspect(error)).not.toContain(other.secret.reveal().slice(0, 12));
});

test('a secret prints [redacted] wherever it is printed', () => {
  const it = new Secret(secret);
  const text = it as unknown as string;
  const shown = [
    inspect({ it }, { showHidden: true }),
    JSON.stringify({ it }),
    `a ${text}`,
    String(it),
    'a ' + text,
  ];
  for (const each of shown) {
    expect(each).toContain('[redacted]');
    expect(each).not.toContain(secret.slice(0, 12));
  }
  expect(it.reveal()).toBe(secret);
  expect(it.fingerprint).toMatch(/^[0-9a-f]{12}$/);
});
