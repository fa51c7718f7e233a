/** SSH's wire format (RFC 4251, 5), as far as certificates and agents need it. */

/** A string: its length, then its bytes. */
export function sshString(data: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  return Buffer.concat([length, data]);
}

/** Reads one field after the other; a RangeError when the data end too soon. */
export class SshReader {
  readonly #data: Buffer;
  #position = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  /** How many bytes have been read. */
  get position(): number {
    return this.#position;
  }

  string(): Buffer {
    const start = this.#position + 4;
    const end = start + this.#data.readUInt32BE(this.#position);
    if (end > this.#data.length) throw new RangeError('string beyond the end');
    this.#position = end;
    return this.#data.subarray(start, end);
  }

  /** All strings until the end. */
  strings(): Buffer[] {
    const all: Buffer[] = [];
    while (this.#position < this.#data.length) all.push(this.string());
    return all;
  }

  uint32(): number {
    const value = this.#data.readUInt32BE(this.#position);
    this.#position += 4;
    return value;
  }

  uint64(): bigint {
    const value = this.#data.readBigUInt64BE(this.#position);
    this.#position += 8;
    return value;
  }

  skip(bytes: number): void {
    this.#position += bytes;
  }
}
