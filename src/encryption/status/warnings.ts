/** What is as it should be, and will not stay so for ever: keys that are due, CAs that are being rotated. Pure. */
import { describeCaRotation } from '../../certificates/ca-rotation.ts';
import { inWords } from '../../config/duration.ts';
import { processStart, writesUnder } from '../../kube/metrics.ts';
import type { TsrkeBlock } from '../../state/rkestate.ts';
import { writeKeyAges, writesWarning, type KeyAge } from '../age.ts';
import type { ProviderFile } from '../configuration.ts';
import type { Sight } from './sight.ts';

/** `kind` is for scripts and stays. */
export interface Warning {
  readonly kind: 'key-due' | 'writes-near-limit' | 'ca-rotation-open';
  readonly text: string;
}

/** Of the keys that the file writes with. `maxAge`: milliseconds; undefined or 0: no limit. */
export function warningsOf(
  file: ProviderFile,
  tsrke: Pick<TsrkeBlock, 'keyRing' | 'keks' | 'caRotation'>,
  { time, nodes, stored }: Pick<Sight, 'time' | 'nodes' | 'stored'>,
  maxAge: number | undefined,
): Warning[] {
  const { caRotation } = tsrke;
  const keys = writeKeyAges(file, tsrke, time, maxAge).flatMap((key): Warning[] => {
    const name = key.stored.slice(key.stored.indexOf(':') + 1);
    const servers = nodes.flatMap(({ metrics }) => {
      const start = processStart(metrics ?? '');
      if (metrics === undefined || start === undefined) return [];
      return [{ count: writesUnder(metrics, name), over: time.getTime() - start.getTime() }];
    });
    const held = 'unavailable' in stored ? [] : stored.holdings;
    const objects = held
      .filter((each) => `${each.provider}:${each.name}` === key.stored)
      .reduce((sum, { count }) => sum + count, 0);
    const writes = writesWarning(key, servers, objects);
    return [
      ...(key.due ? [{ kind: 'key-due' as const, text: dueText(key) }] : []),
      ...(writes === undefined ? [] : [{ kind: 'writes-near-limit' as const, text: writes }]),
    ];
  });
  if (caRotation === undefined) return keys;
  return [...keys, { kind: 'ca-rotation-open', text: describeCaRotation(caRotation) }];
}

/** Of a key that is due. */
export function dueText({ stored, age }: Pick<KeyAge, 'stored' | 'age'>): string {
  const why = age === undefined ? 'nobody knows how old it is' : `it is ${inWords(age)} old`;
  return `${stored} is due: ${why}; run \`tsrke encrypt rotate-key\``;
}
