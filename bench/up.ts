/**
 * How long `tsrke up` takes to make three real bare hosts (the real lab: root, Linux) a whole cluster whose Secrets are
 * encrypted, and where its seconds go. Exits 1 when a figure misses its target.
 */
import { closeHosts, openRealLab } from '../test/lab/real-lab.ts';
import { byPhase, show, timed } from './phases.ts';

/** Seconds that RKE 1.6.3 took on such hosts: until all kube-apiservers were healthy, until all services were. */
const rke = { apiservers: 54, services: 77 };
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 1);

/** The stages of `up`, and what it does besides. */
const isPhase = (text: string) => /^[a-z]/.test(text) && !/^(state saved|cluster \S+ is there)/.test(text);

function told(what: string, seconds: number, limit: number): void {
  const met = seconds <= limit;
  console.log(`${met ? 'ok    ' : 'MISSED'} ${what}: ${seconds.toFixed(1)} s (RKE: ${limit} s)`);
  if (!met) process.exitCode = 1;
}

try {
  for (let round = 0; round < rounds; round += 1) {
    const lab = await openRealLab({ bare: true, hosts: 3 });
    try {
      const { seconds, lines } = await timed(lab, 'up');
      show(
        lines,
        byPhase(lines, seconds, (text) => (isPhase(text) ? text.replace(/[:(].*/, '').trim() : undefined)),
      );
      // Encryption's own engine begins once every kube-apiserver is ready.
      const healthy = lines.find(({ text }) => /^connect to \d+ controlplane/.test(text));
      if (healthy === undefined) throw new Error('no kube-apiserver was asked');
      told('three bare hosts, until all kube-apiservers are healthy', healthy.at / 1000, rke.apiservers);
      told('three bare hosts, until all is there', seconds, rke.services);
      const again = await timed(lab, 'up');
      console.log(`       the next up, with nothing to do: ${again.seconds.toFixed(1)} s`);
    } finally {
      await lab.close();
    }
  }
} finally {
  await closeHosts();
}
