/**
 * One error class for mistakes of the user and failures of the world; anything else that is thrown
 * is a bug of tsrke and shows its stack.
 */

/** Codes are for scripts and stay stable; each belongs to one exit code. */
const exitCodes = {
  // 3: the input is wrong and nothing was touched
  CONFIG_UNREADABLE: 3,
  CONFIG_SYNTAX: 3,
  CONFIG_INVALID: 3,
  UNSUPPORTED: 3,
  NODE_UNFIT: 3,
  STATE_INVALID: 3,
  CERTIFICATES_INVALID: 3,
  WRONG_CLUSTER: 3,
  SSH_KEY: 3,
  HOST_KEY_CHANGED: 3,
  KEY_MISSING: 3,
  KEY_CONFLICT: 3,
  PROVIDER_FILE_INVALID: 3,
  NOT_ENABLED: 3,
  NOTHING_OPEN: 3,
  OUT_OF_ORDER: 3,
  NOT_ROTATABLE: 3,
  KMS_UNMOUNTED: 3,
  // 4: locked or stale state
  LOCKED: 4,
  STATE_STALE: 4,
  STATE_MISSING: 4,
  PLAN_STALE: 4,
  // 1: failed
  STATE_WRITE: 1,
  NODE_UNREACHABLE: 1,
  DOCKER: 1,
  APISERVER_MISSING: 1,
  APISERVER_NOT_READY: 1,
  SERVICE_NOT_WELL: 1,
  NOT_AS_WANTED: 1,
  RELOAD_FAILED: 1,
  FILE_CHANGED: 1,
  KUBE: 1,
  DRAIN: 1,
  ETCD: 1,
  MEMBER_UNKNOWN: 1,
  REWRITE_INCOMPLETE: 1,
  NOT_PROVED: 1,
  KMS_KEYS_DIFFER: 1,
  KMS_UNHEALTHY: 1,
  LOCK_LOST: 1,
  // 130: interrupted by the user after the step in hand
  INTERRUPTED: 130,
} as const;

export type ErrorCode = keyof typeof exitCodes;

export interface ErrorDetails {
  /** The node it happened on, by the name the user gave it. */
  readonly node?: string;
  /** What to do next, as an instruction to the operator. */
  readonly next?: string;
  /** Further lines worth showing: a node's last log lines, the names of objects. Never key material. */
  readonly details?: readonly string[];
  readonly cause?: unknown;
}

export class TsrkeError extends Error {
  readonly code: ErrorCode;
  readonly node: string | undefined;
  readonly next: string | undefined;
  readonly details: readonly string[];

  constructor(code: ErrorCode, message: string, more: ErrorDetails = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'TsrkeError';
    this.code = code;
    this.node = more.node;
    this.next = more.next;
    this.details = more.details ?? [];
  }

  get exitCode(): 1 | 3 | 4 | 130 {
    return exitCodes[this.code];
  }
}

/**
 * All side by side and to their end, whatever becomes of one of them. Several that fail stay several errors
 * (AggregateError).
 */
export async function allToTheirEnd<T>(works: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(works);
  const errors = results.flatMap((each) => (each.status === 'rejected' ? [each.reason as unknown] : []));
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors);
  return results.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
}

/** The words of any thrown thing, with those of its causes: `connect failed: getaddrinfo ENOTFOUND cp-1`. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return error.errors.map(messageOf).join('; ');
  }
  if (!(error instanceof Error)) return String(error);
  const own = error.message === '' ? error.name : error.message;
  if (error.cause === undefined) return own;
  const cause = messageOf(error.cause);
  return own.includes(cause) ? own : `${own}: ${cause}`;
}
