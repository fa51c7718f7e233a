/** A first `up` where files lie under a prefix, and the host is behind a bastion whose firewall lets only SSH in. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dump, load } from 'js-yaml';
import { expect, it } from 'vitest';
import { labName, labOfFile } from '../lab/open-lab.ts';

const bed = labOfFile({ hosts: 3, bare: true });

async function done(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await bed.lab.tsrke(args);
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  return stdout;
}

it('the cluster is made, changed and removed as any other', async () => {
  const { lab, host } = bed;
  const yaml = load(bed.clusterYml) as { nodes: Record<string, unknown>[]; [key: string]: unknown };
  const [first, second] = yaml.nodes;
  if (first === undefined || second === undefined) throw new Error('no hosts');
  const { address, port, user, ssh_key_path } = second;
  const bastion = { address, user, ssh_key_path, ...(port === undefined ? {} : { port }) };
  writeFileSync(
    lab.config,
    dump({ bastion_host: bastion, ...yaml, nodes: [first], prefix_path: '/opt/rke' }),
  );
  const letIn = await host.letOnlySshIn();
  try {
    expect(await done('up')).toMatch(/^cluster \S+ is there: 1 node; secrets are encrypted/);
    expect(await done('up')).toMatch(/^nothing to do/);
    expect(await done('encrypt', 'rotate-key')).toContain('proved');
    const inside = '/opt/rke/etc/kubernetes/ssl';
    expect(await host.readFile(`${inside}/encryption.yaml`)).toContain('aescbc');
    expect(await host.readFile(`${inside}/kube-ca.pem`)).toContain('BEGIN CERTIFICATE');
    expect(await host.list('/etc/kubernetes')).toEqual([]);
    const shown = await lab.tsrke(['encrypt', 'status', '--check']);
    expect(shown.code, shown.stderr).toBe(0);
    if (labName === 'real') {
      const logins = await host.logins();
      expect(logins.map(({ from }) => from)).not.toContain('outside');
    }
    await done('remove', '--force');
    expect(await host.list('/opt/rke/etc/kubernetes')).toEqual([]);
    expect(await host.list('/opt/rke/var/lib/etcd')).toEqual([]);
    expect(readFileSync(lab.config, 'utf8')).toContain('prefix_path');
  } finally {
    await letIn();
  }
});
