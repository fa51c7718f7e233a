/** Where kube-apiserver keeps its data, as its own arguments say. */

export interface EtcdArguments {
  /** --etcd-servers, in their order. */
  readonly servers: readonly string[];
  /** --etcd-prefix; default `/registry`. */
  readonly prefix: string;
  /** Paths as kube-apiserver sees them; undefined where it uses none. */
  readonly caFile: string | undefined;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  /** --etcd-servers-overrides: resources (`/events`, `apps/deployments`: group/resource) kept in other etcds. */
  readonly overrides: readonly { readonly resource: string; readonly servers: readonly string[] }[];
}

/** Reads kube-apiserver's arguments (`--name=value`); of one given twice the last counts, as for the server. */
export function etcdArguments(args: readonly string[]): EtcdArguments {
  const value = (name: string): string | undefined => {
    const found = args.findLast((each) => each.startsWith(`--${name}=`));
    const text = found?.slice(name.length + 3);
    return text === '' ? undefined : text;
  };
  const list = (text: string | undefined, separator: string) =>
    (text ?? '')
      .split(separator)
      .map((each) => each.trim())
      .filter((each) => each !== '');
  return {
    servers: list(value('etcd-servers'), ','),
    prefix: value('etcd-prefix') ?? '/registry',
    caFile: value('etcd-cafile'),
    certFile: value('etcd-certfile'),
    keyFile: value('etcd-keyfile'),
    overrides: list(value('etcd-servers-overrides'), ',').map((override) => {
      const [resource = '', servers] = override.split('#');
      return { resource, servers: list(servers, ';') };
    }),
  };
}
