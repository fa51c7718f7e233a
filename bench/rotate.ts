/**
 * How long `tsrke encrypt rotate-key` takes on three real nodes (the real lab: root, Linux), with 1,000 and with
 * 10,000 secrets, and where its seconds go. Exits 1 when a figure misses its target.
 */
import { closeHosts, openRealLab, type RealLab } from '../test/lab/real-lab.ts';

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

interface Line {
  /** Milliseconds since the run began. */
  readonly at: number;
  readonly text: string;
}

async function timed(lab: RealLab, ...args: string[]): Promise<{ seconds: number; lines: Line[] }> {
  const began = performance.now();
  const lines: Line[] = [];
  const ran = await lab.tsrke(args, {
    onOutput: (text) => {
      const at = performance.now() - began;
      for (const line of text.split('\n')) if (line !== '') lines.push({ at, text: line });
    },
  });
  if (ran.code !== 0)
    throw new Error(`tsrke ${args.join(' ')} ended with ${String(ran.code)}: ${ran.stderr}`);
  return { seconds: ran.seconds, lines };
}

/** Seconds by phase, in the order in which the phases first began; restarts and waits of all nodes together. */
function byPhase(lines: readonly Line[], end: number): Map<string, number> {
  const sums = new Map<string, number>();
  let current = 'start';
  let since = 0;
  const close = (at: number) => {
    sums.set(current, (sums.get(current) ?? 0) + (at - since) / 1000);
    since = at;
  };
  for (const { at, text } of lines) {
    const [, phase] = phases.find(([line]) => line.test(text)) ?? [];
    if (phase === undefined) continue;
    close(at);
    current = phase;
  }
  close(end * 1000);
  return sums;
}

try {
  const lab = await openRealLab({ hosts: 3, encryption: 'on' });
  try {
    let made = 0;
    for (const { secrets, seconds: limit } of wanted) {
      await lab.createSecrets(secrets - made);
      made = secrets;
      for (let round = 0; round < rounds; round += 1) {
        const { seconds, lines } = await timed(lab, 'encrypt', 'rotate-key');
        if (process.env['BENCH_LINES'] !== undefined) {
          for (const { at, text } of lines) console.log(`${(at / 1000).toFixed(1).padStart(6)}  ${text}`);
        }
        for (const [phase, each] of byPhase(lines, seconds)) {
          console.log(`         ${each.toFixed(1).padStart(5)} s  ${phase}`);
        }
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
