/** `tsrke encrypt verify`: the report on stdout in the form asked for, and in a file. */
import type { Report } from '../ports.ts';
import { verifyEncryption } from '../provision/verify.ts';
import type { LookOptions } from '../provision/status.ts';
import type { Answer } from './answer.ts';
import { expectWritable, keep } from './keep.ts';
import { verifyMarkdown, verifyView } from './verify-view.ts';

export type ReportForm = 'text' | 'json' | 'markdown';

export interface VerifyFlags {
  readonly output: ReportForm;
  readonly report?: string;
}

/** Throws CONFIG_UNREADABLE where the report file cannot be written: before anything is looked at, if that shows. */
export async function verify(
  options: Omit<LookOptions, 'report' | 'signal'>,
  { output, report: path }: VerifyFlags,
  report: Report,
  signal: AbortSignal,
): Promise<Answer> {
  if (path !== undefined) expectWritable(path, 'the report');
  const seen = await verifyEncryption({ ...options, report, signal });
  const forms: Record<ReportForm, () => string> = {
    text: () => verifyView(seen, uncoloured, 80),
    json: () => JSON.stringify(seen, undefined, 2),
    markdown: () => verifyMarkdown(seen),
  };
  if (path !== undefined) keep(path, `${forms[formOf(path)]()}\n`, 'the report');
  return {
    text: (paint, width) => (output === 'markdown' ? forms.markdown() : verifyView(seen, paint, width)),
    document: seen,
    exitCode: seen.proved ? 0 : 2,
  };
}

const uncoloured = {
  bold: (text: string) => text,
  dim: (text: string) => text,
  green: (text: string) => text,
  yellow: (text: string) => text,
};

/** A report file is what its name says. */
function formOf(path: string): ReportForm {
  if (/\.json$/i.test(path)) return 'json';
  return /\.(md|markdown)$/i.test(path) ? 'markdown' : 'text';
}
