/**
 * How long `tsrke encrypt rotate-key` takes on three real nodes (the real lab: root, Linux), with 1,000 and with
 * 10,000 secrets, and where its seconds go. Exits 1 when a figure misses its target.
 */
import { closeHosts, openRealLab } from '../test/lab/real-lab.ts';
import { byPhase, show, timed } from './phases.ts';

/** Seconds wanted for so many secrets. */
const wanted = [
  { secrets: 1_000, seconds: 75 },
  { secrets: 10_000, seconds: 90 },
] as const;
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 1);

/** A new phase begins with the line that matches; the restarts and the looks in between are told apart by it too. */
const phases: readonly (readonly [line: RegExp, phase: string])[] = [
  [/^connect to /, 'connect'],
  [/^look at the nodes/, 'look, save'],
  [/^make every key readable/, 'read'],
  [/^write with the wanted key/, 'write'],
  [/^rewrite secrets/, 'rewrite'],
  [/^remove what is no longer needed/, 'prune'],
  [/^ *rewrote /, 'prove, save'],
  [/^ {4}restarting kube-apiserver/, 'restart (Docker)'],
  [/^ {4}waiting for kube-apiserver/, 'wait for /readyz and the hash'],
  [/^ {2}h\d$/, 'look at the node, push the file'],
  [/^ {4}h\d is ready/, 'look again, save'],
];

try {
  const lab = await openRealLab({ hosts: 3, encryption: 'on' });
  try {
    let made = 0;
    for (const { secrets, seconds: limit } of wanted) {
      await lab.createSecrets(secrets - made);
      made = secrets;
      for (let round = 0; round < rounds; round += 1) {
        const { seconds, lines } = await timed(lab, 'encrypt', 'rotate-key');
        const phaseOf = (text: string) => phases.find(([line]) => line.test(text))?.[1];
        show(lines, byPhase(lines, seconds, phaseOf));
        const met = seconds <= limit;
        console.log(
          `${met ? 'ok    ' : 'MISSED'} ${secrets} secrets: ${seconds.toFixed(1)} s (${limit} s wanted)`,
        );
        if (!met) process.exitCode = 1;
      }
    }
  } finally {
    await lab.close();
  }
} finally {
  await closeHosts();
}
