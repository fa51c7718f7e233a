/** The certificates that RKE 1.6.3 made for test/fixtures' cluster.yml, and what its cluster.yml asks for. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundleIn, type Bundle, type BundleElement } from '../../src/certificates/bundle.ts';
import { readCertificate, type Certificate } from '../../src/certificates/certificate.ts';
import { certifiedClusterOf, type CertifiedCluster } from '../../src/certificates/cluster.ts';
import { loadConfig } from '../../src/config/load.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';
import { parseState } from '../../src/state/rkestate.ts';

export const fixtures = join(import.meta.dirname, '../fixtures/rke-1.6.3');

const text = readFileSync(join(fixtures, 'enabled.rkestate'), 'utf8');
export const stored = parseState(text, 'enabled.rkestate').document.currentState?.certificatesBundle ?? {};

export const rkeBundle: Bundle = bundleIn(stored);

export const rkeCluster: CertifiedCluster = certifiedClusterOf(
  rkeConfigOf(loadConfig(join(fixtures, 'cluster.yml'))),
  './cluster.yml',
);

/** A day in the life of that cluster. */
export const day = new Date('2026-11-25T12:00:00Z');

export function elementIn(bundle: Bundle, name: string): BundleElement {
  const element = bundle[name];
  if (element === undefined) throw new Error(`there is no ${name}`);
  return element;
}

export function certificateIn(bundle: Bundle, name: string): Certificate {
  const certificate = readCertificate(elementIn(bundle, name).certificatePEM);
  if (certificate === undefined) throw new Error(`${name} is no certificate`);
  return certificate;
}
