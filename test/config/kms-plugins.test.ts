/** `kms_plugin`: what is read of it, what is refused, and that no credential of it goes anywhere. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { socketBinds } from '../../src/config/kms-plugins.ts';
import { loadConfig } from '../../src/config/load.ts';
import { ownFieldsOf } from '../../src/config/own-fields.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';
import { TsrkeError } from '../../src/errors.ts';

let folder = '';
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'tsrke-kms-plugins-'))));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function load(plugin: string, more = '') {
  const path = join(folder, 'cluster.yml');
  writeFileSync(
    path,
    'nodes: [{address: 192.0.2.1, user: u, role: [controlplane]}]\n' +
      `services: {kube-api: {${more}secrets_encryption_config: {enabled: true, kms_plugin: ${plugin}}}}\n`,
  );
  return loadConfig(path);
}

const socket = 'socket: /run/kms/a.sock';

test('one plugin, or a list of them', () => {
  const one = load(
    `{image: kms:1, command: [--listen=/run/kms/a.sock, 3], env: [TOKEN=x=y, EMPTY=], binds: ["/etc/kms:/etc/kms:ro"], ${socket}}`,
  );
  expect(one.kmsPlugins).toEqual([
    {
      image: 'kms:1',
      command: ['--listen=/run/kms/a.sock', '3'],
      env: ['TOKEN=x=y', 'EMPTY='],
      binds: ['/etc/kms:/etc/kms:ro'],
      socket: '/run/kms/a.sock',
    },
  ]);
  const two = load(`[{image: kms:1, ${socket}}, {image: kms:2, socket: /run/kms/b.sock}]`);
  expect(two.kmsPlugins.map(({ image }) => image)).toEqual(['kms:1', 'kms:2']);
  expect(socketBinds(two.kmsPlugins, [])).toEqual(['/run/kms:/run/kms']);
  expect(socketBinds(two.kmsPlugins, ['/run/kms/:/run/kms/'])).toEqual([]);
});

test('of its environment only the names are kept, and RKE’s part of the state knows nothing of it', () => {
  const config = load(`{image: kms:1, env: [TOKEN=geheim], ${socket}}`);
  expect(ownFieldsOf(config.raw)).toEqual({
    services: {
      'kube-api': {
        secrets_encryption_config: {
          kms_plugin: { image: 'kms:1', env: ['TOKEN'], socket: '/run/kms/a.sock' },
        },
      },
    },
  });
  expect(JSON.stringify(rkeConfigOf(config))).not.toMatch(/kms|geheim/);
});

const field = 'services.kube-api.secrets_encryption_config.kms_plugin';

test.each<[string, string, string, string?]>([
  ['an unknown key', `{image: a, sockets: /run/kms/a.sock, ${socket}}`, 'did you mean `socket`?'],
  ['no image', `{${socket}}`, `\`image\` of ${field} is missing`],
  ['no socket, in a list', `[{image: a}]`, `\`socket\` of ${field}[0] is missing`],
  [
    'a relative path',
    '{image: a, socket: kms/a.sock}',
    `${field}.socket is "kms/a.sock", not an absolute path such as /var/run/kmsplugin/socket.sock`,
  ],
  ['an endpoint', '{image: a, socket: "unix:///run/kms/a.sock"}', 'not an absolute path'],
  ['a folder', '{image: a, socket: /run/kms/}', 'not an absolute path'],
  ['Docker’s own folder', '{image: a, socket: /var/run/a.sock}', 'which needs a folder of its own'],
  [
    'two with one socket',
    `[{image: a, ${socket}}, {image: b, ${socket}}]`,
    'two KMS plugins have the socket /run/kms/a.sock',
  ],
  [
    'a folder that is something else in kube-apiserver',
    `{image: a, ${socket}}`,
    'but the bind /srv/kms:/run/kms mounts something else at /run/kms',
    'extra_binds: ["/srv/kms:/run/kms"], ',
  ],
  ['a bind that is none', `{image: a, binds: [/etc/kms], ${socket}}`, 'not /host/folder:/folder'],
  ['a word', 'vault', `${field} is text, not a map`],
])('%s is refused', (_name, plugin, words, more) => {
  expect(refusal(plugin, more)).toContain(words);
});

test('a value without a name is not shown', () => {
  const said = refusal(`{image: a, env: [A=b, geheim], ${socket}}`);
  expect(said).toContain(`${field}.env[1] is not NAME=value`);
  expect(said).not.toContain('geheim');
});

function refusal(plugin: string, more?: string): string {
  try {
    load(plugin, more);
  } catch (error) {
    if (!(error instanceof TsrkeError)) throw error;
    expect(error.exitCode).toBe(3);
    return [error.message, ...error.details].join('\n');
  }
  throw new Error('it was accepted');
}
