/** The lab with pods: what they need of the hosts is there. */
import { afterAll, expect, it } from 'vitest';
import { poll, type LabHost } from './lab.ts';
import { closeHosts, openRealLab } from './real-lab.ts';

afterAll(closeHosts);

it('has pods that reach each other across hosts and keep their Secret through a rotation of the key', async () => {
  const roles = [['controlplane', 'etcd'], ['worker'], ['worker']] as const;
  const lab = await openRealLab({ bare: true, hosts: 3, roles, network: 'flannel' });
  try {
    const [first, one, other] = lab.hosts;
    if (first === undefined || one === undefined || other === undefined) throw new Error('no host');
    const { code, stdout, stderr } = await lab.tsrke(['up']);
    expect(code, stdout + stderr).toBe(0);

    const create = async (kind: string, body: object) => {
      const { status, text } = await lab.kube(first, 'POST', `/api/v1/namespaces/default/${kind}`, body);
      expect(status, text).toBe(201);
    };
    const pod = (name: string, on: LabHost, command: string) => ({
      metadata: { name, labels: { app: name } },
      spec: {
        nodeName: on.name,
        terminationGracePeriodSeconds: 0,
        restartPolicy: 'Never',
        containers: [{ name, image: 'tsrke-lab/shell:1', command: ['sh', '-c', command] }],
      },
    });
    await create('services', {
      metadata: { name: 'web' },
      spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }], clusterIP: '10.43.0.80' },
    });
    await create('pods', pod('web', one, 'echo hello >/tmp/hello; httpd -f -p 8080 -h /tmp'));
    const asks = `until nslookup web.default.svc.cluster.local | grep -q 10.43.0.80; do sleep 1; done
      until wget -qO- http://10.43.0.80/hello 2>/dev/null; do sleep 1; done`;
    await create('pods', pod('client', other, asks));
    await poll('the client to get its answer', async () => {
      const { text } = await lab.kube(first, 'GET', '/api/v1/namespaces/default/pods/client');
      const { status } = JSON.parse(text) as { status: { phase: string } };
      return status.phase === 'Succeeded' || JSON.stringify(status);
    });
    // By way of the apiserver and the kubelet.
    const log = await lab.kube(first, 'GET', '/api/v1/namespaces/default/pods/client/log');
    expect(log.text).toContain('hello\n');

    await create('secrets', { metadata: { name: 'password' }, stringData: { word: 'open' } });
    // It ends, and fails, as soon as the word is another one.
    const keeper = (name: string, on: LabHost) => {
      const { metadata, spec } = pod(
        name,
        on,
        'while [ "$(cat /secret/word)" = open ]; do sleep 1; done; exit 1',
      );
      const [container] = spec.containers;
      const volumes = [{ name: 'secret', secret: { secretName: 'password' } }];
      const containers = [{ ...container, volumeMounts: [{ name: 'secret', mountPath: '/secret' }] }];
      return { metadata, spec: { ...spec, volumes, containers } };
    };
    const runs = (name: string) =>
      poll(`pod ${name} to run`, async () => {
        const { text } = await lab.kube(first, 'GET', `/api/v1/namespaces/default/pods/${name}`);
        const { status } = JSON.parse(text) as { status?: { phase: string } };
        return status?.phase === 'Running' || text;
      });
    await create('pods', keeper('before', one));
    await runs('before');
    let during: Promise<void> | undefined;
    const rotation = await lab.tsrke(['encrypt', 'rotate-key'], {
      onOutput(text) {
        if (!text.includes('rewrite secrets')) return;
        during ??= create('pods', keeper('during', other)).then(() => runs('during'));
      },
    });
    expect(rotation.code, rotation.stderr).toBe(0);
    await during;
    await create('pods', keeper('after', one));
    for (const name of ['before', 'during', 'after']) await runs(name);

    await poll('what metrics-server knows of each node', async () => {
      const { status, text } = await lab.kube(first, 'GET', '/apis/metrics.k8s.io/v1beta1/nodes');
      return (status === 200 && (JSON.parse(text) as { items: unknown[] }).items.length === 3) || text;
    });
  } finally {
    await lab.close();
  }
});
