/** Images of containers: the node's own where it has them, else pulled with the credentials of cluster.yml. */
import type Docker from 'dockerode';
import { TsrkeError } from '../errors.ts';
import type { NodeName } from '../ports.ts';
import { bytesOf, statusOf, unless } from './docker-client.ts';

/** Where an image comes from: see config/private-registries.ts. */
export interface ImageSource {
  readonly registry: string;
  readonly login: { header(): string; hide(text: string): string } | undefined;
  readonly isEcr: boolean;
}

export interface NeededImage {
  /** `timeout`: milliseconds until a call is given up, where it is not the usual. */
  readonly docker: (node: NodeName, signal: AbortSignal, timeout?: number) => Promise<Docker>;
  readonly node: NodeName;
  readonly image: string;
  readonly source: ImageSource;
}

/** Milliseconds for a pull: hyperkube and images of clouds' plugins have hundreds of megabytes. */
const pullTimeout = 15 * 60_000;
/** As RKE's. */
const tries = 3;
/** What no second try changes; some registries lock a user out who comes again and again. */
const final = /unauthorized|denied|no basic auth|not found|manifest unknown|invalid reference/i;

/** Pulls it where the node does not have it. Throws DOCKER. */
export async function needImage(needed: NeededImage, signal: AbortSignal): Promise<void> {
  const { docker: open, node, image } = needed;
  const docker = await open(node, signal);
  if ((await unless([404], docker.getImage(image).inspect())) !== undefined) return;
  for (let attempt = 1; ; attempt++) {
    const failure = await pull(await open(node, signal, pullTimeout), needed, signal);
    if (failure === undefined) return;
    if (attempt === tries || final.test(failure.why) || !failure.isRegistry) {
      throw notPulled(needed, failure.why);
    }
  }
}

interface Failure {
  readonly why: string;
  /** false: Docker did not answer in all that time. */
  readonly isRegistry: boolean;
}

/** Docker answers 200 and tells in the stream, one JSON object after the other, what became of it. */
async function pull(
  docker: Docker,
  { node, image, source: { login } }: NeededImage,
  signal: AbortSignal,
): Promise<Failure | undefined> {
  let told: string;
  try {
    const options = login === undefined ? {} : { authconfig: { base64: login.header() } };
    told = (await bytesOf(node, await docker.pull(image, options), signal)).toString();
  } catch (error) {
    if (!(error instanceof TsrkeError) || error.code !== 'DOCKER') throw error;
    const why = (error.cause as Error | undefined)?.message ?? error.message;
    return { why, isRegistry: statusOf(error) !== undefined };
  }
  for (const line of told.split('\n').filter((each) => each.trim() !== '')) {
    const { error } = JSON.parse(line) as { error?: string };
    if (error !== undefined) return { why: error, isRegistry: true };
  }
  return undefined;
}

/** Without a cause, whose words may be anybody's. */
function notPulled({ node, image, source }: NeededImage, said: string): TsrkeError {
  const { registry, login, isEcr } = source;
  const why = login?.hide(said) ?? said;
  const how = login === undefined ? 'without credentials' : 'with its credentials of private_registries';
  const cure =
    login !== undefined
      ? `see that user and password of ${registry} in private_registries are right`
      : isEcr
        ? `tsrke does not ask AWS for credentials: give ${registry} in private_registries the user AWS and the password that \`aws ecr get-login-password\` shows`
        : `see with \`docker pull ${image}\` on ${node}; where it asks for a log-in, give private_registries an entry with url ${registry}`;
  return new TsrkeError(
    'DOCKER',
    `the image ${image} is not there and could not be pulled from ${registry} ${how}: ${why}`,
    { node, next: `${cure}, then run the same command again` },
  );
}
