/** DER (X.690), as far as certificates need it: written here because Node reads certificates but makes none. */
import { isIPv4 } from 'node:net';

export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bits: 0x03,
  octets: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  sequence: 0x30,
  set: 0x31,
  printable: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
} as const;

export function encode(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const head =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), content]);
}

export const sequence = (...parts: readonly Buffer[]): Buffer => encode(tags.sequence, Buffer.concat(parts));
export const set = (...parts: readonly Buffer[]): Buffer => encode(tags.set, Buffer.concat(parts));
/** Context-specific and constructed: `[number]`. */
export const tagged = (number: number, content: Buffer): Buffer => encode(0xa0 + number, content);
export const octets = (content: Buffer): Buffer => encode(tags.octets, content);
export const bits = (content: Buffer): Buffer =>
  encode(tags.bits, Buffer.concat([Buffer.from([0]), content]));
export const yes = encode(tags.boolean, Buffer.from([0xff]));

/** Not negative. */
export function integer(value: bigint): Buffer {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
  // A leading one bit would make it negative.
  return encode(tags.integer, (bytes[0] ?? 0) < 0x80 ? bytes : Buffer.concat([Buffer.from([0]), bytes]));
}

export function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const number of rest) {
    const groups = [number & 0x7f];
    for (let left = number >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return encode(tags.oid, Buffer.from(bytes));
}

/** As Go's encoder chooses: PrintableString where that can hold it. Names are compared byte by byte when a chain is built. */
export function text(value: string): Buffer {
  const printable = /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(value);
  return encode(printable ? tags.printable : tags.utf8, Buffer.from(value));
}

/** In whole seconds; from 2050 on in the longer form (RFC 5280, 4.1.2.5). */
export function time(date: Date): Buffer {
  const digits = `${date.toISOString().slice(0, 19).replace(/[-:T]/g, '')}Z`;
  return date.getUTCFullYear() < 2050
    ? encode(tags.utcTime, Buffer.from(digits.slice(2)))
    : encode(tags.generalizedTime, Buffer.from(digits));
}

export interface Element {
  readonly tag: number;
  readonly content: Buffer;
  /** With tag and length. */
  readonly whole: Buffer;
}

/** The elements that stand one behind the other. Throws RangeError where a length points behind the end. */
export function elements(from: Buffer): Element[] {
  const found: Element[] = [];
  for (let at = 0; at < from.length;) {
    const first = from.readUInt8(at + 1);
    const more = first < 0x80 ? 0 : first & 0x7f;
    const length = more === 0 ? first : from.readUIntBE(at + 2, more);
    const start = at + 2 + more;
    if (start + length > from.length) throw new RangeError('an element of DER is cut off');
    found.push({
      tag: from.readUInt8(at),
      content: from.subarray(start, start + length),
      whole: from.subarray(at, start + length),
    });
    at = start + length;
  }
  return found;
}

/** The content of the one element there is. */
export function inside(der: Buffer): Buffer {
  return elements(der)[0]?.content ?? Buffer.alloc(0);
}

/** 4 or 16 bytes of an address that `net.isIP` takes. */
export function ipBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  // URLs write an IPv6 address in one way only: groups of hexadecimal digits.
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':').map((group) => parseInt(group, 16)));
  const [before, after] = [groups(head), groups(tail ?? '')];
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

/** As people write it: `10.43.0.1`, `fd00::1`. */
export function ipText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = bytes.toString('hex').match(/.{4}/g) ?? [];
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
