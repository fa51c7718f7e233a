/** No file is pushed, now or later in this change, that a member's kube-apiserver would not start with. */
import { TsrkeError } from '../errors.ts';
import { film, renderProviderFile } from './configuration.ts';
import type { MemberLook } from './observe.ts';
import type { Line } from './plan.ts';
import { serverOptionsOf } from './server-options.ts';
import { validateProviderFile } from './validation/validate.ts';
import type { World } from './world.ts';

/** The minor versions that the rules are known for; a server outside of them is judged as the nearest one. */
const oldest = 24;
const newest = 37;

/**
 * With automatic reload, where it is wanted, from the first line on. Throws PROVIDER_FILE_INVALID in the server's own words,
 * before anything is touched.
 */
export function expectAcceptable(
  lines: readonly Line[],
  members: readonly MemberLook[],
  { minor, reload }: Pick<World, 'minor' | 'reload'>,
): void {
  const judged = new Set<string>();
  for (const line of lines) {
    if (!('pushes' in line)) continue;
    for (const { node, file } of line.pushes) {
      const member = members.find((each) => each.node === node);
      if (file === undefined || member === undefined) continue;
      const text = renderProviderFile(file);
      const version = Math.min(newest, Math.max(oldest, member.minor ?? minor));
      const own = serverOptionsOf(member.container.args);
      const options = { ...own, reload: own.reload === true || reload === 'on', minor: version };
      const question = JSON.stringify([text, options]);
      if (judged.has(question)) continue;
      judged.add(question);
      const {
        verdict,
        serverMessage = '',
        advice = 'change `secrets_encryption_config`',
      } = validateProviderFile(text, options);
      if (verdict === 'accepted') continue;
      throw new TsrkeError(
        'PROVIDER_FILE_INVALID',
        `kube-apiserver 1.${version} would not start with a provider file of this change (${film(file)}): ${serverMessage}`,
        {
          node,
          next: `${advice}; \`tsrke encrypt validate\` judges it offline. Nothing was touched`,
        },
      );
    }
  }
}
