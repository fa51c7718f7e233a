/** How Go writes and reads what stands in kube-apiserver's messages: quoted text, durations, URLs. */

const escapes: Readonly<Record<string, string>> = {
  '\x07': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
  '"': '\\"',
};

/** strconv.Quote, which is also `%q`. */
export function quote(text: string): string {
  const characters = Array.from(text, (character) => {
    const escape = escapes[character];
    if (escape !== undefined) return escape;
    if (/^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u.test(character)) return character;
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x80) return `\\x${hex(code, 2)}`;
    return code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
  });
  return `"${characters.join('')}"`;
}

/** encoding/json's text: JSON.stringify's, with what HTML would trip over escaped. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value)
    .replace(/[<>&\u2028\u2029]/g, (character) => `\\u${hex(character.charCodeAt(0), 4)}`)
    .replaceAll('\\u007f', '\x7f');
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, '0');
}

const units: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1000n,
  µs: 1000n,
  μs: 1000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};
const longest = 2n ** 63n;

/** time.ParseDuration: nanoseconds, or Go's words on what is wrong. */
export function parseDuration(text: string): bigint | string {
  const invalid = `time: invalid duration ${durationQuote(text)}`;
  const sign = /^[-+]/.test(text) ? text.charAt(0) : '';
  let rest = text.slice(sign.length);
  if (rest === '0') return 0n;
  if (rest === '') return invalid;
  let total = 0n;
  while (rest !== '') {
    const number = /^(\d*)(?:\.(\d*))?/.exec(rest);
    const [written = '', whole = '', fraction = ''] = number ?? [];
    if (whole === '' && fraction === '') return invalid;
    if (whole !== '' && BigInt(whole) > longest) return invalid;
    rest = rest.slice(written.length);
    const name = /^[^.\d]*/.exec(rest)?.[0] ?? '';
    if (name === '') return `time: missing unit in duration ${durationQuote(text)}`;
    rest = rest.slice(name.length);
    const unit = units[name];
    if (unit === undefined) {
      return `time: unknown unit ${durationQuote(name)} in duration ${durationQuote(text)}`;
    }
    total += BigInt(whole === '' ? '0' : whole) * unit;
    if (fraction !== '') total += (BigInt(fraction) * unit) / 10n ** BigInt(fraction.length);
    if (total > longest) return invalid;
  }
  if (sign === '-') return -total;
  return total >= longest ? invalid : total;
}

/** The `time` package has a quote of its own: what is not plain ASCII is written byte by byte. */
function durationQuote(text: string): string {
  const bytes = Array.from(text, (character) => {
    if (character === '"' || character === '\\') return `\\${character}`;
    if (character >= ' ' && character < '\x80') return character;
    return [...Buffer.from(character)].map((byte) => `\\x${hex(byte, 2)}`).join('');
  });
  return `"${bytes.join('')}"`;
}

/** time.Duration's own form: `3s`, `1m30s`, `1.5ms`, `0s`. */
export function formatDuration(nanoseconds: bigint): string {
  const size = nanoseconds < 0n ? -nanoseconds : nanoseconds;
  const sign = nanoseconds < 0n ? '-' : '';
  if (size === 0n) return '0s';
  const decimal = (value: bigint, unit: bigint): string => {
    const digits = (value % unit).toString().padStart(unit.toString().length - 1, '0');
    const fraction = unit === 1n ? '' : digits.replace(/0+$/, '');
    return `${value / unit}${fraction === '' ? '' : `.${fraction}`}`;
  };
  if (size < 1000n) return `${sign}${size}ns`;
  if (size < 1_000_000n) return `${sign}${decimal(size, 1000n)}µs`;
  if (size < 1_000_000_000n) return `${sign}${decimal(size, 1_000_000n)}ms`;
  const minutes = size / 60_000_000_000n;
  const seconds = `${decimal(size % 60_000_000_000n, 1_000_000_000n)}s`;
  if (minutes === 0n) return `${sign}${seconds}`;
  const hours = minutes / 60n;
  return `${sign}${hours === 0n ? '' : `${hours}h`}${minutes % 60n}m${seconds}`;
}

/** url.Parse as far as an endpoint needs it: its scheme, or Go's words on what is wrong. */
export function parseUrl(text: string): { readonly scheme: string } | { readonly wrong: string } {
  const wrong = (what: string) => ({ wrong: `parse ${quote(text)}: ${what}` });
  const hash = text.indexOf('#');
  const main = hash < 0 ? text : text.slice(0, hash);
  if (/[\x00-\x1f\x7f]/.test(main)) {
    return { wrong: `parse ${quote(main)}: net/url: invalid control character in URL` };
  }
  const scheme = /^([a-zA-Z][a-zA-Z0-9+.-]*):/.exec(main)?.[1];
  if (scheme === undefined && main.startsWith(':')) {
    return { wrong: `parse ${quote(main)}: missing protocol scheme` };
  }
  const inMain = (what: string) => ({ wrong: `parse ${quote(main)}: ${what}` });
  let rest = scheme === undefined ? main : main.slice(scheme.length + 1);
  const query = rest.indexOf('?');
  if (query >= 0) rest = rest.slice(0, query);
  const found = { scheme: (scheme ?? '').toLowerCase() };
  if (!rest.startsWith('/')) {
    if (scheme === undefined && /^[^/]*:/.test(rest)) {
      return inMain('first path segment in URL cannot contain colon');
    }
    // What follows `scheme:` without a slash is opaque: nobody looks into it.
    if (scheme !== undefined) return fragment(found);
  }
  let path = rest;
  if (rest.startsWith('//') && (scheme !== undefined || !rest.startsWith('///'))) {
    const slash = rest.indexOf('/', 2);
    const authority = rest.slice(2, slash < 0 ? undefined : slash);
    path = slash < 0 ? '' : rest.slice(slash);
    const problem = authorityProblem(authority);
    if (problem !== undefined) return inMain(problem);
  }
  const escape = badEscape(path);
  if (escape !== undefined) return inMain(`invalid URL escape ${quote(escape)}`);
  return fragment(found);

  function fragment(result: { scheme: string }) {
    const bad = hash < 0 ? undefined : badEscape(text.slice(hash + 1));
    return bad === undefined ? result : wrong(`invalid URL escape ${quote(bad)}`);
  }
}

function badEscape(text: string): string | undefined {
  return /%(?![\da-fA-F]{2}).{0,2}/su.exec(text)?.[0];
}

function authorityProblem(authority: string): string | undefined {
  const at = authority.lastIndexOf('@');
  const host = authority.slice(at + 1);
  if (at >= 0) {
    const user = authority.slice(0, at);
    if (!/^[A-Za-z0-9\-._:~!$&'()*+,;=%@]*$/.test(user)) return 'net/url: invalid userinfo';
    const bad = badEscape(user);
    if (bad !== undefined) return `invalid URL escape ${quote(bad)}`;
  }
  if (host.startsWith('[')) {
    const end = host.lastIndexOf(']');
    if (end < 0) return "missing ']' in host";
    return portProblem(host.slice(end + 1));
  }
  const colon = host.lastIndexOf(':');
  if (colon >= 0) {
    const port = portProblem(host.slice(colon));
    if (port !== undefined) return port;
  }
  const escape = badEscape(host) ?? /%(?!25)[\da-fA-F]{2}/.exec(host)?.[0];
  if (escape !== undefined) return `invalid URL escape ${quote(escape)}`;
  const character = /[^A-Za-z0-9\-_.~!$&'()*+,;=:[\]<>"%\u0080-\u{10ffff}]/u.exec(host)?.[0];
  return character === undefined ? undefined : `invalid character ${quote(character)} in host name`;
}

function portProblem(text: string): string | undefined {
  return text === '' || /^:\d*$/.test(text) ? undefined : `invalid port ${quote(text)} after host`;
}
