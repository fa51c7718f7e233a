/**
 * Whether kube-apiserver of a given version would start with a provider file, in its own words, and what it lets pass
 * and should not. Pure and offline; no text ever holds a value of a secret.
 */
import { findingsOf, type Finding } from './findings.ts';
import { jsonText, quote } from './go-text.ts';
import { buildFault, redacted, validationFaults, type ServerOptions } from './server-rules.ts';
import { decode, type Decoded } from './strict-decode.ts';
import { lineAt, NotReadable, readText, type ReadText, type Tree } from './yaml-tree.ts';

export interface ValidateOptions {
  /** Of the Kubernetes version: 24 to 37. */
  readonly minor: number;
  /** --encryption-provider-config-automatic-reload; default off. */
  readonly reload?: boolean;
  /** --feature-gates=KMSv1=…; default as the version has it (on up to 1.28). */
  readonly kmsV1Gate?: boolean;
  /** --feature-gates=KMSv2=… of 1.25 to 1.28; default as the version has it (on from 1.27). */
  readonly kmsV2Gate?: boolean;
  /** What the server calls the file in its messages. */
  readonly file?: string;
}

export interface PlacedFinding extends Finding {
  /** Counted from 1, where the text has such a line. */
  readonly line?: number;
}

export interface Validation {
  readonly verdict: 'accepted' | 'refused';
  /** The server's own error; what it would print of keys, or of text that is not YAML, is replaced. */
  readonly serverMessage?: string;
  /** What to do about a refusal, where the server's words leave that open. */
  readonly advice?: string;
  /** The server's faults one by one (errors), then ours. */
  readonly findings: readonly PlacedFinding[];
}

/** Where RKE keeps the provider file on a node. */
const nodeFile = '/etc/kubernetes/ssl/encryption.yaml';

export function validateProviderFile(text: string, options: ValidateOptions): Validation {
  const { minor, file = nodeFile } = options;
  const server: ServerOptions = {
    minor,
    reload: options.reload ?? false,
    kmsV1Gate: options.kmsV1Gate ?? minor <= 28,
    kmsV2Gate: options.kmsV2Gate ?? minor >= 27,
  };
  const outer =
    minor >= 26 ? '' : `error while parsing encryption provider configuration file ${quote(file)}: `;
  const refused = (words: string, findings: readonly PlacedFinding[]): Validation => ({
    verdict: 'refused',
    serverMessage: `${outer}${words}`,
    findings,
  });
  if (text === '' && minor >= 26) {
    const loading = minor >= 29 ? 'error while loading file: ' : '';
    const words = `encryption provider configuration file ${quote(file)} is empty`;
    return refused(`error while parsing file: ${loading}${words}`, [
      { path: '', severity: 'error', text: 'the file is empty' },
    ]);
  }

  let read: ReadText;
  try {
    read = readText(text);
  } catch (error) {
    if (!(error instanceof NotReadable)) throw error;
    const finding = { path: '', severity: 'error', text: `the file is ${error.message}` } as const;
    return refused(decodingError(error.message, minor, file), [
      { ...finding, ...(error.line === undefined ? {} : { line: error.line }) },
    ]);
  }
  const decoded = decode(read, minor);
  const clean = cleaner(read.tree);
  const place = (finding: Finding): PlacedFinding => {
    const line = lineAt(read.tree, finding.path);
    return { ...finding, text: clean(finding.text), ...(line === undefined ? {} : { line }) };
  };
  if (decoded.refusal !== undefined) {
    return refused(clean(decodingError(decoded.refusal, minor, file)), strictFindings(decoded, place));
  }

  const faults = validationFaults(decoded.file, server);
  if (faults.length > 0) {
    const words = faults.map((fault) => `${fault.path}: ${fault.text}`);
    const all = words.length === 1 ? words.join('') : `[${words.join(', ')}]`;
    return refused(
      clean(`error while parsing file: ${all}`),
      faults.map((fault) => place({ path: fault.path, severity: 'error', text: fault.text })),
    );
  }
  const fault = buildFault(decoded.file, server);
  if (fault !== undefined) {
    const building = minor >= 26 ? 'error while building transformers: ' : '';
    const finding = place({ path: fault.path, severity: 'error', text: fault.text });
    return {
      ...refused(clean(`${building}${fault.text}`), [finding]),
      ...(fault.advice === undefined ? {} : { advice: fault.advice }),
    };
  }
  return { verdict: 'accepted', findings: findingsOf(decoded, minor).map(place) };
}

function decodingError(words: string, minor: number, file: string): string {
  const where = minor >= 27 ? `error decoding encryption provider configuration file ${quote(file)}: ` : '';
  return `error while parsing file: ${where}${words}`;
}

/** Unknown and repeated fields each with their line; any other refusal as it is. */
function strictFindings(decoded: Decoded, place: (finding: Finding) => PlacedFinding): PlacedFinding[] {
  const words = decoded.refusal ?? '';
  if (!words.startsWith('strict decoding error'))
    return [place({ path: '', severity: 'error', text: words })];
  return decoded.stray.map(({ what, path, line }) => ({ path, severity: 'error', text: what, line }));
}

/** Replaces every secret of the file wherever it might still stand: in a name, an endpoint, a list of resources. */
function cleaner(tree: Tree): (text: string) => string {
  const secrets = new Set<string>();
  collect(tree, false, secrets);
  const forms = [...secrets]
    .filter((secret) => secret.length >= 8)
    .flatMap((secret) => [secret, quote(secret).slice(1, -1), jsonText(secret).slice(1, -1)])
    .sort((a, b) => b.length - a.length);
  return (text) => forms.reduce((clean, form) => clean.replaceAll(form, redacted), text);
}

function collect(tree: Tree, secret: boolean, secrets: Set<string>): void {
  if (tree.type === 'map') {
    for (const { key, value } of tree.entries) collect(value, secret || /secret$/i.test(key), secrets);
  } else if (tree.type === 'array') {
    for (const item of tree.items) collect(item, secret, secrets);
  } else if (secret) {
    secrets.add(tree.text);
  }
}
