/** Key pairs for a lab's hosts and its user. */
import ssh2 from 'ssh2';

export interface SshKeyPair {
  /** OpenSSH's format. */
  readonly private: string;
  /** As in authorized_keys and known_hosts: `ssh-ed25519 AAAA…`. */
  readonly public: string;
}

/**
 * ed25519. ssh2 1.17 drops a leading zero byte of such a key, and then cannot read what it has written: one in 256 is
 * made again.
 */
export function createSshKey(): SshKeyPair {
  while (true) {
    const pair = ssh2.utils.generateKeyPairSync('ed25519');
    if (!(ssh2.utils.parseKey(pair.public) instanceof Error)) return pair;
  }
}
