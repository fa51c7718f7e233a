/** A cluster with certificates of another tool's making: openssl signs what `tsrke cert generate-csr` asks for. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Lab } from '../lab/lab.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;

let opened: Lab | undefined;
let lab: Lab;
let folder = '';

beforeAll(async () => {
  opened = lab = await openLab({
    ...{ bare: true, hosts: 3 },
    roles: [
      ['controlplane', 'etcd'],
      ['controlplane', 'etcd'],
      ['etcd', 'worker'],
    ],
  });
  folder = join(dirname(lab.state), 'cluster_certs');
});
afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });

describe.skipIf(!hasOpenssl)('a CA of the operator’s own', () => {
  it('is asked for what is missing before a host is reached', async () => {
    expect((await lab.tsrke(['cert', 'generate-csr'])).code).toBe(0);
    const { code, stderr } = await lab.tsrke(['up', '--custom-certs']);
    expect(code).toBe(3);
    expect(stderr).toMatch(/cluster_certs: \d+ things are wrong .*\(CERTIFICATES_INVALID\)/);
    expect(stderr).toContain('kube-ca.pem is missing');
    expect(stderr).toContain('kube-scheduler.pem is missing');
    const apart = await lab.tsrke(['up', '--cert-dir', 'cluster_certs']);
    expect([apart.code, apart.stderr]).toEqual([3, expect.stringContaining('without --custom-certs')]);
  });

  it('signs with openssl, and the cluster comes up with encryption on', async () => {
    const subject = ['-subj', '/O=Example/CN=Example Root'];
    writeFileSync(
      join(folder, 'root.cnf'),
      '[req]\ndistinguished_name=name\n[name]\n[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n',
    );
    openssl(
      ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'root.key', '-out', 'kube-ca.pem'],
      ...['-config', 'root.cnf', '-extensions', 'ca', '-days', '3650', ...subject],
    );
    for (const request of readdirSync(folder).filter((file) => file.endsWith('-csr.pem'))) {
      openssl(
        ...['x509', '-req', '-in', request, '-CA', 'kube-ca.pem', '-CAkey', 'root.key', '-CAcreateserial'],
        ...['-out', request.replace('-csr', ''), '-days', '365', '-copy_extensions', 'copyall'],
      );
    }
    const { code, stderr } = await lab.tsrke(['up', '--custom-certs']);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('kube-ca stands in');
    await lab.ready();
    await lab.createSecrets(3);
    expect([...new Set((await lab.etcd.prefixes()).values())].join()).toMatch(/^k8s:enc:aescbc:v1:k-\w+:$/);
    const again = await lab.tsrke(['up']);
    expect(again.stdout, again.stderr).toMatch(/^nothing to do/);
    expect((await lab.tsrke(['plan', '--custom-certs'])).code).toBe(0);
  });
});
