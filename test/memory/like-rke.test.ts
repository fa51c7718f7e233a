/** What `tsrke up` makes of RKE's own cluster.yml on bare hosts is what RKE 1.6.3 made of it, but for keys and times. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it, test } from 'vitest';
import { parseProviderFile } from '../../src/encryption/configuration.ts';
import { fixture, inspected } from '../services/inputs.ts';
import { MemoryLab } from './memory-lab.ts';

interface Element {
  readonly certificatePEM: string;
  readonly keyPEM: string;
  readonly config: string;
}

interface Half {
  readonly rkeConfig: object;
  readonly certificatesBundle: Readonly<Record<string, Element>>;
  readonly encryptionConfig: string;
}

const halves = ['desiredState', 'currentState'] as const;
type State = Readonly<Record<(typeof halves)[number], Half>>;

const rke = JSON.parse(readFileSync(fixture('enabled.rkestate'), 'utf8')) as State;
const hosts = ['h1', 'h2', 'h3'] as const;
const lab = new MemoryLab({ nodes: 3, bare: true, encrypted: true, config: fixture('cluster.yml') });
let ours: State;

async function get<T>(ask: Promise<{ readonly body: Buffer }> | undefined): Promise<T> {
  return JSON.parse((await ask)?.body.toString() ?? '') as T;
}

beforeAll(async () => {
  const { error, notes } = await lab.up();
  expect(error, notes.join('\n')).toBeUndefined();
  ours = lab.store.state.document as unknown as State;
});

/** PEM texts are told by their kind, keys and certificates in kubeconfigs by that there are some. */
function withoutKeys({ certificatePEM, keyPEM, config, ...rest }: Element) {
  const kinds = (pem: string) => pem.match(/-----BEGIN [^-]+-----/g);
  return {
    ...rest,
    certificate: kinds(certificatePEM),
    key: kinds(keyPEM),
    // RKE's leads to whichever kube-apiserver of them was the first to answer.
    config: config.replace(/(-data: )\S+/g, '$1…').replace(/198\.51\.100\.1[123]:/, '…:'),
    configPath: /[^/]*$/.exec((rest as { configPath?: string }).configPath ?? '')?.[0],
  };
}

/** What a client or server can see of it; and days, hours of which depend on leap seconds nobody counts. */
function seenIn(pem: string) {
  const { subject, issuer, subjectAltName, keyUsage, ca, publicKey, validFrom, validTo } =
    new X509Certificate(pem);
  return {
    ...{ subject, issuer, ca, usages: keyUsage },
    names: subjectAltName?.split(', ').sort(),
    bits: publicKey.asymmetricKeyDetails?.modulusLength,
    days: Math.round((Date.parse(validTo) - Date.parse(validFrom)) / 86_400_000),
  };
}

describe.each(halves)('%s', (half) => {
  it('has no part that RKE would not write, and lacks none', () => {
    expect(Object.keys(ours[half]).sort()).toEqual(Object.keys(rke[half]).sort());
  });

  it('has the configuration that RKE makes of cluster.yml, field for field', () => {
    // RKE puts its flag --ignore-docker-version over what cluster.yml says, also where nobody gave it.
    expect({ ...ours[half].rkeConfig, ignoreDockerVersion: false }).toEqual(rke[half].rkeConfig);
  });

  it('has every certificate of RKE, for the same names and uses', () => {
    const bundle = (state: State) =>
      Object.entries(state[half].certificatesBundle).map(([name, element]) => [
        name,
        withoutKeys(element),
        seenIn(element.certificatePEM),
      ]);
    expect(bundle(ours).sort()).toEqual(bundle(rke).sort());
  });

  it('has a provider file as RKE has it, under a key of its own', () => {
    const [of, theirs] = [ours, rke].map((state) => parseProviderFile(state[half].encryptionConfig, half));
    const shape = (text: string) =>
      text.replace(/k-\w+/g, 'k-').replace(/"?secret"?: ?"?[^"\s,}]+"?/g, 'secret');
    expect(shape(JSON.stringify(of))).toBe(shape(JSON.stringify(theirs)));
  });
});

it('has one copy of the state in the cluster, where RKE looks for it', async () => {
  const path = '/api/v1/namespaces/kube-system/secrets/full-cluster-state';
  const { type, data } = await get<{ type: string; data: Record<string, string> }>(lab.put('GET', path));
  const copy = JSON.parse(Buffer.from(data['full-cluster-state'] ?? '', 'base64').toString()) as State;
  expect(type).toBe('Opaque');
  for (const half of halves) expect(copy[half]).toEqual(ours[half]);
});

test.each(hosts)('the containers of %s are as RKE made them', async (host) => {
  const docker = <T>(path: string) =>
    get<T>(lab.model.docker(host, { method: 'GET', path, headers: {}, body: Buffer.alloc(0) }));
  const all = await docker<{ Id: string }[]>('/containers/json?all=1');
  const made = await Promise.all(
    all.map(({ Id }) => docker<ReturnType<typeof inspected>[number]>(`/containers/${Id}/json`)),
  );
  // RKE leaves this one behind when it has put its state file there.
  const theirs = inspected(host).filter(({ Name }) => Name !== '/cluster-state-deployer');
  const told = ({ Name, Config, HostConfig }: (typeof theirs)[number]) => {
    // The model leaves out what Docker would say of a request that says nothing.
    const { PidMode, Privileged } = Object.assign({ PidMode: '', Privileged: false }, HostConfig);
    return {
      ...{ name: Name, image: Config.Image, labels: Config.Labels },
      // In any order: RKE's comes out of a Go map.
      words: [...(Config.Entrypoint ?? []), ...(Config.Cmd ?? [])].sort(),
      env: Config.Env.filter((variable) => !variable.startsWith('PATH=')).sort(),
      ...{ binds: HostConfig.Binds ?? [], volumesFrom: HostConfig.VolumesFrom ?? [] },
      ...{ restart: HostConfig.RestartPolicy.Name, network: HostConfig.NetworkMode },
      ...{ pid: PidMode, privileged: Privileged },
    };
  };
  const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
  expect(made.map(told).sort(byName)).toEqual(theirs.map(told).sort(byName));
});
