/** What is a failure to decrypt, in the words of kube-apiserver's own code (1.24 to 1.37). */
import { expect, test } from 'vitest';
import { decryptionFailure } from '../../src/kube/decryption.ts';

const corrupt =
  'Internal error occurred: StorageError: corrupt object, Code: 6, Key: /registry/secrets/ns/a, ResourceVersion: 0, AdditionalErrorMsg: data from the storage is not transformable revision=12: ';

test.each([
  // GET, PATCH, DELETE
  ['Internal error occurred: identity transformer tried to read encrypted data'],
  ['Internal error occurred: no matching prefix found'],
  ['Internal error occurred: no matching key was found for the provided AES transformer'],
  ['Internal error occurred: no matching key was found for the provided Secretbox transformer'],
  ['Internal error occurred: invalid padding on input'],
  ['Internal error occurred: cipher: message authentication failed'],
  ['Internal error occurred: output array was not large enough for encryption'],
  ['Internal error occurred: the stored data was shorter than the required size'],
  [
    'Internal error occurred: failed to decrypt DEK, error: rpc error: code = Unavailable',
    'failed to decrypt DEK, error: rpc error: code = Unavailable',
  ],
  // LIST
  ['Internal error occurred: unable to transform key "/registry/secrets/ns/a": no matching prefix found'],
  [
    'Internal error occurred: unable to transform key "/registry/secrets/ns/a": words of 2030',
    'words of 2030',
  ],
  // Where such objects may be deleted.
  [`${corrupt}invalid padding on input`],
  [`${corrupt}words of 2030`, 'words of 2030'],
])('%s', (message, reason = message.replace(/^.*: (?!message)/, '')) => {
  expect(decryptionFailure(message)).toBe(reason);
});

test.each([
  'Internal error occurred: etcdserver: leader changed',
  'secrets "no matching" not found',
  'Internal error occurred: failed calling webhook "guard.example.com": context deadline exceeded',
])('%s: no such thing', (message) => {
  expect(decryptionFailure(message)).toBeUndefined();
});
