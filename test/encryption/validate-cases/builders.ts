/** What the tables of provider files are written with. */

export type Stage = 'accepted' | 'parsing' | 'decoding' | 'building' | 'loading';

export interface Case {
  readonly name: string;
  readonly text: string;
  readonly reload?: boolean;
  /** --feature-gates=KMSv1=…, KMSv2=…; default as the version has them. */
  readonly kmsV1?: boolean;
  readonly kmsV2?: boolean;
  /** From this minor version on: at which stage the server stops, and with which words. */
  readonly says: readonly (readonly [from: number, stage: Stage, words?: string])[];
  /** We do not read it, though the server does. */
  readonly stricter?: true;
}

export const nodeFile = '/etc/kubernetes/ssl/encryption.yaml';

export const key = 'kx0Zr3mUq1oV5tYw8bDfGhJkLpNcQeSgTiWlXyZaBcE=';
export const key16 = 'kx0Zr3mUq1oV5tYw8bDfGg==';
export const head = 'apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n';
export const good = `{aescbc: {keys: [{name: k-1, secret: ${key}}]}}`;

/** One entry, in flow style: lists of resources and of providers as they stand in YAML. */
export function entry(providers: string, resources = 'secrets'): string {
  return `${head}resources:\n- resources: [${resources}]\n  providers: [${providers}]\n`;
}

export function aescbc(keys: string): string {
  return entry(`{aescbc: {keys: [${keys}]}}`);
}

export function kms(fields: string): string {
  return entry(`{kms: {${fields}}}`);
}
export const p0 = 'resources[0].providers[0]';
export const noProvider =
  'provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity';

/** The same words at every version. */
export function always(stage: Stage, words?: string): Case['says'] {
  return [words === undefined ? [24, stage] : [24, stage, words]];
}
