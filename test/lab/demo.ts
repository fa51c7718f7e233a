/**
 * `npm run demo:real`: a real three-node cluster on this machine, and the main job on it: enable, rotate, disable, with
 * what lies in etcd shown before and after each. Needs root on Linux.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { closeHosts, openRealLab, type RealLab } from './real-lab.ts';

const say = (text: string) => process.stdout.write(`${text}\n`);

async function showEtcd(lab: RealLab): Promise<void> {
  const counts = new Map<string, number>();
  for (const prefix of (await lab.etcd.prefixes()).values())
    counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
  for (const [prefix, count] of counts) {
    say(`   etcd: ${count} secrets ${prefix === '' ? 'in plain form' : `under ${prefix}`}`);
  }
}

async function tsrke(lab: RealLab, ...args: string[]): Promise<void> {
  say(`\n$ tsrke ${args.join(' ')}`);
  const ran = await lab.tsrke(args);
  say(`${ran.stderr}${ran.stdout}`.replace(/^/gm, '   ').trimEnd());
  if (ran.code !== 0) throw new Error(`tsrke ${args.join(' ')} ended with exit code ${ran.code}`);
  await showEtcd(lab);
}

try {
  say('starting three hosts with a cluster as RKE makes it, and 200 secrets …');
  const lab = await openRealLab({ hosts: 3, encryption: 'off', secrets: 200 });
  try {
    await showEtcd(lab);
    const off = readFileSync(lab.config, 'utf8');
    say('\ncluster.yml: services.kube-api.secrets_encryption_config.enabled: true');
    const on = 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}';
    writeFileSync(lab.config, off.replace('services:', on));
    await tsrke(lab, 'up');
    await tsrke(lab, 'encrypt', 'rotate-key');
    say('\ncluster.yml: the block removed again');
    writeFileSync(lab.config, off);
    await tsrke(lab, 'up');
  } finally {
    await lab.close();
  }
} finally {
  await closeHosts();
}
