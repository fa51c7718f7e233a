/** As much of protobuf's wire format as stored objects need: varints and length-delimited fields, read and written. */

export interface Fields {
  /** The last one of this number; undefined when there is none. */
  bytes(field: number): Buffer | undefined;
  varint(field: number): number | undefined;
}

export function varintField(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

export function bytesField(field: number, value: Buffer): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(value.length), value]);
}

/** Throws where the bytes are no such message. */
export function fieldsOf(message: Buffer): Fields {
  const bytes = new Map<number, Buffer>();
  const varints = new Map<number, number>();
  let at = 0;
  const next = (): number => {
    let result = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at];
      if (byte === undefined) throw new Error('proto: unexpected EOF');
      at += 1;
      result += (byte & 0x7f) * factor;
      if (byte < 0x80) return result;
    }
  };
  while (at < message.length) {
    const tag = next();
    const field = Math.floor(tag / 8);
    if (tag % 8 === 0) {
      varints.set(field, next());
      continue;
    }
    if (tag % 8 !== 2) throw new Error(`proto: illegal wireType ${tag % 8}`);
    const length = next();
    if (at + length > message.length) throw new Error('proto: unexpected EOF');
    bytes.set(field, message.subarray(at, at + length));
    at += length;
  }
  return { bytes: (field) => bytes.get(field), varint: (field) => varints.get(field) };
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) + 128);
  }
}
