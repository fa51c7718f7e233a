/** Keys and provider files for the tests of this folder. */
import { managedFile, noFile, type Entry, type ProviderFile } from '../../src/encryption/configuration.ts';
import { Secret, type Key } from '../../src/encryption/key.ts';

export function key(name: string, fill = name): Key {
  const bytes = Buffer.alloc(32, fill);
  return { provider: 'aescbc', name, secret: new Secret(bytes.toString('base64')) };
}

/** `a,identity` → aescbc key a, then identity; keys that stand side by side share an element. Empty: no file. */
export function secretsFile(strip: string): ProviderFile {
  if (strip === '') return noFile;
  let providers: Entry['providers'] = [];
  for (const name of strip.split(',')) {
    const last = providers.at(-1);
    if (name === 'identity') providers = [...providers, { kind: 'identity' }];
    else if (last?.kind === 'aescbc')
      providers = [...providers.slice(0, -1), { kind: 'aescbc', keys: [...last.keys, key(name)] }];
    else providers = [...providers, { kind: 'aescbc', keys: [key(name)] }];
  }
  return { entries: [{ resources: ['secrets'], providers }] };
}

export const targets = {
  off: noFile,
  a: managedFile(key('a')),
  b: managedFile(key('b')),
  c: managedFile(key('c')),
};
