/** A new cluster.yml: the hosts, and what is not as it is by default. */
import { documentText } from './document.ts';
import { usual, type Answers, type HostAnswers } from './interview.ts';
import { isMap } from './keys.ts';

type Struct = Record<string, unknown>;

const comment = `# A cluster for tsrke, in the words of RKE 1. What is left out has its default: \`tsrke config --empty --print\` shows it all.
# Beside it tsrke keeps its state, with certificates and encryption keys: back that up and keep it private.
`;

export function clusterYaml(answers: Answers): string {
  return `${comment}\n${documentText(clusterOf(answers))}`;
}

/** The version stands there even where it is the default one: another tsrke may have another, and would upgrade. */
function clusterOf(answers: Answers): Struct {
  const { sshKeyPath, hosts, plugin, strategy, mode, version, serviceRange, addons } = answers;
  const own = (key: keyof typeof usual, value: string) => (value === usual[key] ? undefined : value);
  return withoutNothing({
    nodes: hosts.map(nodeOf),
    ssh_key_path: own('sshKeyPath', sshKeyPath),
    kubernetes_version: version,
    network: { plugin: own('plugin', plugin) },
    authentication: { strategy: own('strategy', strategy) },
    authorization: { mode: own('mode', mode) },
    services: {
      'kube-api': {
        service_cluster_ip_range: own('serviceRange', serviceRange),
        secrets_encryption_config: { enabled: answers.isEncrypted ? true : undefined },
      },
      'kube-controller': {
        cluster_cidr: own('podRange', answers.podRange),
        service_cluster_ip_range: own('serviceRange', serviceRange),
      },
      kubelet: {
        cluster_domain: own('clusterDomain', answers.clusterDomain),
        cluster_dns_server: own('dnsAddress', answers.dnsAddress),
      },
    },
    addons_include: addons.length === 0 ? undefined : addons,
  });
}

function nodeOf(host: HostAnswers): Struct {
  const told = (value: string, byDefault = '') => (value === '' || value === byDefault ? undefined : value);
  return {
    address: host.address,
    port: Number(host.port) === Number(usual.port) ? undefined : Number(host.port),
    internal_address: told(host.internalAddress, host.address),
    user: host.user,
    role: host.roles,
    hostname_override: told(host.hostnameOverride),
    docker_socket: told(host.dockerSocket, usual.dockerSocket),
    ssh_key_path: told(host.sshKeyPath),
    ssh_key: told(host.sshKey),
  };
}

/** Without what is undefined, and maps with nothing left in them. */
function withoutNothing(struct: Struct): Struct {
  const entries = Object.entries(struct).flatMap(([key, value]): [string, unknown][] => {
    if (value === undefined) return [];
    if (Array.isArray(value)) {
      return [[key, value.map((item: unknown) => (isMap(item) ? withoutNothing(item) : item))]];
    }
    if (!isMap(value)) return [[key, value]];
    const inner = withoutNothing(value);
    return Object.keys(inner).length === 0 ? [] : [[key, inner]];
  });
  return Object.fromEntries(entries);
}

/**
 * Everything that a cluster.yml may have, nothing of it set, made of cluster.example.yml. A setting has no blank behind
 * its `#`, prose has one.
 */
export function emptyYaml(example: string): string {
  const body = example.slice(example.indexOf('\n\n') + 2);
  const lines = body
    .split('\n')
    .map((line) => (line.trim() === '' || /^\s*#/.test(line) ? line : line.replace(/\S/, '#$&')));
  return `# A cluster.yml for tsrke, in the words of RKE 1: take the # from the front of what you set; \`nodes\` is needed.
# Lines with a blank behind the # explain, or are examples.

${lines.join('\n')}`;
}
