/** kube-apiserver's verdict and words, as test/oracle has shown them to be, and what we find beyond them. */
import { describe, expect, test } from 'vitest';
import { validateProviderFile } from '../../../src/encryption/validation/validate.ts';
import { cases, expected, nodeFile, type Case } from '../validate-cases.ts';

const minors = Array.from({ length: 14 }, (_, index) => 24 + index);

function validate({ text, reload, kmsV1, kmsV2 }: Case, minor: number) {
  return validateProviderFile(text, {
    minor,
    file: nodeFile,
    ...(reload === undefined ? {} : { reload }),
    ...(kmsV1 === undefined ? {} : { kmsV1Gate: kmsV1 }),
    ...(kmsV2 === undefined ? {} : { kmsV2Gate: kmsV2 }),
  });
}

test('there are enough files to be worth a table', () => {
  expect(cases.length).toBeGreaterThanOrEqual(60);
  expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
});

describe('as kube-apiserver says it', () => {
  test.each(cases)('$name', (one) => {
    for (const minor of minors) {
      const { verdict, serverMessage, findings } = validate(one, minor);
      const words = expected(one, minor);
      expect({ minor, serverMessage }).toEqual({ minor, serverMessage: words });
      expect(verdict).toBe(words === undefined ? 'accepted' : 'refused');
      if (words !== undefined) expect(findings.some(({ severity }) => severity === 'error')).toBe(true);
    }
  });

  test('no message and no finding holds a secret of the file', () => {
    for (const one of cases) {
      const secrets = [...one.text.matchAll(/secret: "?([^\s"},]{8,})/g)].map(([, secret]) => secret ?? '');
      for (const minor of minors) {
        const said = JSON.stringify(validate(one, minor));
        for (const secret of secrets) expect(said).not.toContain(secret);
      }
    }
  });
});

const key = (letter: string) =>
  Buffer.from(`${letter}QwErTy1UiOp2AsDf\x803GhJk4L\x01\x02\x03\x04\x05\x06\x07`, 'latin1').toString(
    'base64',
  );
const [a, b] = [key('a'), key('b')];

function file(...entries: readonly string[]): string {
  return `apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n${entries.join('')}`;
}

function entry(resources: string, ...providers: readonly string[]): string {
  return `- resources: [${resources}]\n  providers:\n${providers.map((provider) => `  - ${provider}\n`).join('')}`;
}

function aescbc(...keys: readonly (readonly [name: string, secret: string])[]): string {
  const list = keys.map(
    ([name, secret]) => `\n      - name: ${JSON.stringify(name)}\n        secret: ${secret}`,
  );
  return `aescbc:\n      keys:${list.join('')}`;
}

function findings(text: string, minor = 30) {
  const { verdict, findings } = validateProviderFile(text, { minor });
  expect(verdict).toBe('accepted');
  return findings.map(({ severity, path, line, text }) => `${line ?? 0} ${severity} ${path}: ${text}`);
}

describe('what kube-apiserver lets pass', () => {
  test('a good file has no findings', () => {
    expect(findings(file(entry('secrets', aescbc(['k-1', a], ['k-2', b]), 'identity: {}')))).toEqual([]);
  });

  test.each<[string, string, RegExp, number?]>([
    [
      'one name for two keys',
      file(entry('secrets', aescbc(['k', a], ['k', b]), 'identity: {}')),
      /^10 error resources\[0\]\.providers\[0\]\.aescbc\.keys\[1\]\.name: resources\[0\].*keys\[0\] has the same name/,
    ],
    [
      'the same bytes twice',
      file(entry('secrets', aescbc(['k', a], ['l', a]), 'identity: {}')),
      /^11 warning .*keys\[1\]\.secret: .*keys\[0\] has the same bytes/,
    ],
    [
      'one name for two keys in two entries',
      file(
        entry('secrets', aescbc(['k', a]), 'identity: {}'),
        entry('pods', aescbc(['k', b]), 'identity: {}'),
      ),
      /^15 warning resources\[1\].*keys\[0\]\.name: .*same name but other bytes/,
    ],
    [
      'a colon in a name',
      file(entry('secrets', aescbc(['a:b', a]), 'identity: {}')),
      /^8 error .*name: .*':'/,
    ],
    [
      'a key of zeros',
      file(entry('secrets', aescbc(['k', Buffer.alloc(32).toString('base64')]), 'identity: {}')),
      /^9 error .*secret: these bytes are no random key/,
    ],
    [
      'a key that counts up',
      file(
        entry(
          'secrets',
          aescbc(['k', Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString('base64')]),
          'identity: {}',
        ),
      ),
      /^9 error .*secret: these bytes are no random key/,
    ],
    [
      'a key that is a sentence',
      file(
        entry('secrets', aescbc(['k', Buffer.from('secret is secure').toString('base64')]), 'identity: {}'),
      ),
      /^9 warning .*secret: these bytes are readable text/,
    ],
    [
      'no identity',
      file(entry('secrets', aescbc(['k', a]))),
      /^5 warning resources\[0\]\.providers: without `identity`/,
    ],
    [
      'identity first',
      file(entry('secrets', 'identity: {}', aescbc(['k', a]))),
      /^6 warning resources\[0\]\.providers\[0\]: `identity` comes first/,
    ],
    [
      'a resource in two entries',
      file(entry('secrets', 'identity: {}'), entry('pods, secrets', 'identity: {}')),
      /^7 warning resources\[1\]\.resources\[1\]: resources\[0\] names it too/,
    ],
    [
      'a wildcard before 1.27',
      file(entry('"*.*"', 'identity: {}')),
      /^4 error .*literally and encrypts nothing/,
      26,
    ],
    [
      'a custom resource before 1.26',
      file(entry('pandas.example.com', 'identity: {}')),
      /^4 error .*custom resources are encrypted from Kubernetes 1\.26 on/,
      25,
    ],
    ['a pattern that is none', file(entry('"sec*"', 'identity: {}')), /^4 error .*`sec\*` is no pattern/],
    [
      'capital letters before 1.27',
      file(entry('Secrets', 'identity: {}')),
      /^4 error .*no capital letters/,
      26,
    ],
    [
      'an unknown field',
      file(entry('secrets', 'identity: {}')) + 'foo: 1\n',
      /^7 error foo: kube-apiserver does not know/,
    ],
    [
      "RKE's doubled header",
      'kind: EncryptionConfiguration\n' + file(entry('secrets', 'identity: {}')),
      /^3 error kind: this field is there twice/,
    ],
    [
      'KMS without its version',
      file(entry('secrets', 'kms: {name: a, endpoint: "unix:///x"}', 'identity: {}')),
      /^6 warning resources\[0\]\.providers\[0\]\.kms\.apiVersion: without it this is KMS v1/,
      28,
    ],
  ])('%s', (_name, text, finding, minor) => {
    const found = findings(text, minor);
    expect(found.filter((one) => finding.test(one))).toHaveLength(1);
    expect(found.join('\n')).not.toContain(a);
  });

  test("RKE's own key, 32 hex digits spelt as text, is random enough", () => {
    const rke = Buffer.from('3f9a1c07be5d2846e0b7f3a9c1d58e62').toString('base64');
    expect(findings(file(entry('secrets', aescbc(['k-xgf7q', rke]), 'identity: {}')))).toEqual([]);
  });
});

test('a secret that got into a name is not repeated', () => {
  const text = file(
    entry(
      `secrets, ${a.toLowerCase().replace(/[+/=]/g, 'x')}Q`,
      `kms: {apiVersion: v2, name: "${a}:", endpoint: "${a}"}`,
      aescbc(['k', a]),
    ),
  );
  const said = validateProviderFile(text, { minor: 30 });
  expect(said.verdict).toBe('refused');
  expect(said.serverMessage).toContain("must not contain ':'");
  expect(JSON.stringify(said)).not.toContain(a);
});
