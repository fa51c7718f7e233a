/** `private_registries`: which entry an image is pulled with, and that no password shows. */
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { imageSources } from '../../src/config/private-registries.ts';

const entry = (url: string | undefined, user: string) => ({
  ...(url === undefined ? {} : { url }),
  ...{ user, password: 'hunter2' },
});

/** By user name, as Docker would decode the header. */
function userFor(image: string, ...private_registries: object[]): string | undefined {
  const header = imageSources({ private_registries })(image).login?.header();
  if (header === undefined) return undefined;
  return (JSON.parse(Buffer.from(header, 'base64url').toString()) as { username: string }).username;
}

test.each([
  ['kms', 'docker.io'],
  ['kms:1', 'docker.io'],
  ['vendor/kms:1', 'docker.io'],
  ['docker.io/vendor/kms:1', 'docker.io'],
  ['index.docker.io/vendor/kms:1', 'docker.io'],
  ['vendor/tools/kms:1', 'docker.io/vendor'],
  ['registry.example/kms:1', 'registry.example'],
  ['registry.example/vendor/kms:1', 'registry.example'],
  ['registry.example/a/vendor/kms:1', 'registry.example/a'],
  ['registry.example/a/b/vendor/kms:1', 'registry.example/a/b'],
  ['registry.example:5000/vendor/kms:1', 'registry.example:5000'],
  ['localhost/kms', 'localhost'],
  [`registry.example/vendor/kms@sha256:${'0'.repeat(64)}`, 'registry.example'],
])('%s comes from %s', (image, registry) => {
  expect(imageSources({})(image)).toEqual({ registry, login: undefined, isEcr: false });
  const others = [entry('elsewhere.example', 'other'), entry(`${registry}/deeper`, 'deeper')];
  expect(userFor(image, ...others)).toBeUndefined();
  expect(userFor(image, ...others, entry(registry, 'puller'))).toBe('puller');
});

test('an entry without a url is for Docker’s own registry, and of two the last one counts', () => {
  expect(userFor('vendor/kms:1', entry(undefined, 'a'))).toBe('a');
  expect(userFor('vendor/kms:1', entry('docker.io', 'a'), entry(undefined, 'b'))).toBe('b');
});

test('is_default changes nothing for an image that is named', () => {
  const mirror = { ...entry('mirror.example', 'a'), is_default: true };
  expect(imageSources({ private_registries: [mirror] })('vendor/kms:1')).toMatchObject({
    registry: 'docker.io',
    login: undefined,
  });
});

test('credentials that only AWS has are none here; a user and a password come before them', () => {
  const ecr = { url: 'a.example', ecr_credential_plugin: { aws_secret_access_key: 'hunter2' } };
  const source = (more: object) =>
    imageSources({ private_registries: [{ ...ecr, ...more }] })('a.example/kms');
  expect(source({})).toMatchObject({ login: undefined, isEcr: true });
  expect(source({ user: 'AWS', password: 'x' })).toMatchObject({ isEcr: false });
  expect(source({ user: 'AWS', password: 'x' }).login).toBeDefined();
});

test('a login shows nothing of itself, and takes its password out of the words of others', () => {
  const source = imageSources({ private_registries: [entry('a.example', 'puller')] })('a.example/kms');
  const shown = [inspect(source, { depth: null, showHidden: true }), JSON.stringify(source)].join();
  expect(shown).toContain('a.example');
  expect(shown).not.toMatch(/hunter2|puller/);
  expect(source.login?.hide('hunter2 is wrong')).toBe('[redacted] is wrong');
});

test('the header is base64 for URLs with its padding, which Docker insists on', () => {
  const password = '??>>~~ÿ';
  const source = imageSources({ private_registries: [{ url: 'a.example', user: 'u', password }] })(
    'a.example/kms',
  );
  const header = source.login?.header() ?? '';
  expect(header).toMatch(/^[\w-]+=*$/);
  expect(header.length % 4).toBe(0);
  expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toEqual({ username: 'u', password });
});
