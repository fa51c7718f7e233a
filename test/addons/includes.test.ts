import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readIncludes } from '../../src/addons/includes.ts';
import { wantedAddons } from '../../src/addons/wanted.ts';
import { nodes, rkeOf } from '../services/inputs.ts';

const { signal } = new AbortController();
let folder = '';
let server: Server;
let address = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tsrke-includes-'));
  await writeFile(join(folder, 'a.yml'), '{apiVersion: v1, kind: Pod, metadata: {name: a}}');
  server = createServer(({ url, headers }, answer) => {
    if (url === '/moved') answer.writeHead(302, { location: '/b.yml' }).end();
    else if (url === '/b.yml?token=s3cret') answer.end(headers.authorization ?? 'nobody');
    else if (url === '/b.yml') answer.end('{apiVersion: v1, kind: Pod, metadata: {name: b}}');
    else answer.writeHead(404).end('no');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(async () => {
  server.close();
  await rm(folder, { recursive: true });
});

function read(...includes: string[]) {
  return readIncludes(join(folder, 'cluster.yml'), includes, signal);
}

test('files lie beside cluster.yml, URLs are fetched, and both become one addon', async () => {
  const found = await read('./a.yml', `http://${address}/moved`);
  const addon = wantedAddons(rkeOf(nodes), found).find(({ name }) => name === 'includes');
  expect(addon?.manifests.map(({ place, object }) => `${place}: ${object.metadata.name}`)).toEqual([
    './a.yml, document 1: a',
    `http://${address}/moved, document 1: b`,
  ]);
});

test('a login in a URL is used, and neither it nor the query is shown', async () => {
  const [found] = await read(`http://me:p%40ss@${address}/b.yml?token=s3cret`);
  expect(found?.place).toBe(`http://${address}/b.yml`);
  expect(found?.text).toBe(`Basic ${Buffer.from('me:p@ss').toString('base64')}`);
  const failing = read(`http://me:hunter2@${address}/gone?token=s3cret`);
  await expect(failing).rejects.toMatchObject({
    code: 'CONFIG_UNREADABLE',
    message: `addons_include: http://${address}/gone cannot be read`,
  });
  await expect(failing).rejects.toHaveProperty('cause.message', 'the server answered 404');
});

test.each(['missing.yml', 'http://127.0.0.1:1/x.yml', 'https://['])('%s cannot be read', async (include) => {
  await expect(read('a.yml', include)).rejects.toMatchObject({ code: 'CONFIG_UNREADABLE' });
});
