/** What a change leaves in the state: RKE's fields as RKE would have them, the proof, and what was seen loaded. */
import { CORE_SCHEMA, load } from 'js-yaml';
import {
  localKeysOf,
  meaningHash,
  renderProviderFile,
  sameMeaning,
  type ProviderFile,
} from '../encryption/configuration.ts';
import { keyId } from '../encryption/key.ts';
import { recordedFiles, type Look, type MemberLook } from '../encryption/observe.ts';
import { managedShape } from '../encryption/wanted.ts';
import type { ClusterState, Json, JsonObject, RkeHalf } from '../state/rkestate.ts';

export const isOn = (target: ProviderFile): boolean => target.entries.length > 0;

/** Only a census is worth keeping: passes through the apiservers say nothing about the next run. */
export function withProof(
  state: ClusterState,
  { census }: Look,
  target: ProviderFile,
  now: Date,
): ClusterState {
  const { proof: _old, ...tsrke } = state.tsrke;
  if (census === undefined) return { ...state, tsrke };
  const proof = {
    taken: now.toISOString(),
    at: census.at.map(({ clusterId, revision }) => ({ clusterId, revision: String(revision) })),
    objects: census.total,
    target: meaningHash(target),
  };
  return { ...state, tsrke: { ...tsrke, proof } };
}

/** From the first save on, a start of kube-apiserver that is not recorded here is one in doubt (before 1.34). */
export function withLoaded(state: ClusterState, seen: readonly MemberLook[]): ClusterState {
  const loaded = seen.flatMap(({ node, onDisk, container }) =>
    onDisk === undefined ? [] : [[node, { startedAt: container.startedAt, sha256: onDisk.sha256 }] as const],
  );
  return {
    ...state,
    tsrke: { ...state.tsrke, loaded: { ...state.tsrke.loaded, ...Object.fromEntries(loaded) } },
  };
}

/** Only this and the binds change in the stored rkeConfig: whatever else differs in cluster.yml was not acted on. */
export function withEnabled(state: ClusterState, target: ProviderFile): ClusterState {
  return withKubeApi(state, (kubeApi) => {
    const { customConfig, ...present } = (kubeApi['secretsEncryptionConfig'] ?? {}) as JsonObject;
    const custom = asRkeKeepsIt(target);
    const same = (present['enabled'] === true) === isOn(target) && sameJson(customConfig, custom);
    if (same) return kubeApi;
    const config = { ...present, enabled: true, ...(custom === undefined ? {} : { customConfig: custom }) };
    const { secretsEncryptionConfig: _old, ...others } = kubeApi;
    return isOn(target) ? { ...others, secretsEncryptionConfig: config } : others;
  });
}

/** Both halves with another `services.kubeApi` in their rkeConfig; the same object: nothing changes. */
function withKubeApi(state: ClusterState, change: (kubeApi: JsonObject) => JsonObject): ClusterState {
  const half = (part: RkeHalf | undefined): RkeHalf => {
    const services = part?.rkeConfig?.['services'] as JsonObject | undefined;
    const kubeApi = services?.['kubeApi'] as JsonObject | undefined;
    if (part?.rkeConfig === undefined || services === undefined || kubeApi === undefined) return part ?? {};
    const next = change(kubeApi);
    if (next === kubeApi) return part;
    return { ...part, rkeConfig: { ...part.rkeConfig, services: { ...services, kubeApi: next } } };
  };
  const { document } = state;
  return {
    ...state,
    document: {
      ...document,
      desiredState: half(document.desiredState),
      currentState: half(document.currentState),
    },
  };
}

/** Fields of cluster.yml that RKE does not know: beside its rkeConfig, never in it. */
export function withOwnFields(state: ClusterState, fields: JsonObject | undefined): ClusterState {
  const { config: _old, ...tsrke } = state.tsrke;
  return { ...state, tsrke: fields === undefined ? tsrke : { ...tsrke, config: fields } };
}

/** Whether both say the same of such fields. */
export function sameOwnFields(state: ClusterState, fields: JsonObject | undefined): boolean {
  return sameJson(state.tsrke.config, fields);
}

/** Keys of a KMS, as `keksInUse` has them; undefined: none writes. */
export function withKeks(state: ClusterState, keks: ClusterState['tsrke']['keks']): ClusterState {
  const { keks: _old, ...tsrke } = state.tsrke;
  return { ...state, tsrke: keks === undefined ? tsrke : { ...tsrke, keks } };
}

/** `services.kubeApi.extraBinds` of what was deployed. */
export function recordedBinds({ document }: ClusterState): string[] {
  const services = document.currentState?.rkeConfig?.['services'] as JsonObject | undefined;
  const binds = (services?.['kubeApi'] as JsonObject | undefined)?.['extraBinds'];
  return Array.isArray(binds) ? binds.map(String) : [];
}

/** The binds that all containers have by now. */
export function withBinds(state: ClusterState, binds: readonly string[]): ClusterState {
  return withKubeApi(state, (kubeApi) => {
    const { extraBinds = [], ...others } = kubeApi;
    if (sameJson(extraBinds, [...binds])) return kubeApi;
    return binds.length === 0 ? others : { ...others, extraBinds: [...binds] };
  });
}

/** RKE has a custom configuration in rkeConfig too; one that it would manage itself is not. */
function asRkeKeepsIt(target: ProviderFile): JsonObject | undefined {
  const shape = managedShape(target);
  const managed = shape?.provider === 'aescbc' && shape.resources.join() === 'secrets';
  if (!isOn(target) || managed) return undefined;
  return load(renderProviderFile(target), { schema: CORE_SCHEMA }) as JsonObject;
}

function sameJson(a: Json | undefined, b: Json | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Whether nothing is left to be written down: no open transition, both halves as the target, its keys in the ring. */
export function isRecorded(target: ProviderFile, state: ClusterState): boolean {
  const recorded = recordedFiles(state);
  const ring = new Set(state.tsrke.keyRing.map(keyId));
  if (state.tsrke.transition !== undefined) return false;
  if (!isOn(target)) return recorded.length === 0;
  const isTarget = (file: ProviderFile) => sameMeaning(file, target);
  // An untouched cluster of RKE has no ring yet, and is left as it is.
  const ringed = state.tsrke.serial === 0 || localKeysOf(target).every((key) => ring.has(keyId(key)));
  return ringed && recorded.length === 2 && recorded.every(isTarget);
}
