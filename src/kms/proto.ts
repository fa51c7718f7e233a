/**
 * The two services of a KMS plugin (k8s.io/kms: v2 as of 1.27, v1beta1), as protobufjs reads them. A module rather than
 * a .proto file, because tsc copies none.
 */
import { fromJSON, type Options } from '@grpc/proto-loader';

const field = (type: string, id: number) => ({ type, id });
const method = (name: string) => ({ requestType: `${name}Request`, responseType: `${name}Response` });

const v2 = {
  KeyManagementService: {
    methods: { Status: method('Status'), Encrypt: method('Encrypt'), Decrypt: method('Decrypt') },
  },
  StatusRequest: { fields: {} },
  StatusResponse: {
    fields: { version: field('string', 1), healthz: field('string', 2), key_id: field('string', 3) },
  },
  EncryptRequest: { fields: { plaintext: field('bytes', 1), uid: field('string', 2) } },
  EncryptResponse: {
    fields: {
      ciphertext: field('bytes', 1),
      key_id: field('string', 2),
      annotations: { keyType: 'string', ...field('bytes', 3) },
    },
  },
  DecryptRequest: {
    fields: {
      ciphertext: field('bytes', 1),
      uid: field('string', 2),
      key_id: field('string', 3),
      annotations: { keyType: 'string', ...field('bytes', 4) },
    },
  },
  DecryptResponse: { fields: { plaintext: field('bytes', 1) } },
};

const v1beta1 = {
  KeyManagementService: {
    methods: { Version: method('Version'), Encrypt: method('Encrypt'), Decrypt: method('Decrypt') },
  },
  VersionRequest: { fields: { version: field('string', 1) } },
  VersionResponse: {
    fields: {
      version: field('string', 1),
      runtime_name: field('string', 2),
      runtime_version: field('string', 3),
    },
  },
  EncryptRequest: { fields: { version: field('string', 1), plain: field('bytes', 2) } },
  EncryptResponse: { fields: { cipher: field('bytes', 1) } },
  DecryptRequest: { fields: { version: field('string', 1), cipher: field('bytes', 2) } },
  DecryptResponse: { fields: { plain: field('bytes', 1) } },
};

/** With the names as they are here, `key_id` and not `keyId`. */
const options: Options = { keepCase: true, defaults: true };

const root: unknown = { nested: { v2: { nested: v2 }, v1beta1: { nested: v1beta1 } } };

export const kmsPackage = fromJSON(root as Parameters<typeof fromJSON>[0], options);
