/** cluster.yml's `private_registries`: which one an image comes from, and what it is pulled with. Matched as RKE does. */
import { isMap } from './keys.ts';

/** RKE's default for `url`, and where Docker looks for an image that names no registry. */
const dockerHub = 'docker.io';

/** A user and a password. Nothing of them shows where it is printed. */
export class RegistryLogin {
  readonly #user: string;
  readonly #password: string;

  constructor(user: string, password: string) {
    this.#user = user;
    this.#password = password;
  }

  /** Docker's X-Registry-Auth: base64 for URLs, with its padding. */
  header(): string {
    const json = JSON.stringify({ username: this.#user, password: this.#password });
    return Buffer.from(json).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
  }

  /** Words of others, who may repeat what they were given. */
  hide(text: string): string {
    // Shorter ones would leave little to read.
    return this.#password.length < 4 ? text : text.replaceAll(this.#password, '[redacted]');
  }
}

export interface ImageSource {
  /** As `url` has to have it: host, and what stands above the last two parts of the image's name. */
  readonly registry: string;
  /** undefined: it is pulled without credentials. */
  readonly login: RegistryLogin | undefined;
  /** Its credentials would have to be asked of AWS. */
  readonly isEcr: boolean;
}

/** `is_default` changes nothing here: like RKE it stands in front of system images alone, never of one that is named. */
export function imageSources(raw: Readonly<Record<string, unknown>>): (image: string) => ImageSource {
  const field = raw['private_registries'];
  const registries = new Map(
    (Array.isArray(field) ? field : [])
      .filter(isMap)
      .map((each) => [textOf(each['url']) || dockerHub, each] as const),
  );
  return (image) => {
    const registry = registryOf(image);
    const entry = registries.get(registry) ?? {};
    const [user, password] = [textOf(entry['user']), textOf(entry['password'])];
    const login = user === '' && password === '' ? undefined : new RegistryLogin(user, password);
    return { registry, login, isEcr: login === undefined && isMap(entry['ecr_credential_plugin']) };
  };
}

/** By Docker's rule for what is a host, and RKE's for how much of the path belongs to the registry. */
function registryOf(image: string): string {
  const [first = '', ...rest] = image.replace(/@.*$/, '').split('/');
  const isHost = rest.length > 0 && (/[.:]/.test(first) || first === 'localhost');
  const host = !isHost || first === `index.${dockerHub}` ? dockerHub : first;
  const path = isHost ? rest : [first, ...rest];
  return [host, ...path.slice(0, -2)].join('/');
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
