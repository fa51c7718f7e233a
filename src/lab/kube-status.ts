/** kube-apiserver's error answers (apimachinery's Status objects, 1.34) in the shapes that clients read. */
import type { Kind } from './kinds.ts';

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  /** The resource's plural name; for an invalid object its kind. */
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly {
    readonly reason?: string;
    readonly message: string;
    readonly field?: string;
  }[];
  readonly retryAfterSeconds?: number;
}

/** An answer that is an error; thrown within the API, sent by it. */
export class KubeRefusal extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: StatusDetails | undefined;
  /** Of a list that has expired: go on from here. */
  readonly token: string | undefined;

  constructor(code: number, reason: string, message: string, details?: StatusDetails, token?: string) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
    this.token = token;
  }

  get body(): unknown {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: this.token === undefined ? {} : { continue: this.token },
      status: 'Failure',
      message: this.message,
      reason: this.reason,
      ...(this.details === undefined ? {} : { details: this.details }),
      code: this.code,
    };
  }
}

const about = ({ group, plural }: Kind, name: string): StatusDetails => ({
  name,
  ...(group === '' ? {} : { group }),
  kind: plural,
});

export function notFound(kind: Kind, name: string): KubeRefusal {
  return new KubeRefusal(404, 'NotFound', `${kind.resource} "${name}" not found`, about(kind, name));
}

export function alreadyExists(kind: Kind, name: string): KubeRefusal {
  return new KubeRefusal(
    409,
    'AlreadyExists',
    `${kind.resource} "${name}" already exists`,
    about(kind, name),
  );
}

export function conflict(kind: Kind, name: string, why?: string): KubeRefusal {
  const reason =
    why ?? 'the object has been modified; please apply your changes to the latest version and try again';
  const message = `Operation cannot be fulfilled on ${kind.resource} "${name}": ${reason}`;
  return new KubeRefusal(409, 'Conflict', message, about(kind, name));
}

export function invalid({ kind, group }: Kind, name: string, field: string, message: string): KubeRefusal {
  const cause = { reason: 'FieldValueInvalid', message, field };
  return new KubeRefusal(422, 'Invalid', `${kind} "${name}" is invalid: ${field}: ${message}`, {
    name,
    ...(group === '' ? {} : { group }),
    kind,
    causes: [cause],
  });
}

export function badRequest(message: string): KubeRefusal {
  return new KubeRefusal(400, 'BadRequest', message);
}

export function internal(message: string): KubeRefusal {
  return new KubeRefusal(500, 'InternalError', `Internal error occurred: ${message}`, {
    causes: [{ message }],
  });
}

export function expired(token: string): KubeRefusal {
  return new KubeRefusal(
    410,
    'Expired',
    'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.',
    undefined,
    token,
  );
}

export function denied(webhook: string, reason: string): KubeRefusal {
  return badRequest(`admission webhook "${webhook}" denied the request: ${reason}`);
}
