/** Whether our verdict and words are kube-apiserver's, save what we do not repeat. */
import { validateProviderFile } from '../../src/encryption/validation/validate.ts';
import { nodeFile } from '../encryption/validate-cases.ts';
import type { Check, Oracle } from '../lab/oracle.ts';

export interface Judged {
  /** Ours is `stricter` where it does not read YAML that go-yaml lets pass: a deliberate difference. */
  readonly outcome: 'accepted' | 'refused' | 'unreadable' | 'stricter' | 'disagreement';
  /** The file, and what each of them says. */
  readonly report: string;
}

export async function judge(oracle: Oracle, question: Check): Promise<Judged> {
  const { minor } = oracle;
  const { text, reload = false, kmsV1 = minor <= 28, kmsV2 = minor >= 27 } = question;
  const theirs = await oracle.check({ text, reload, kmsV1, kmsV2, file: nodeFile });
  const ours = validateProviderFile(text, {
    minor,
    reload,
    kmsV1Gate: kmsV1,
    kmsV2Gate: kmsV2,
    file: nodeFile,
  }).serverMessage;
  const said = (words: string | undefined) => words ?? 'accepted';
  const report = `1.${minor}, reload ${String(reload)}, KMSv1 ${String(kmsV1)}, KMSv2 ${String(kmsV2)}\n${text}\ntheirs: ${said(theirs)}\nours:   ${said(ours)}`;
  return { outcome: outcomeOf(theirs, ours), report };
}

function outcomeOf(theirs: string | undefined, ours: string | undefined): Judged['outcome'] {
  if (ours === undefined) return theirs === undefined ? 'accepted' : 'disagreement';
  const unreadable = comparable(ours).includes(notReadable);
  if (theirs === undefined) return unreadable ? 'stricter' : 'disagreement';
  // Two parsers can trip over the same damage in different places; both refuse.
  if (comparable(theirs).includes(notReadable)) return 'unreadable';
  if (unreadable) return 'stricter';
  return sameWords(theirs, ours) ? 'refused' : 'disagreement';
}

/**
 * `…` of ours stands for anything: for what could be key material. A whole element, the parser's words on text that is
 * neither YAML nor JSON, and the build path of the server's scheme count as equal.
 */
function sameWords(theirs: string, ours: string): boolean {
  const plain = comparable(ours)
    .split('…')
    .map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  return new RegExp(`^${plain.join('(?:.|\\n)*')}$`).test(comparable(theirs));
}

const notReadable = '(text that is not read)';

function comparable(words: string): string {
  const element =
    /Invalid value: ("REDACTED"|(config|apiserver)\.ProviderConfiguration\{.*?\}|\{"AESGCM".*?\}): (provider does not|more than one)/gs;
  const unreadable =
    /(error converting YAML to JSON: |)(yaml: (?!unmarshal errors)|couldn't get version\/kind; json parse error: (invalid character|unexpected end)|json: unsupported value|not valid (YAML|JSON)|unsupported map key)(.|\n)*$/;
  return words
    .replace(element, 'Invalid value: element: $3')
    .replace(/in scheme "[^"]*"/, 'in scheme')
    .replace(unreadable, notReadable);
}
