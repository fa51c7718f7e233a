/** What `--version` and `--help` load: the packages that do the work come with the command that does it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

const bin = join(import.meta.dirname, '../../bin/tsrke.js');
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsrke-startup-'));
  writeFileSync(
    join(folder, 'hooks.mjs'),
    `import { writeSync } from 'node:fs';
     export async function load(url, context, next) { writeSync(2, url + '\\n'); return next(url, context); }`,
  );
  writeFileSync(
    join(folder, 'watch.mjs'),
    `import { register } from 'node:module'; register('./hooks.mjs', import.meta.url);`,
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

async function packagesOf(...args: string[]): Promise<Set<string | undefined>> {
  const { stderr } = await promisify(execFile)(process.execPath, [
    '--import',
    join(folder, 'watch.mjs'),
    bin,
    ...args,
  ]);
  const urls = stderr.split('\n').filter((line) => line.includes('/node_modules/'));
  return new Set(urls.map((url) => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1]));
}

test.each([[['--version']], [['--help']], [['up', '--help']]])(
  'tsrke %j loads commander alone',
  async (args) => {
    expect(await packagesOf(...args)).toEqual(new Set(['commander']));
  },
);
