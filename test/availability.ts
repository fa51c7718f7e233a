/** Where the real lab can run. It must in CI: there a machine that cannot is a failure, not an excuse. */

/** undefined: it can; else why not. */
export function realLabUnavailable(): string | undefined {
  if (process.env['CI'] === 'true') return undefined;
  if (process.platform !== 'linux') return 'it needs Linux';
  if (process.getuid?.() !== 0) return 'it needs root';
  return undefined;
}
