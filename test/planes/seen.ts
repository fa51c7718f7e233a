/** What a look at the three hosts of RKE's fixture shows, and what may be different there. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { bundleIn } from '../../src/certificates/bundle.ts';
import { loadConfig, type ClusterConfig } from '../../src/config/load.ts';
import type { RkeNode } from '../../src/config/rke-config.ts';
import { filesOn } from '../../src/planes/files.ts';
import { describeMove, stagesOf, type PlanOptions } from '../../src/planes/plan.ts';
import type { ClusterSight, NodeSight } from '../../src/planes/sight.ts';
import type { SeenService } from '../../src/ports.ts';
import { planesOf, type Planes } from '../../src/provision/planes.ts';
import type { ServiceName } from '../../src/services/container.ts';
import { parseState, type ClusterState } from '../../src/state/rkestate.ts';
import { debian, fixture, inspected, pathVariable } from '../services/inputs.ts';

export const state = (): ClusterState =>
  parseState(readFileSync(fixture('enabled.rkestate'), 'utf8'), 'the fixture');
export const config = (): ClusterConfig => loadConfig(fixture('cluster.yml'));
export const bundle = bundleIn(state().document.currentState?.certificatesBundle ?? {});

export const info = {
  Architecture: debian.architecture,
  DockerRootDir: debian.rootFolder,
  OperatingSystem: debian.operatingSystem,
  OSType: 'linux',
  ServerVersion: '20.10.24',
};

export function planesFrom(from: ClusterState = state(), cluster = config()): Planes {
  return planesOf({ config: cluster, state: from, bundle, file: { entries: [] }, reloads: false });
}

const hostOf = (name: string) => {
  const rke = planesFrom().rke;
  const node = rke.nodes.find((each) => each.hostnameOverride === name);
  if (node === undefined) throw new Error(`no node ${name}`);
  return node;
};

const serviceNames = new Set<string>([
  ...['etcd', 'etcd-rolling-snapshots', 'service-sidekick', 'kube-apiserver', 'kube-controller-manager'],
  ...['kube-scheduler', 'kubelet', 'kube-proxy', 'nginx-proxy'],
]);

/** As RKE left it. */
export function host(name: 'h1' | 'h2' | 'h3', node: RkeNode = hostOf(name)): NodeSight {
  const services = new Map(
    inspected(name).flatMap((inspect): [ServiceName, SeenService][] => {
      const own = inspect.Name.slice(1);
      const seen = {
        inspect,
        imageEnv: [pathVariable],
        startedAt: '2026-01-01T00:00:00Z',
        interrupted: false,
      };
      return serviceNames.has(own) ? [[own as ServiceName, seen]] : [];
    }),
  );
  const { wish } = planesFrom();
  const files = filesOn(node, debian, wish.wish, bundle).map(
    ({ path, text }) => [path, createHash('sha256').update(text).digest('hex')] as const,
  );
  return { node, info, services, files: new Map(files) };
}

export function bare(node: RkeNode): NodeSight {
  return { node, info, services: new Map(), files: undefined };
}

export function sightOf(nodes: readonly NodeSight[], more: Partial<ClusterSight> = {}): ClusterSight {
  return { nodes, unreached: new Map(), leaving: [], gone: [], etcd: undefined, ...more };
}

/** `h1: create kubelet` below `worker plane`. */
export function told(options: PlanOptions): string[] {
  return stagesOf(options).flatMap(({ title, lanes }) => [
    `${title}:`,
    ...lanes.flatMap((lane) => lane.map((move) => `  ${move.node}: ${describeMove(move)}`)),
  ]);
}

export function toldOf({ wish, recorded }: Planes, sight: ClusterSight) {
  return told({ planes: wish, sight, recorded });
}
