import { expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { nameOfRef, parseManifests, refKey, refOf } from '../../src/kube/manifest.ts';

const named = (text: string) =>
  parseManifests(text, 'addons').map(({ place, object }) => `${place}: ${nameOfRef(refOf(object))}`);

test('documents are split, lists taken apart, and what is empty is left out', () => {
  const text = `# first
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: web}
data: {script: "--- not a line of its own"}
--- # Source: chart/b.yaml
# nothing but a comment
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: b}}
- {apiVersion: v1, kind: Namespace, metadata: {name: c}}
---
{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}
`;
  expect(named(text)).toEqual([
    'addons, document 1: ConfigMap web/a',
    'addons, document 2: Service b',
    'addons, document 2: Namespace c',
    'addons, document 3: Deployment d',
  ]);
});

test.each(['', '---\n', '# nothing\n---\n  # here\n', '\uFEFF\n'])('%j holds no object', (text) => {
  expect(named(text)).toEqual([]);
});

test('it is read as kubectl reads it: YAML 1.1, and the last of two equal keys', () => {
  const text =
    'apiVersion: v1\nkind: X\nmetadata: {name: a}\nspec: {mode: 0644, enabled: yes, port: 22:22, mode: 0600}\n';
  expect(parseManifests(text, 'addons')[0]?.object['spec']).toEqual({
    mode: 0o600,
    enabled: true,
    port: '22:22',
  });
});

test.each([
  ['- 1\n', 'addons, document 1 is not a map with `apiVersion`, `kind` and `metadata`'],
  ['kind: Pod\n', 'addons, document 1 has no `apiVersion`'],
  ['apiVersion: v1\n', 'addons, document 1 has no `kind`'],
  [
    'a: &x {apiVersion: v1}\napiVersion: v1\nkind: Pod\nmetadata: {generateName: web-}\n',
    'addons, document 1 (Pod) has no `metadata.name`, without which nothing can be applied',
  ],
  [
    'apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: 1}\n',
    'addons, document 1 (Pod a) has a `metadata.namespace` that is not a text',
  ],
])('%j is refused', (text, message) => {
  expect(() => parseManifests(text, 'addons')).toThrow(message);
});

test('a mistake is named with its line in the whole text, and nothing of it is quoted', () => {
  const text = 'apiVersion: v1\nkind: A\nmetadata: {name: a}\n---\nkind: Secret\nstringData: {a: *hunter2}\n';
  let error: unknown;
  try {
    parseManifests(text, 'extra.yml');
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(TsrkeError);
  const { code, message, details } = error as TsrkeError;
  expect(code).toBe('CONFIG_SYNTAX');
  expect(message).toMatch(/^extra\.yml:6:/);
  expect(`${message}${details.join()}`).not.toContain('hunter2');
});

test('an object is the same in all versions of its API, and `default` is the namespace of none', () => {
  const key = (apiVersion: string, namespace: string) =>
    refKey({ apiVersion, kind: 'Deployment', namespace, name: 'a' });
  expect(key('apps/v1beta1', '')).toBe(key('apps/v1', 'default'));
  expect(key('apps/v1', '')).not.toBe(key('extensions/v1', ''));
  expect(key('apps/v1', '')).not.toBe(key('apps/v1', 'web'));
});
