/** Whether our verdict and words are kube-apiserver's, save what we do not repeat. */
import { validateProviderFile } from '../../src/encryption/validate.ts';
import type { Check, Oracle } from '../lab/oracle.ts';

export const nodeFile = '/etc/kubernetes/ssl/encryption.yaml';

/** Undefined where both say the same, else what each of them says. */
export async function disagreement(oracle: Oracle, question: Check): Promise<string | undefined> {
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
  if (comparable(theirs) === comparable(ours)) return undefined;
  const said = (words: string | undefined) => words ?? 'accepted';
  return `1.${minor}, reload ${String(reload)}, KMSv1 ${String(kmsV1)}, KMSv2 ${String(kmsV2)}\n${text}\ntheirs: ${said(theirs)}\nours:   ${said(ours)}`;
}

/**
 * Both messages without what we replace on purpose: a whole element or file, the parser's words on text that is not
 * YAML or JSON, long names that could be key material; and the build path of the server's scheme.
 */
export function comparable(words: string | undefined): string | undefined {
  if (words === undefined) return undefined;
  return words
    .replace(/is missing in '(.|\n)*'$/, 'is missing')
    .replace(
      /Invalid value: ("REDACTED"|(config|apiserver)\.ProviderConfiguration\{.*?\}|\{"AESGCM".*?\}): (provider does not|more than one)/gs,
      'Invalid value: …: $3',
    )
    .replace(/in scheme "[^"]*"/, 'in scheme "…"')
    .replace(
      /(error converting YAML to JSON: |)(yaml: (?!unmarshal errors)|couldn't get version\/kind; json parse error: (invalid character|unexpected end)|json: unsupported value|not valid (YAML|JSON)|unsupported map key)(.|\n)*$/,
      'not readable',
    );
}
