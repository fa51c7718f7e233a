/** The lab with pods: what they need of the hosts is there. */
import { afterAll, expect, it } from 'vitest';
import { poll, type LabHost } from './lab.ts';
import { closeHosts, openRealLab } from './real-lab.ts';

afterAll(closeHosts);

it('has pods that reach each other across hosts, by name and through a service', async () => {
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

    await poll('what metrics-server knows of each node', async () => {
      const { status, text } = await lab.kube(first, 'GET', '/apis/metrics.k8s.io/v1beta1/nodes');
      return (status === 200 && (JSON.parse(text) as { items: unknown[] }).items.length === 3) || text;
    });
  } finally {
    await lab.close();
  }
});
