/** `tsrke encrypt validate`: what kube-apiserver would say of a provider file, before any node sees it. Offline. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { escapePointer, parseDocument } from '../config/document.ts';
import { commandArguments } from '../config/extra-args.ts';
import { kubeApiIn } from '../config/keys.ts';
import { loadConfig, type ClusterConfig } from '../config/load.ts';
import { defaultVersion } from '../config/versions.ts';
import { withReload } from '../encryption/automatic-reload.ts';
import { providerFileOfCustomConfig } from '../encryption/custom-config.ts';
import { serverOptionsOf } from '../encryption/server-options.ts';
import {
  validateProviderFile,
  type PlacedFinding,
  type ValidateOptions,
} from '../encryption/validation/validate.ts';
import { completedForJudgement } from '../encryption/wanted.ts';
import { TsrkeError } from '../errors.ts';
import { counted } from '../words.ts';

export interface ValidateFlags {
  readonly config: string;
  /** A provider file of its own, instead of cluster.yml's custom_config. */
  readonly file?: string;
  readonly kubernetesVersion?: string;
  readonly ignoreUnknownKeys?: boolean;
}

/** Returns the exit code: 0, or 3 where the server would refuse the file or a finding is an error. */
export function validate(flags: ValidateFlags, print: (line: string) => void): 0 | 3 {
  const own = flags.file === undefined ? undefined : read(flags.file);
  const config =
    own === undefined || flags.kubernetesVersion === undefined
      ? loadConfig(flags.config, { ignoreUnknownKeys: flags.ignoreUnknownKeys === true })
      : undefined;
  const options = {
    ...serverOptionsOf(argumentsIn(config)),
    minor: minorOf(flags.kubernetesVersion ?? config?.kubernetesVersion ?? defaultVersion),
  };
  if (own !== undefined && flags.file !== undefined) {
    const name = basename(flags.file);
    return judge(own, options, print, ({ line }) => (line === undefined ? name : `${name}:${line}`));
  }
  const encryption = config?.encryption;
  if (encryption?.enabled !== true) {
    print(`${basename(flags.config)}: encryption is off, there is no provider file`);
    return 0;
  }
  if (encryption.customConfig === undefined) {
    print(`${basename(flags.config)}: no custom_config, tsrke makes the provider file itself`);
    return 0;
  }
  const document = parseDocument(read(flags.config), basename(flags.config));
  return judge(
    completedForJudgement(providerFileOfCustomConfig(encryption.customConfig)),
    options,
    print,
    ({ path }) =>
      document.place(`/services/kube-api/secrets_encryption_config/custom_config${pointerOf(path)}`),
  );
}

function judge(
  text: string,
  options: ValidateOptions,
  print: (line: string) => void,
  place: (finding: PlacedFinding) => string,
): 0 | 3 {
  const { verdict, serverMessage, advice, findings } = validateProviderFile(text, options);
  for (const finding of findings) {
    const path = finding.path === '' ? '' : `${finding.path}: `;
    print(`${place(finding)}: ${finding.severity}: ${path}${finding.text}`);
  }
  const server = `kube-apiserver 1.${options.minor}`;
  if (verdict === 'refused') {
    print(`${server} does not start with this provider file: ${serverMessage ?? ''}`);
    if (advice !== undefined) print(`next: ${advice}`);
    return 3;
  }
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  print(
    `${server} starts with this provider file: ${counted(errors, 'error')}, ${counted(findings.length - errors, 'warning')}`,
  );
  return errors === 0 ? 0 : 3;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new TsrkeError('CONFIG_UNREADABLE', `${path} cannot be read`, { cause });
  }
}

/** `v1.30`, `1.30.5`, `v1.30.5-rancher1-1`: 30. */
function minorOf(version: string): number {
  const minor = Number(/^v?1\.(\d+)(?:[.+-].*)?$/.exec(version)?.[1] ?? NaN);
  if (minor >= 24 && minor <= 37) return minor;
  throw new TsrkeError('UNSUPPORTED', `Kubernetes ${version}: the rules are known for 1.24 to 1.37`, {
    next: 'name one of these with --kubernetes-version, such as v1.30',
  });
}

/** cluster.yml's own arguments of kube-apiserver, as they stand in its command. */
function argumentsIn(config: ClusterConfig | undefined): readonly string[] {
  const { api } = kubeApiIn(config?.raw ?? {});
  const args = commandArguments(api['extra_args'], api['extra_args_array']);
  return config?.encryption.reload === 'automatic' ? withReload(args, true) : args;
}

/** `resources[0].providers[1].kms.name` as a JSON pointer. */
function pointerOf(path: string): string {
  return [...path.matchAll(/[^.[\]]+/g)].map(([step]) => `/${escapePointer(step)}`).join('');
}
