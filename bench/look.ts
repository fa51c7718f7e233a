/**
 * What it costs to find that there is nothing to do: `tsrke --version`, and `up`, `plan`, `encrypt status` on three nodes
 * with 20,000 Secrets and on a hundred nodes of the memory lab, `encrypt verify` besides. BENCH_REAL=1: on three real
 * nodes (the real lab: root) instead. Exits 1 when a figure misses its target. Linux.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startLab } from '../src/lab/lab.ts';
import { closeHosts, openRealLab } from '../test/lab/real-lab.ts';
import { TsrkeRuns } from '../test/lab/tsrke-runs.ts';
import type { Lab } from '../test/lab/lab.ts';

interface Bed {
  readonly nodes: number;
  readonly secrets: number;
  readonly tsrke: Lab['tsrke'];
  /** SSH connections that were let in so far. */
  readonly logins: () => Promise<number>;
  readonly close: () => unknown;
}

interface Figures {
  readonly seconds: number;
  /** Of the processor, user and system. */
  readonly cpu: number;
  readonly mebibytes: number;
  readonly connections: number;
}

const folder = mkdtempSync(join(tmpdir(), 'tsrke-bench-'));
/**
 * Preloaded into a command that is measured: at its end its peak memory and processor time are in the file that BENCH_PEAK
 * names. Not maxRSS of resourceUsage(): that begins with what the parent had.
 */
const preload = `--import=data:text/javascript,${encodeURIComponent(`
  import { readFileSync, writeFileSync } from 'node:fs';
  process.on('exit', () => {
    const [, kibibytes] = /VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'));
    const { user, system } = process.cpuUsage();
    const figures = { mebibytes: kibibytes / 1024, cpu: (user + system) / 1e6 };
    writeFileSync(process.env.BENCH_PEAK, JSON.stringify(figures));
  });
`)}`;

function target(text: string, met: boolean): void {
  console.log(`${met ? 'ok    ' : 'MISSED'} ${text}`);
  if (!met) process.exitCode = 1;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

/** Milliseconds from start to end, both in turn, so that other work on the machine meets both. */
function startup(): void {
  const bin = join(import.meta.dirname, '../bin/tsrke.js');
  const times = { node: [] as number[], tsrke: [] as number[] };
  const timed = (args: readonly string[]) => {
    const began = performance.now();
    spawnSync(process.execPath, args);
    return performance.now() - began;
  };
  for (let round = 0; round < 21; round += 1) {
    times.node.push(timed(['-e', '0']));
    times.tsrke.push(timed([bin, '--version']));
  }
  const [node, tsrke] = [median(times.node), median(times.tsrke)];
  const ratio = tsrke / node;
  const words = `${tsrke.toFixed()} ms, ${ratio.toFixed(2)} times \`node -e 0\` (${node.toFixed()} ms; 2 allowed)`;
  target(`tsrke --version: ${words}`, ratio <= 2);
}

async function memoryBed(nodes: number, secrets: number): Promise<Bed> {
  const dir = mkdtempSync(join(folder, 'lab-'));
  const lab = await startLab({ dir, controlplane: nodes, secrets, encryption: 'on' });
  const runs = new TsrkeRuns(dir);
  return {
    ...{ nodes, secrets },
    tsrke: (args, options) => runs.tsrke(args, options),
    logins: () => Promise.resolve(lab.servers.logins.length),
    close: () => lab.close(),
  };
}

async function realBed(secrets: number): Promise<Bed> {
  const lab = await openRealLab({ hosts: 3, encryption: 'on', secrets });
  return {
    ...{ nodes: 3, secrets },
    tsrke: (args, options) => lab.tsrke(args, options),
    logins: async () => (await Promise.all(lab.hosts.map((host) => host.logins()))).flat().length,
    close: () => lab.close(),
  };
}

async function measured(bed: Bed, command: string): Promise<Figures> {
  const file = join(folder, 'peak.json');
  const before = await bed.logins();
  const env = { NODE_OPTIONS: preload, BENCH_PEAK: file };
  const { code, seconds, stdout, stderr } = await bed.tsrke(command.split(' '), { env });
  if (code !== 0) throw new Error(`tsrke ${command} ended with ${String(code)}: ${stdout}${stderr}`);
  const { cpu, mebibytes } = JSON.parse(readFileSync(file, 'utf8')) as Pick<Figures, 'cpu' | 'mebibytes'>;
  return { seconds, cpu, mebibytes, connections: (await bed.logins()) - before };
}

const commands = ['up', 'plan', 'encrypt status'] as const;

/** All commands on one bed, which is closed then; by command. */
async function measureAll(open: Promise<Bed>, more: readonly string[] = []): Promise<Map<string, Figures>> {
  const bed = await open;
  try {
    // Saves the state and takes the proof: all that comes after it finds nothing to do.
    await measured(bed, 'up');
    const found = new Map<string, Figures>();
    for (const command of [...commands, ...more]) {
      const figures = await measured(bed, command);
      const { seconds, cpu, mebibytes, connections } = figures;
      console.log(
        `${bed.nodes} nodes, ${bed.secrets} Secrets  ${command.padEnd(14)} ${seconds.toFixed(1)} s, ` +
          `${cpu.toFixed(1)} s of its processor, ${mebibytes.toFixed()} MiB, ${connections} SSH connections`,
      );
      found.set(command, figures);
    }
    for (const [command, { connections }] of found) {
      if (connections !== bed.nodes) target(`tsrke ${command}: one SSH connection per node`, false);
    }
    return found;
  } finally {
    await bed.close();
  }
}

/** Each command takes at most so many seconds. */
function withinSeconds(found: ReadonlyMap<string, Figures>, limit: number): void {
  for (const command of commands) {
    const { seconds = NaN } = found.get(command) ?? {};
    target(`tsrke ${command}: ${seconds.toFixed(1)} s (${limit} s allowed)`, seconds <= limit);
  }
}

/** With so many more objects a command takes at most so many MiB more. */
function bounded(few: ReadonlyMap<string, Figures>, many: ReadonlyMap<string, Figures>): void {
  for (const [command, { mebibytes }] of many) {
    const more = mebibytes - (few.get(command)?.mebibytes ?? NaN);
    target(`tsrke ${command}: ${more.toFixed()} MiB more for 20,000 Secrets (100 allowed)`, more <= 100);
  }
}

try {
  startup();
  if (process.env['BENCH_REAL'] === '1') {
    const few = await measureAll(realBed(200));
    const many = await measureAll(realBed(20_000));
    withinSeconds(many, 10);
    bounded(few, many);
  } else {
    const few = await measureAll(memoryBed(3, 200), ['encrypt verify']);
    const many = await measureAll(memoryBed(3, 20_000), ['encrypt verify']);
    withinSeconds(many, 10);
    bounded(few, many);
    withinSeconds(await measureAll(memoryBed(100, 200)), 30);
  }
} finally {
  await closeHosts();
  rmSync(folder, { recursive: true });
}
