/** `tsrke completion`: scripts that let a shell complete commands, options and their values. Made from the program itself. */
import type { Command, Option } from 'commander';

export type Shell = 'bash' | 'zsh' | 'fish';

interface Word {
  readonly word: string;
  readonly does: string;
}

/** What may be typed behind a command. */
interface Place {
  /** `tsrke encrypt status` */
  readonly path: string;
  readonly commands: readonly Word[];
  readonly options: readonly Word[];
  /** Of options that take one: by the option, `files`, `folders`, `anything` or the words that there are. */
  readonly values: readonly (readonly [
    option: string,
    values: 'files' | 'folders' | 'anything' | readonly string[],
  ])[];
}

export function completionScript(shell: Shell, program: Command): string {
  const places = placesOf(program, program.name(), []);
  switch (shell) {
    case 'bash':
      return bash(places);
    case 'zsh':
      return zsh(places);
    case 'fish':
      return fish(places);
  }
}

function placesOf(command: Command, path: string, inherited: readonly Option[]): Place[] {
  const help = command.createHelp();
  const own = help.visibleOptions(command);
  // The parent's --help is another one, and --version is its alone.
  const options = [...own, ...inherited.filter(({ long }) => own.every((each) => each.long !== long))];
  const below = help.visibleCommands(command);
  const first = command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []);
  const commands = [
    ...below.map((each) => ({ word: each.name(), does: each.description() })),
    ...first.map((word) => ({ word, does: '' })),
  ];
  const place: Place = {
    path,
    commands,
    options: options.map(({ long, description }) => ({ word: long ?? '', does: description })),
    values: options.flatMap((option): Place['values'] =>
      option.required || option.optional ? [[option.long ?? '', valuesOf(option)]] : [],
    ),
  };
  const handedDown = options.filter(({ long }) => long !== '--version' && long !== '--help');
  const helped = below.filter((each) => each.name() !== 'help').map((each) => each.name());
  return [
    place,
    ...below.flatMap((each) => {
      const next = `${path} ${each.name()}`;
      if (each.name() !== 'help') return placesOf(each, next, handedDown);
      return [{ path: next, commands: helped.map((word) => ({ word, does: '' })), options: [], values: [] }];
    }),
  ];
}

function valuesOf({ argChoices, flags }: Option): Place['values'][number][1] {
  if (argChoices !== undefined) return argChoices;
  if (/<file>/.test(flags)) return 'files';
  return /<dir>/.test(flags) ? 'folders' : 'anything';
}

function bash(places: readonly Place[]): string {
  const values = places.flatMap(({ path, values: each }) =>
    each.map(([option, kind]) => {
      const how = {
        files: '_tsrke_files -f',
        folders: '_tsrke_files -d',
        anything: 'COMPREPLY=()',
      };
      const what =
        typeof kind === 'string'
          ? how[kind]
          : `COMPREPLY=($(compgen -W ${quoted(kind.join(' '))} -- "$cur"))`;
      return `    ${quoted(`${path}|${option}`)}) ${what}; return ;;`;
    }),
  );
  const words = places.map(({ path, commands, options }) => {
    const all = [...commands, ...options].map(({ word }) => word).join(' ');
    return `    ${quoted(path)}) COMPREPLY=($(compgen -W ${quoted(all)} -- "$cur")) ;;`;
  });
  return `# bash completion for tsrke. For this shell: source <(tsrke completion bash)
_tsrke_files() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen "$1" -- "$cur"))
  # bash 3 has no compopt.
  compopt -o filenames 2>/dev/null
}
_tsrke() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" at=tsrke i
  # --output=json comes as three words.
  if [ "$cur" = = ]; then cur=; elif [ "$prev" = = ]; then prev="\${COMP_WORDS[COMP_CWORD-2]}"; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at \${COMP_WORDS[i]}" in
      ${below(places).map(quoted).join(' | ')}) at="$at \${COMP_WORDS[i]}" ;;
    esac
  done
  case "$at|$prev" in
${values.join('\n')}
  esac
  case "$at" in
${words.join('\n')}
  esac
}
complete -F _tsrke tsrke
`;
}

function zsh(places: readonly Place[]): string {
  const values = places.flatMap(({ path, values: each }) =>
    each.map(([option, kind]) => {
      const how = { files: '_files', folders: '_files -/', anything: '_message value' };
      const what = typeof kind === 'string' ? how[kind] : `compadd -- ${kind.map(quoted).join(' ')}`;
      return `    ${quoted(`${path}|${option}`)}) ${what}; return ;;`;
    }),
  );
  const words = places.map(({ path, commands, options }) => {
    const all = [...commands, ...options].map(({ word, does }) =>
      quoted(does === '' ? word : `${word}:${does}`),
    );
    return `    ${quoted(path)}) found=(${all.join(' ')}) ;;`;
  });
  return `#compdef tsrke
# zsh completion for tsrke. For this shell: source <(tsrke completion zsh); for all: a file _tsrke in a folder of $fpath
_tsrke() {
  local at=tsrke before=\${words[CURRENT-1]} i
  local -a found
  for ((i = 2; i < CURRENT; i++)); do
    case "$at \${words[i]}" in
      ${below(places)
        .map((each) => `(${quoted(each)})`)
        .join(' | ')}) at="$at \${words[i]}" ;;
    esac
  done
  # --output=json is one word.
  if compset -P '*='; then before=\${IPREFIX%=}; fi
  case "$at|$before" in
${values.join('\n')}
  esac
  case "$at" in
${words.join('\n')}
  esac
  _describe tsrke found
}
if [ "$funcstack[1]" = _tsrke ]; then _tsrke "$@"; else compdef _tsrke tsrke; fi
`;
}

function fish(places: readonly Place[]): string {
  const lines = places.flatMap(({ path, commands, options, values }) => {
    const head = `complete -c tsrke -n ${quoted(`_tsrke_at "${path}"`)}`;
    const kinds = new Map(values);
    return [
      ...commands.map(({ word, does }) => `${head} -a ${quoted(word)} -d ${quoted(does)}`),
      ...options.map(({ word, does }) => {
        const kind = kinds.get(word);
        const how = { files: ' -r -F', folders: " -x -a '(__fish_complete_directories)'", anything: ' -x' };
        const value =
          kind === undefined ? '' : typeof kind === 'string' ? how[kind] : ` -x -a ${quoted(kind.join(' '))}`;
        return `${head} -l ${word.replace(/^--/, '')}${value} -d ${quoted(does)}`;
      }),
    ];
  });
  return `# fish completion for tsrke. For this shell: tsrke completion fish | source
function _tsrke_at
  set -l at tsrke
  for word in (commandline -opc)[2..]
    switch "$at $word"
      case ${below(places)
        .map((each) => quoted(each))
        .join(' ')}
        set at "$at $word"
    end
  end
  test "$at" = "$argv[1]"
end
complete -c tsrke -f
${lines.join('\n')}
`;
}

/** All commands but the program itself. */
function below(places: readonly Place[]): string[] {
  return places.slice(1).map(({ path }) => path);
}

/** A word of the shell, whatever stands in it; the program's own texts have no line breaks. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
