/** Bugs to plant in the engine, one at a time: each must make the suite fail (mutants.exhaustive.test.ts). */

export interface Mutant {
  /** What tsrke would do wrong. */
  readonly name: string;
  /** Exact texts of the source, each of which must occur once, and what stands there instead. */
  readonly edits: readonly Edit[];
  /** Which situations are played; the first that fails must say what `wrong` matches. */
  readonly situations: RegExp;
  readonly wrong: RegExp;
}

export interface Edit {
  /** From the root of the project. */
  readonly file: string;
  readonly text: string;
  readonly by: string;
}

const edit = (file: string, text: string, by: string): Edit => ({ file: `src/${file}`, text, by });

const readable = /cannot read/;

export const mutants: readonly Mutant[] = [
  {
    name: 'the file is pushed before the state is saved',
    edits: [
      edit(
        'encryption/apply.ts',
        `        state = await world.save(
          withLine(`,
        `        const save = () => world.save(
          withLine(`,
      ),
      edit(
        'encryption/apply.ts',
        `          }
        });
        break;
      }
    }`,
        `          }
        });
        state = await save();
        break;
      }
    }`,
      ),
    ],
    situations: /on 1 node\(s\), one node midway/,
    wrong: /is not in the state file/,
  },
  {
    name: 'the read line is skipped',
    edits: [
      edit('encryption/plan.ts', `if (unsettled.length > 0 && (reads`, `if (unsettled.length > 9 && (reads`),
    ],
    situations: /on 3 node\(s\), one node midway/,
    wrong: readable,
  },
  {
    name: 'nothing is rewritten before keys are pruned',
    edits: [
      edit(
        'encryption/plan.ts',
        `if (!onlyWriteKeys) return {`,
        `if (!onlyWriteKeys && writing.length > 9) return {`,
      ),
    ],
    situations: /on 1 node\(s\), one node midway/,
    wrong: /lies under|cannot read/,
  },
  {
    name: 'keys are pruned although etcd shows another one besides the new',
    edits: [
      edit('encryption/plan.ts', `.every((ref) => ref.id === write)`, `.some((ref) => ref.id === write)`),
    ],
    situations: /an enable on 1 node\(s\) where/,
    wrong: /lies under|cannot read/,
  },
  {
    name: 'keys that only etcd shows are not in use',
    edits: [edit('encryption/plan.ts', `for (const ref of seen.stored.get(resource) ?? []) add(ref);`, ``)],
    situations: /restored/,
    wrong: readable,
  },
  {
    name: 'a node that does not come up gets its old key only, as RKE does it',
    edits: [
      edit(
        'encryption/plan.ts',
        `      fallback: orNone(readFile(own)),`,
        `      fallback: orNone({
        entries: own.entries.map((entry) => ({
          ...entry,
          providers: entry.providers.flatMap((each, i) =>
            each.kind === 'identity' ? [each] : i === 0 && 'keys' in each ? [{ ...each, keys: each.keys.slice(0, 1) }] : [],
          ),
        })),
      }),`,
      ),
    ],
    situations: /a rotation on 3 node\(s\) where/,
    wrong: readable,
  },
  {
    name: 'a single node falls back to a file without the new key',
    edits: [edit('encryption/plan.ts', `fallback: orNone(readFile(own)),`, `fallback: orNone(own),`)],
    situations: /a rotation on 1 node\(s\) where/,
    wrong: readable,
  },
  {
    name: 'all nodes are restarted at once',
    edits: [
      edit(
        'encryption/apply.ts',
        `for (const round of roundsOf(line, look)) {`,
        `await Promise.all(roundsOf(line, look).map(async (round) => {`,
      ),
      edit(
        'encryption/apply.ts',
        `            state = { ...state, tsrke: { ...state.tsrke, loaded: { ...state.tsrke.loaded, ...records } } };
          }`,
        `            state = { ...state, tsrke: { ...state.tsrke, loaded: { ...state.tsrke.loaded, ...records } } };
          }));`,
      ),
    ],
    situations: /on 3 node\(s\), one node midway/,
    wrong: /more than one node is midway/,
  },
  {
    name: 'the next node is begun before the one before is ready',
    edits: [
      edit(
        'encryption/deploy.ts',
        `    await world.runtime.restartApiserver(node, signal);
    await shownReady(node, sha256, world, task, signal);
  }
}`,
        `    await world.runtime.restartApiserver(node, signal);
  }
}`,
      ),
    ],
    situations: /on 3 node\(s\), one node midway/,
    wrong: /midway|went on/,
  },
  {
    name: 'the file is pushed to all nodes before the first has loaded it',
    edits: [
      edit(
        'encryption/apply.ts',
        `import { observe, type Look, type MemberLook }`,
        `import { lookAtMember, observe, type Look, type MemberLook }`,
      ),
      edit(
        'encryption/apply.ts',
        `          for (const round of roundsOf(line, look)) {`,
        `          for (const { node, file } of line.pushes) {
            if (file === undefined) continue;
            const { path, onDisk } = await lookAtMember(world, node, {}, signal);
            const text = \`\${renderProviderFile(file)}\\n\`;
            const put = await world.files.replace(node, path, text, onDisk?.sha256, signal);
            Object.assign(look.members.find((each) => each.node === node), { onDisk: put });
          }
          for (const round of roundsOf(line, look)) {`,
      ),
    ],
    situations: /on 3 node\(s\), one node midway/,
    wrong: /more than one node is midway/,
  },
  {
    name: 'B is forgotten when the target becomes C',
    edits: [
      edit('encryption/plan.ts', `    add(writeKeyOf(effectiveFile(member, seen.recorded), resource));`, ``),
      edit(
        'encryption/plan.ts',
        `[...inUse(resource), ...keysOf(own, resource)], resources`,
        `inUse(resource), resources`,
      ),
    ],
    situations: /a rotation on 3 node\(s\), cut off, then aborted/,
    wrong: readable,
  },
  {
    name: 'keys that were seen on nodes do not go into the ring',
    edits: [
      edit(
        'encryption/apply.ts',
        `keyRing: withKeys(state.tsrke.keyRing, look.keys, now.toISOString(), 'found in use'),`,
        `keyRing: state.tsrke.keyRing,`,
      ),
    ],
    situations: /somebody else/,
    wrong: /overwritten unseen/,
  },
  {
    name: 'a key of the ring is thrown away when it is retired',
    edits: [
      edit(
        'encryption/apply.ts',
        `keyRing: tsrke.keyRing.map((key) => {`,
        `keyRing: tsrke.keyRing.filter((key) => kept.has(keyId(key))).map((key) => {`,
      ),
    ],
    situations: /restored/,
    wrong: /which is not in the state file/,
  },
  {
    name: 'a retired key is used again',
    edits: [
      edit('encryption/target.ts', `ours(key) && !retired.has(key.name)`, `ours(key) && retired.size >= 0`),
    ],
    situations: /retired/,
    wrong: /a retired key is used again/,
  },
  {
    name: 'a second key is made for an open rotation',
    edits: [
      edit(
        'encryption/target.ts',
        `  if (open !== undefined && open.target !== '') {`,
        `  if (rotate && open !== undefined && wanted.kind === 'managed') {
    const key = request.newKey(wanted.provider, takenNames(state, onNodes));
    return choose(managedFile(key, wanted.resources), 'rotate', undefined, true);
  }
  if (open !== undefined && open.target !== '') {`,
      ),
    ],
    situations: /a rotation on 1 node\(s\), cut off, then given again/,
    wrong: /a key was made that nobody needs/,
  },
  {
    name: 'etcd is not compacted before a key goes',
    edits: [
      edit(
        'encryption/apply.ts',
        `if (line.kind === 'prune') await forgetOlder`,
        `if (pass > 24) await forgetOlder`,
      ),
    ],
    situations: /on 1 node\(s\), one node midway/,
    wrong: /goes on with status 500/,
  },
  {
    name: 'the copy in the cluster is written with keys while it is not encrypted',
    edits: [
      edit(
        'state/keeper.ts',
        `const text = encrypted ? `,
        `const text = encrypted || next.tsrke.serial > 0 ? `,
      ),
    ],
    situations: /on 1 node\(s\), one node midway/,
    wrong: /in the clear/,
  },
  {
    name: 'a disable goes on while keys are still in the copy in the cluster',
    edits: [edit('state/keeper.ts', `if (keysMustGo) {`, `if (keysMustGo && serial < 0) {`)],
    situations: /cannot clear the copy/,
    wrong: /in the clear/,
  },
  {
    name: 'a state file that is older than the copy in the cluster is followed',
    edits: [
      edit(
        'state/keeper.ts',
        `if (theirs.lineage !== ours.lineage || theirs.serial > ours.serial) throw stale();`,
        ``,
      ),
      edit('state/keeper.ts', `if (other !== undefined && other.tsrke.serial >= serial) throw stale();`, ``),
    ],
    situations: /older/,
    wrong: /an older state file/,
  },
  {
    name: 'the hash that was seen is ignored when a file is replaced',
    edits: [
      edit('encryption/deploy.ts', `if (known.includes(present)) return;`, `if (known.length > 0) return;`),
    ],
    situations: /somebody else/,
    wrong: /overwritten unseen/,
  },
  {
    name: 'a file that changes right before it is replaced is overwritten',
    edits: [
      edit('hosts/files.ts', `if (found?.sha256 !== seen) throw`, `if (path === '') throw`),
      edit(
        'hosts/files.ts',
        `await run(docker, node, path, replaceScript, seen, signal)`,
        `await run(docker, node, path, replaceScript, (await readFile(docker, node, info, path, signal))?.sha256, signal)`,
      ),
    ],
    situations: /somebody else/,
    wrong: /overwritten unseen/,
  },
  {
    name: 'a file that was put by a run that was cut off is taken for loaded',
    edits: [
      edit(
        'encryption/observe.ts',
        `return look.loaded === 'unknown' && state.tsrke.serial > 0 ? { ...look, loaded: 'no' } : look;`,
        `return look.loaded === 'unknown' ? { ...look, loaded: 'yes' } : look;`,
      ),
    ],
    situations: /found out by 1.33/,
    wrong: /did not settle/,
  },
  {
    name: 'not found and conflict are failures of the rewrite',
    edits: [
      edit(
        'kube/outcome.ts',
        `if (status === 409 && said.reason === 'Conflict' && aboutIt) return { kind: 'gone' };`,
        ``,
      ),
      edit(
        'kube/outcome.ts',
        `if (status === 404 && said.reason === 'NotFound' && aboutIt) return { kind: 'gone' };`,
        ``,
      ),
    ],
    situations: /clients change/,
    wrong: /could not be rewritten/,
  },
  {
    name: 'a server error counts as done',
    edits: [
      edit(
        'kube/outcome.ts',
        `return { kind: 'again', reason, why: 'error' };
  }
  return { kind: 'failed', reason };`,
        `return { kind: 'gone' };
  }
  return { kind: 'failed', reason };`,
      ),
    ],
    situations: /without etcd/,
    wrong: /could not be rewritten, and the run says that it is done|cannot read/,
  },
  {
    name: 'a busy server counts as done',
    edits: [
      edit(
        'kube/outcome.ts',
        `return { kind: 'again', reason, why: 'busy', ...(wait === undefined ? {} : { wait }) };`,
        `return wait === undefined ? { kind: 'gone' } : { kind: 'gone' };`,
      ),
    ],
    situations: /without etcd/,
    wrong: /could not be rewritten, and the run says that it is done|cannot read/,
  },
  {
    name: 'an object that could not be rewritten is passed over',
    edits: [edit('encryption/rewrite-all.ts', `if (problems.length > 0) {`, `if (problems.length > 9) {`)],
    situations: /without etcd/,
    wrong: /could not be rewritten, and the run says that it is done|cannot read/,
  },
];
