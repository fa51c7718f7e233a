/** Where a lab's nodes are: each at a loopback address of its own, or, where there is only one, behind a bastion. */
import { createServer } from 'node:net';

export interface Addresses {
  /** One for each node: `127.0.0.11`, …; behind a bastion names that lead nowhere by themselves. */
  readonly nodes: readonly string[];
  /** The nodes listen nowhere and are reached through a bastion at 127.0.0.1. */
  readonly behindBastion: boolean;
}

/** Linux takes all of 127.0.0.0/8 for its own, macOS 127.0.0.1 alone. `bastion` true: even where it is not needed. */
export async function addressesFor(count: number, bastion?: boolean): Promise<Addresses> {
  const own = Array.from({ length: count }, (_, index) => `127.0.0.${11 + index}`);
  const usable = bastion !== true && (await Promise.all(own.map(canListen))).every(Boolean);
  if (usable) return { nodes: own, behindBastion: false };
  // `.invalid` never resolves (RFC 6761), so that a direct connection fails at once.
  const names = own.map((_, index) => `node-${index + 1}.tsrke-lab.invalid`);
  return { nodes: names, behindBastion: true };
}

function canListen(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(0, address, () => server.close(() => resolve(true)));
  });
}
