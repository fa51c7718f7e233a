/** kube-apiserver's words for a value in etcd that none of its keys opens. */

/**
 * Those of its value transformers, 1.24 to 1.37 (k8s.io/apiserver/pkg/storage/value). A GET, PATCH or DELETE answers with
 * nothing else behind `Internal error occurred:`, or, where such objects may be deleted, in the middle of a StorageError.
 */
const transformers = new RegExp(
  [
    'identity transformer tried to read encrypted data',
    'no matching prefix found',
    'no matching key was found for the provided \\w+ transformer',
    'invalid padding on input',
    'invalid PKCS7 data \\(empty or not padded\\)',
    'the stored data (?:is not a multiple of the block size|was shorter than the required size|is missing the required info prefix)',
    'cipher: message authentication failed',
    'output array was not large enough for encryption',
    'invalid data encountered by envelope transformer.*',
    'failed to decrypt DEK, error: .*',
  ].join('|'),
);
/** A LIST says which value it was; what comes behind is the reason. */
const around = /(?:unable to transform key "[^"]*"|not transformable revision=\d+): (.+)/;

/** Why a value could not be decrypted, by the message of an answer; undefined: the message says no such thing. */
export function decryptionFailure(message: string): string | undefined {
  return transformers.exec(message)?.[0] ?? around.exec(message)?.[1];
}
