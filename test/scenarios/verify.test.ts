/** `encrypt verify`: what is in order is proved, what is not is found, named and counted; it touches nothing. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Verification } from '../../src/provision/verify.ts';
import { editKubeApi, type Lab, type LabHost } from '../lab/lab.ts';
import { closeLabs, fewHosts, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
const secrets = '/registry/secrets/default';
const count = 30;

let opened: Lab | undefined;
let lab: Lab;
let host: LabHost;
/** As it lay in etcd before encryption was on. */
let plain: Buffer;

beforeAll(async () => {
  opened = lab = await openLab({ hosts: fewHosts, encryption: 'off', secrets: count });
  host = lab.hosts.at(-1) as LabHost;
  plain = (await lab.etcd.get(`${secrets}/secret-00001`)) as Buffer;
  editKubeApi(lab, { secrets_encryption_config: { enabled: true } });
});

afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

async function world() {
  const nodes = await Promise.all(
    lab.hosts.map(async (each) => {
      const { Id, State } = await each.inspect();
      return { id: Id, startedAt: State.StartedAt, file: await each.readFile(providerFile) };
    }),
  );
  const stored = [...(await lab.etcd.prefixes())].toSorted();
  return { nodes, state: readFileSync(lab.state, 'utf8'), stored };
}

/** Proves, and makes sure that it did nothing else. */
async function verify(): Promise<Verification> {
  const before = await world();
  const ran = await lab.tsrke(['encrypt', 'verify', '--output', 'json']);
  expect(await world()).toEqual(before);
  expect(ran.stderr).toBe('');
  const seen = JSON.parse(ran.stdout) as Verification;
  expect(ran.code, ran.stdout).toBe(seen.proved ? 0 : 2);
  expect(seen.type).toBe('encryption-verification');
  for (const { next, text } of seen.findings) expect([next, text]).not.toContain('');
  for (const [, secret = '?'] of before.state.matchAll(/secret: ?(\S+?)(\\n|")/g))
    expect(ran.stdout).not.toContain(secret);
  return seen;
}

/** `kind node`, or `kind` alone, each once. */
const found = ({ findings }: Verification) => [
  ...new Set(findings.map(({ kind, node }) => (node === undefined ? kind : `${kind} ${node}`))),
];
const names = () => lab.hosts.map(({ name }) => name);

async function expectProved(): Promise<Verification> {
  const seen = await verify();
  expect(seen.findings).toEqual([]);
  const stored = (await lab.etcd.prefixes()).size;
  expect(seen.readings).toEqual(
    names().map((node) => ({ node, resource: 'secrets', read: stored, gone: 0, failed: 0 })),
  );
  return seen;
}

async function tsrke(...args: string[]): Promise<void> {
  const ran = await lab.tsrke(args);
  expect(ran.code, ran.stderr).toBe(0);
}

it('after an enable all is proved, object by object through each kube-apiserver', async () => {
  await tsrke('up');
  const seen = await expectProved();
  expect(seen).toMatchObject({ encryption: 'on', writeKeys: [{ type: 'aescbc' }] });
  expect(seen.nodes.every(({ loaded, onDisk }) => loaded === onDisk?.sha256)).toBe(true);
});

it('an object that was put into etcd in plain text, which the next rotation encrypts', async () => {
  await lab.etcd.put(`${secrets}/secret-00001`, plain);
  const seen = await verify();
  expect(found(seen)).toEqual(['plaintext']);
  expect(seen.findings[0]).toMatchObject({ resource: 'secrets', count: 1 });
  expect(seen.findings[0]?.text).toContain('default/secret-00001');
  expect(seen.findings[0]?.next).toMatch(/^`tsrke encrypt rotate-key`/);
  await tsrke('encrypt', 'rotate-key');
  await expectProved();
});

it('after the rotation too: a report to look at, one to file, one for scripts', async () => {
  const { keys } = await expectProved();
  expect(keys.map(({ state }) => state)).toContain('retired');
  const stored = (await lab.etcd.prefixes()).size;
  const text = await lab.tsrke(['encrypt', 'verify', '--report', 'proof.md']);
  expect(text.code, text.stderr).toBe(0);
  expect(text.stdout).toMatch(/^Encryption of secrets is on\n/);
  expect(text.stdout).toContain(`✔ proved: ${stored} objects, `);
  expect(text.stderr).toMatch(
    new RegExp(`\\d+/${stored * fewHosts}, \\d+/s[^]* ${stored * fewHosts} reads\n`),
  );
  const filed = readFileSync(join(lab.dir, 'proof.md'), 'utf8');
  expect(filed).toMatch(/^# Encryption of secrets in .+: proved\n/);
  for (const name of names()) expect(filed).toContain(`| ${name} | secrets | ${stored} | 0 | 0 |`);
  const markdown = await lab.tsrke(['encrypt', 'verify', '--output', 'markdown', '--report', 'proof.json']);
  expect(markdown.stdout).toMatch(/^# Encryption of secrets in .+: proved\n/);
  expect(JSON.parse(readFileSync(join(lab.dir, 'proof.json'), 'utf8'))).toMatchObject({ proved: true });
});

it('a report that cannot be written is refused before anything is looked at', async () => {
  const ran = await lab.tsrke(['encrypt', 'verify', '--report', 'no/such/folder/proof.md']);
  expect(ran).toMatchObject({ code: 3, stdout: '' });
  expect(ran.stderr).toMatch(/^the report could not be written to no\/such\/folder\/proof\.md/);
  expect(existsSync(join(lab.dir, 'no'))).toBe(false);
});

it('a node with another file, with a key that the state does not hold', async () => {
  const good = (await host.readFile(providerFile)) ?? '';
  await host.writeFile(providerFile, good.replace(/name: \S+/, 'name: somebody-elses'), 0o600);
  const seen = await verify();
  expect(found(seen)).toEqual([`node-not-in-step ${host.name}`, 'key-not-recorded']);
  expect(seen.findings[1]?.text).toMatch(
    new RegExp(`does not hold aescbc:somebody-elses#[0-9a-f]{12}, which ${host.name} has$`),
  );
  await host.writeFile(providerFile, good, 0o600);
  await expectProved();
});

it('a node with the right file and the old one loaded: up mends it', async () => {
  const good = (await host.readFile(providerFile)) ?? '';
  await host.writeFile(providerFile, `# by hand\n${good}`, 0o600);
  const seen = await verify();
  expect(found(seen)).toEqual([`node-not-in-step ${host.name}`]);
  expect(seen.findings[0]).toMatchObject({ next: '`tsrke up` does what is left' });
  expect(seen.findings[0]?.text).toMatch(/has loaded another file than the one on its disk/);
  await tsrke('up');
  await expectProved();
});

it('an object under a key that nobody has: no kube-apiserver reads it, and each says so', async () => {
  const key = `${secrets}/lost`;
  await lab.etcd.put(key, Buffer.concat([Buffer.from('k8s:enc:aescbc:v1:lost:'), Buffer.alloc(48, 1)]));
  const seen = await verify();
  expect(found(seen)).toEqual(['key-missing', ...names().map((name) => `object-unreadable ${name}`)]);
  for (const { kind, count: about, samples, text } of seen.findings) {
    expect(about).toBe(1);
    if (kind === 'key-missing') continue;
    expect(samples).toEqual(['default/lost']);
    expect(text).toMatch(/no matching key was found/);
  }
  expect(seen.readings.map(({ failed }) => failed)).toEqual(names().map(() => 1));
  await lab.etcd.del(key);
  await expectProved();
});

it('a key that the state has lost, and one whose bytes are others there', async () => {
  const text = readFileSync(lab.state, 'utf8');
  const state = JSON.parse(text) as {
    tsrke: { keyRing: { name: string; secret: string; retired?: string }[] };
  };
  const used = state.tsrke.keyRing.find(({ retired }) => retired === undefined);
  if (used === undefined) throw new Error('the ring holds no key that is in use');
  const other = Buffer.alloc(32, 7).toString('base64');
  try {
    writeFileSync(lab.state, text.replaceAll(used.name, 'k-other').replaceAll(used.secret, other));
    const lost = await verify();
    expect(found(lost)).toContain('key-not-recorded');
    expect(lost.findings.find(({ kind }) => kind === 'key-not-recorded')?.text).toMatch(
      new RegExp(`does not hold aescbc:${used.name}#\\w+, which ${names().join(', ')} has$`),
    );
    writeFileSync(lab.state, text.replaceAll(used.secret, other));
    const differs = await verify();
    expect(differs.findings.find(({ kind }) => kind === 'key-not-recorded')?.text).toMatch(
      /, but another one of that name$/,
    );
  } finally {
    writeFileSync(lab.state, text);
  }
  await expectProved();
});

it('a rotation that was cut off: what is open is named, with its phase and the command that goes on', async () => {
  const killed = await lab.tsrke(['encrypt', 'rotate-key'], { killWhen: /rewrite secrets/ });
  expect(killed.signal, killed.stderr).toBe('SIGKILL');
  const seen = await verify();
  expect(found(seen)).toEqual(['transition-open']);
  expect(seen.findings[0]?.text).toMatch(/^a change is open: rotate; the next phase is: rewrite$/);
  expect(seen.findings[0]?.next).toMatch(/^`tsrke encrypt resume` finishes/);
  await tsrke('encrypt', 'resume');
  await expectProved();
});

// Where it is the only one, so is etcd: without-etcd.test.ts.
if (fewHosts > 1) {
  it('a node that is off the network: what the others show is shown, and it is not proved', async () => {
    await host.unplug();
    try {
      let seen: Verification | undefined;
      // The others may not be ready at first: their etcd has lost a member.
      await expect
        .poll(
          async () => {
            const ran = await lab.tsrke(['encrypt', 'verify', '--output', 'json']);
            expect(ran.code, ran.stderr).toBe(2);
            seen = JSON.parse(ran.stdout) as Verification;
            return found(seen);
          },
          { timeout: 120_000, interval: 2_000 },
        )
        .toEqual([`node-unreachable ${host.name}`]);
      if (seen === undefined) throw new Error('it was never seen');
      expect(seen.findings[0]?.next).toMatch(new RegExp(`^make ${host.name} reachable`));
      expect(seen.readings.map(({ node, failed }) => [node, failed])).toEqual(
        names()
          .filter((name) => name !== host.name)
          .map((name) => [name, 0]),
      );
    } finally {
      await host.plug();
      await lab.ready();
    }
  });
}
