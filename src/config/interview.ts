/** What is asked for a new cluster.yml: RKE's questions in their order, and whether secrets are to be encrypted. */
import { BlockList, isIP } from 'node:net';
import { isNetwork, isNodeName } from './rules.ts';
import { atLeast, defaultVersion, knownVersions, kubernetesVersion } from './versions.ts';

export interface Question {
  readonly text: string;
  /** Taken for an empty answer, also where that is empty; undefined: there has to be one. */
  readonly usual: string | undefined;
  /** Why an answer will not do. */
  readonly refuse?: (answer: string) => Promise<string | undefined> | string | undefined;
  /** A private key: lines to its end, which nobody is to see. */
  readonly isKey?: boolean;
  /** RKE does not ask it: where the answers end before, it is the usual one. */
  readonly isOurs?: boolean;
}

type RefuseKey = (text: string) => Promise<string | undefined>;

/** Resolves to an answer that is not refused. */
export type Ask = (question: Question) => Promise<string>;

export interface HostAnswers {
  readonly address: string;
  readonly port: string;
  /** Empty: that of the cluster. */
  readonly sshKeyPath: string;
  readonly sshKey: string;
  readonly user: string;
  readonly roles: readonly string[];
  readonly hostnameOverride: string;
  readonly internalAddress: string;
  readonly dockerSocket: string;
}

export interface Answers {
  readonly sshKeyPath: string;
  readonly hosts: readonly HostAnswers[];
  readonly plugin: string;
  readonly strategy: string;
  readonly mode: string;
  readonly version: string;
  readonly clusterDomain: string;
  readonly serviceRange: string;
  readonly podRange: string;
  readonly dnsAddress: string;
  readonly addons: readonly string[];
  readonly isEncrypted: boolean;
}

export const usual = {
  sshKeyPath: '~/.ssh/id_rsa',
  port: '22',
  user: 'ubuntu',
  dockerSocket: '/var/run/docker.sock',
  plugin: 'canal',
  strategy: 'x509',
  mode: 'rbac',
  clusterDomain: 'cluster.local',
  serviceRange: '10.43.0.0/16',
  podRange: '10.42.0.0/16',
  dnsAddress: '10.43.0.10',
} as const;

/** `version`: of Kubernetes, instead of the default one. `refuseKey`: why a text is no private SSH key. */
export async function interview(
  ask: Ask,
  { version, refuseKey }: { readonly version?: string; readonly refuseKey: RefuseKey },
): Promise<Answers> {
  const sshKeyPath = await ask({ text: "path of the cluster's private SSH key", usual: usual.sshKeyPath });
  const count = Number(
    await ask({
      text: 'how many hosts',
      usual: '1',
      refuse: (answer) => (isNumber(answer, 1, 1000) ? undefined : 'a number from 1 to 1000'),
    }),
  );
  const hosts: HostAnswers[] = [];
  for (let index = 0; index < count; index += 1) {
    hosts.push(await askHost(ask, hosts, count, refuseKey));
  }

  const plugin = await ask({
    text: 'network plugin (canal, calico, flannel, weave, none)',
    usual: usual.plugin,
    refuse: (answer) =>
      answer === 'aci'
        ? 'aci needs settings of its own: take none here, and write them into the file'
        : oneOf(['canal', 'calico', 'flannel', 'weave', 'none'])(answer),
  });
  const strategy = await ask({
    text: 'authentication (x509, x509|webhook)',
    usual: usual.strategy,
    refuse: oneOf(['x509', 'x509|webhook']),
  });
  const mode = await ask({
    text: 'authorization (rbac)',
    usual: usual.mode,
    refuse: (answer) =>
      answer === 'none' ? 'pod security, which every version here has, needs rbac' : oneOf(['rbac'])(answer),
  });
  const chosen = versionOf(
    await ask({
      text: 'Kubernetes version',
      usual: version ?? (plugin === 'weave' ? newestWithWeave() : defaultVersion),
      refuse: (answer) => refuseVersion(answer, plugin),
    }),
  );
  const clusterDomain = await ask({
    text: 'domain of the cluster',
    usual: usual.clusterDomain,
    refuse: (answer) => (isNodeName(answer) ? undefined : 'a domain such as cluster.local'),
  });
  const serviceRange = await ask({
    text: 'network of services',
    usual: usual.serviceRange,
    refuse: (answer) => refuseRange(answer, plugin),
  });
  const podRange = await ask({
    text: 'network of pods',
    usual: usual.podRange,
    refuse: (answer) =>
      refuseRange(answer, plugin) ??
      (overlap(answer, serviceRange)
        ? `it overlaps with the network of services, ${serviceRange}`
        : undefined),
  });
  const dnsAddress = await ask({
    text: "address of the cluster's DNS service",
    usual: tenthOf(serviceRange),
    refuse: (answer) =>
      isIP(answer) !== 0 && contains(serviceRange, answer)
        ? undefined
        : `an address in the network of services, ${serviceRange}`,
  });
  return {
    ...{ sshKeyPath, hosts, plugin, strategy, mode, version: chosen },
    ...{ clusterDomain, serviceRange, podRange, dnsAddress },
    addons: await askAddons(ask),
    isEncrypted: await confirm(ask, 'encrypt secrets at rest', true, { isOurs: true }),
  };
}

async function askHost(
  ask: Ask,
  before: readonly HostAnswers[],
  count: number,
  refuseKey: RefuseKey,
): Promise<HostAnswers> {
  const address = await ask({
    text: `address of host ${before.length + 1} for SSH`,
    usual: undefined,
    refuse: (answer) =>
      isIP(answer) === 0 && (/^[\d.]+$/.test(answer) || !isNodeName(answer.toLowerCase()))
        ? 'an IP address or a host name'
        : before.some((host) => host.address === answer)
          ? 'another host has this address'
          : undefined,
  });
  const of = `of ${address}`;
  const port = await ask({
    text: `SSH port ${of}`,
    usual: usual.port,
    refuse: (answer) => (isNumber(answer, 1, 65535) ? undefined : 'a port is a number from 1 to 65535'),
  });
  const sshKeyPath = await ask({
    text: `path of the private SSH key ${of} (empty: the key itself)`,
    usual: '',
  });
  const sshKey =
    sshKeyPath !== ''
      ? ''
      : await ask({
          text: `private SSH key ${of} (empty: the cluster's)`,
          usual: '',
          isKey: true,
          refuse: (answer) => (answer === '' ? undefined : refuseKey(answer)),
        });
  const user = await ask({
    text: `SSH user ${of}`,
    usual: usual.user,
    refuse: (answer) => (/\s/.test(answer) ? 'a name without blanks' : undefined),
  });
  const roles = await askRoles(ask, address, before, count);
  const hostnameOverride = await ask({
    text: `name of ${address} in Kubernetes${isNodeName(address.toLowerCase()) ? ' (empty: its address)' : ''}`,
    usual: isNodeName(address.toLowerCase()) ? '' : undefined,
    refuse: (answer) => {
      const name = (answer === '' ? address : answer).toLowerCase();
      if (!isNodeName(name)) return 'letters, digits, - and .';
      return before.some((host) => nameOf(host) === name) ? 'another host has this name' : undefined;
    },
  });
  const internalAddress = await ask({
    text: `address of ${address} inside the cluster (empty: the same)`,
    usual: '',
    refuse: (answer) => {
      if (answer === '') return undefined;
      if (isIP(answer) === 0) return 'an IP address';
      return before.some((host) => [host.address, host.internalAddress].includes(answer))
        ? 'another host has this address'
        : undefined;
    },
  });
  const dockerSocket = await ask({
    text: `Docker's socket on ${address}`,
    usual: usual.dockerSocket,
    refuse: (answer) => (answer.startsWith('/') ? undefined : 'a path that begins with /'),
  });
  return { address, port, sshKeyPath, sshKey, user, roles, hostnameOverride, internalAddress, dockerSocket };
}

/** RKE lets the last host leave the cluster without etcd, and then refuses the file that it has written. */
async function askRoles(
  ask: Ask,
  address: string,
  before: readonly HostAnswers[],
  count: number,
): Promise<string[]> {
  const isMissing = (role: string) =>
    before.length === count - 1 && !before.some(({ roles }) => roles.includes(role));
  const need = (role: string) => (isMissing(role) ? `no other host has it` : undefined);
  const has = (role: string, byDefault: boolean, refuseNo?: string) =>
    confirm(ask, `does ${address} have the role ${role}`, byDefault, { refuseNo });
  const roles: string[] = [];
  if (await has('controlplane', true, need('controlplane'))) roles.push('controlplane');
  if (await has('worker', false)) roles.push('worker');
  const needed = need('etcd') ?? (roles.length === 0 ? 'a host needs a role' : undefined);
  if (await has('etcd', needed !== undefined, needed)) roles.push('etcd');
  return roles;
}

async function askAddons(ask: Ask): Promise<string[]> {
  const addons: string[] = [];
  for (
    let text = 'add manifests (files or URLs)';
    await confirm(ask, text, false);
    text = 'add another one'
  ) {
    addons.push(await ask({ text: 'path or URL of the manifest', usual: undefined }));
  }
  return addons;
}

async function confirm(
  ask: Ask,
  text: string,
  byDefault: boolean,
  { refuseNo, isOurs }: { readonly refuseNo?: string | undefined; readonly isOurs?: boolean } = {},
): Promise<boolean> {
  const answer = await ask({
    text: `${text} (y/n)`,
    usual: byDefault ? 'y' : 'n',
    refuse: (given) => (/^(y|yes|n|no)$/i.test(given) ? (isYes(given) ? undefined : refuseNo) : 'y or n'),
    ...(isOurs === true && { isOurs }),
  });
  return isYes(answer);
}

export function isYes(answer: string): boolean {
  return /^y(es)?$/i.test(answer);
}

function nameOf({ hostnameOverride, address }: HostAnswers): string {
  return (hostnameOverride === '' ? address : hostnameOverride).toLowerCase();
}

function isNumber(answer: string, least: number, most: number): boolean {
  return /^\d{1,5}$/.test(answer) && Number(answer) >= least && Number(answer) <= most;
}

function oneOf(words: readonly string[]): (answer: string) => string | undefined {
  return (answer) => (words.includes(answer) ? undefined : words.join(' or '));
}

/** RKE asks for the image of Kubernetes, so this may be one. */
function versionOf(answer: string): string {
  const ofImage = knownVersions.findLast(
    (version) => kubernetesVersion(version)?.systemImages['kubernetes'] === answer,
  );
  return ofImage ?? answer;
}

export function refuseVersion(answer: string, plugin: string = usual.plugin): string | undefined {
  const version = kubernetesVersion(versionOf(answer));
  if (version?.known !== true) return `one of ${knownVersions.join(', ')}`;
  return plugin === 'weave' && atLeast(version, 30) ? 'weave ends with Kubernetes 1.29' : undefined;
}

function newestWithWeave(): string {
  return knownVersions.findLast((version) => refuseVersion(version, 'weave') === undefined) ?? defaultVersion;
}

function refuseRange(answer: string, plugin: string): string | undefined {
  const ranges = answer.split(',');
  if (!ranges.every((range) => isNetwork(range))) return 'a network such as 10.43.0.0/16';
  return ranges.length > 1 && plugin !== 'calico' ? `${plugin} has no dual stack: calico has` : undefined;
}

function contains(ranges: string, address: string): boolean {
  const list = new BlockList();
  const familyOf = (text: string) => (isIP(text) === 6 ? 'ipv6' : 'ipv4');
  for (const range of ranges.split(',')) {
    const [base = '', bits = ''] = range.split('/');
    list.addSubnet(base, Number(bits), familyOf(base));
  }
  return list.check(address, familyOf(address));
}

function overlap(some: string, others: string): boolean {
  const bases = (ranges: string) => ranges.split(',').map((range) => range.split('/')[0] ?? '');
  return (
    bases(some).some((base) => contains(others, base)) || bases(others).some((base) => contains(some, base))
  );
}

/** `10.43.0.10` of `10.43.0.0/16`, as RKE has it; of IPv6 it has to be told. */
function tenthOf(ranges: string): string | undefined {
  const [base = '', bits = ''] = (ranges.split(',')[0] ?? '').split('/');
  if (isIP(base) !== 4 || Number(bits) > 28) return undefined;
  const number = base.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - Number(bits));
  const tenth = number - (number % size) + 10;
  return [24, 16, 8, 0].map((shift) => Math.floor(tenth / 2 ** shift) % 256).join('.');
}
