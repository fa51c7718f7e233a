/** What stops a run before any file is pushed that names a KMS plugin. */
import { describe, expect, test } from 'vitest';
import { TsrkeError } from '../../../src/errors.ts';
import type { KmsProvider, ProviderFile } from '../../../src/encryption/configuration.ts';
import type { MemberLook } from '../../../src/encryption/observe.ts';
import { preflightKms } from '../../../src/encryption/kms/preflight.ts';
import { KmsPlugin as LabPlugin, type Vault } from '../../../src/lab/kms-plugin.ts';
import type { KmsPlugin, NodeName } from '../../../src/ports.ts';
import { Notes } from '../../hosts/notes.ts';

const { signal } = new AbortController();
const kms: KmsProvider = {
  kind: 'kms',
  apiVersion: 'v2',
  name: 'vault',
  endpoint: 'unix:///var/run/kmsplugin/socket.sock',
};

function member(node: NodeName, file: ProviderFile | undefined): MemberLook {
  return {
    ...{ node, flag: false, file, loaded: 'yes', ready: true, binds: 'lacking', reloadFlag: 'as wanted' },
    ...{ path: '/p', onDisk: undefined, minor: 34, reload: undefined, failing: [] },
    container: {
      ...{ running: true, startedAt: '', args: [], image: '', hostname: node, interrupted: false },
      binds: ['/etc/kubernetes:/etc/kubernetes:z'],
    },
  };
}

/** `plugins`: by node, or by node and socket. `asked`: the sockets on the hosts that were opened. `file`: on each node. */
function cluster(
  plugins: Readonly<Record<string, Partial<Fake>>>,
  binds: readonly string[] = [mount],
  file?: ProviderFile,
) {
  const asked: string[] = [];
  const nodes = Object.keys(plugins).filter((each) => !each.includes(' '));
  const members = nodes.map((node) => member(node, file));
  const world = {
    binds: { wanted: binds, former: [] },
    report: new Notes(),
    plugins: {
      plugin(node: NodeName, path: string) {
        asked.push(`${node} ${path}`);
        return new Fake(plugins[`${node} ${path}`] ?? plugins[node] ?? {});
      },
    },
  };
  const run = (...providers: KmsProvider[]) => preflightKms(providers, { members }, world, signal);
  return { asked, run };
}

const shared: Vault = new Map();
const mount = '/run/plugins:/var/run/kmsplugin';

class Fake implements KmsPlugin {
  keys = new LabPlugin(shared, 'kek-1');
  version = 'v2';
  healthz = 'ok';
  statusKeyId: string | undefined;

  constructor(changes: Partial<Fake>) {
    Object.assign(this, changes);
  }

  status() {
    const { version, healthz, statusKeyId: keyId = this.keys.keyId } = this;
    return Promise.resolve({ version, healthz, keyId });
  }

  encrypt(plain: Buffer) {
    return Promise.resolve({ ciphertext: this.keys.encrypt(plain), keyId: this.keys.keyId, annotations: {} });
  }

  decrypt({ ciphertext }: { ciphertext: Buffer }) {
    const plain = this.keys.decrypt(ciphertext);
    return plain === undefined
      ? Promise.reject(new TsrkeError('KMS_UNHEALTHY', 'it has no key kek-1'))
      : Promise.resolve(plain);
  }

  close(): void {
    // Nothing is open.
  }
}

test('a plugin that works on all nodes is asked at the socket on the host', async () => {
  const { asked, run } = cluster({ n1: {}, n2: {} });
  await run(kms);
  expect(asked).toEqual(['n1 /run/plugins/socket.sock', 'n2 /run/plugins/socket.sock']);
});

test.each<[string, Readonly<Record<NodeName, Partial<Fake>>>, object]>([
  [
    'another key on one node',
    { n1: {}, n2: {}, n3: { keys: new LabPlugin(new Map(), 'kek-1') } },
    {
      errors: [
        { code: 'KMS_KEYS_DIFFER' },
        { code: 'KMS_KEYS_DIFFER' },
        { code: 'KMS_KEYS_DIFFER', node: 'n3' },
      ],
    },
  ],
  [
    'one that is not healthy',
    { n1: {}, n2: { healthz: 'sealed' } },
    { code: 'KMS_UNHEALTHY', node: 'n2', message: 'the KMS plugin vault is not healthy: sealed' },
  ],
  [
    'one of another version',
    { n1: { version: 'v1beta1' } },
    { code: 'KMS_KEYS_DIFFER', message: 'the KMS plugin vault speaks v1beta1, not v2' },
  ],
  [
    'one that encrypts with another key than it says',
    { n1: { statusKeyId: 'kek-9' } },
    {
      code: 'KMS_KEYS_DIFFER',
      message: 'the KMS plugin vault encrypts with key id kek-1 while its Status says kek-9',
    },
  ],
])('refused: %s', async (_, plugins, error) => {
  await expect(cluster(plugins).run(kms)).rejects.toMatchObject(error);
});

test('a socket that kube-apiserver would not see is named with the line that mounts it', async () => {
  const { asked, run } = cluster({ n1: {} }, []);
  await expect(run(kms)).rejects.toMatchObject({
    code: 'KMS_UNMOUNTED',
    next: 'add "/var/run/kmsplugin:/var/run/kmsplugin" to services.kube-api.extra_binds in cluster.yml; nothing was touched',
  });
  expect(asked).toEqual([]);
});

describe('a name that moves to another socket', () => {
  const moved: KmsProvider = { ...kms, endpoint: 'unix:///var/run/kmsplugin/moved.sock' };
  const before: ProviderFile = { entries: [{ resources: ['secrets'], providers: [kms] }] };
  const other = { keys: new LabPlugin(new Map(), 'kek-1') };

  test('is tried at both, where the plugins decrypt each other’s', async () => {
    const { asked, run } = cluster({ n1: {}, n2: {} }, [mount], before);
    await run(moved);
    expect(asked).toHaveLength(4);
  });

  test.each([
    { title: 'with other keys behind it', plugins: { n1: {}, 'n1 /run/plugins/moved.sock': other } },
    {
      title: 'with more keys behind it, which those of before do not have',
      plugins: { n1: {}, 'n1 /run/plugins/moved.sock': { keys: newer() } },
    },
  ])('is refused $title', async ({ plugins }) => {
    await expect(cluster(plugins, [mount], before).run(moved)).rejects.toMatchObject({
      code: 'KEY_CONFLICT',
      node: 'n1',
      next: 'no provider file can hold both: give the one at unix:///var/run/kmsplugin/moved.sock a name of its own in cluster.yml; nothing was touched',
    });
  });
});

/** Reads what the shared one writes, and writes what that cannot read. */
function newer(): LabPlugin {
  const vault: Vault = new Map(shared);
  return new LabPlugin(vault, 'kek-2');
}
