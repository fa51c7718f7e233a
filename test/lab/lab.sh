#!/bin/bash
# The real lab by hand:
#   lab.sh setup              packages, binaries and images (minutes the first time, then nothing)
#   lab.sh setup-pods         the same for labs with pods
#   lab.sh up [1|3] [on|off]  a cluster with encryption on (or off), until Ctrl-C
#   lab.sh bare [1|3] [none|flannel]  hosts with nothing on them, and a cluster.yml with this network plugin
#   lab.sh down [--force]     clean up; --force also what another process holds
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

up() { # options of openRealLab
  cd "$LAB_DIR/../.."
  # Node 20 does not run TypeScript by itself.
  exec node --input-type=module -e "
    import { register } from 'node:module';
    const hooks = \`
      import { readFile } from 'node:fs/promises';
      import { createRequire } from 'node:module';
      const ts = createRequire(\${JSON.stringify(process.cwd() + '/package.json')})('typescript');
      export async function load(url, context, next) {
        if (!url.endsWith('.ts')) return next(url, context);
        const text = await readFile(new URL(url), 'utf8');
        const compilerOptions = { module: 'esnext', target: 'es2023', verbatimModuleSyntax: true };
        return { format: 'module', shortCircuit: true, source: ts.transpileModule(text, { compilerOptions }).outputText };
      }\`;
    register('data:text/javascript,' + encodeURIComponent(hooks));
    const { openRealLab, closeHosts } = await import(process.cwd() + '/test/lab/real-lab.ts');
    const ended = new Promise((resolve) => {
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(name, resolve);
    });
    const awake = setInterval(() => {}, 60_000);
    const lab = await openRealLab($1);
    console.log('cd ' + lab.dir + '   # cluster.yml, cluster.rkestate, kube_config_cluster.yml');
    for (const { name, address } of lab.hosts) {
      console.log('$LAB_DIR/hosts.sh sh ' + name + ' COMMAND   # or: ssh -i $STATE/ssh/id_ed25519 root@' + address);
    }
    await ended;
    clearInterval(awake);
    await lab.close();
    await closeHosts();
  "
}

case ${1:-} in
setup) "$LAB_DIR/setup.sh" ;;
up)
  case ${2:-1}-${3:-on} in
  [13]-on | [13]-off) up "{ hosts: ${2:-1}, encryption: '${3:-on}' }" ;;
  *) fail "lab.sh up [1|3] [on|off]" ;;
  esac
  ;;
setup-pods) "$LAB_DIR/setup.sh" && "$LAB_DIR/setup-pods.sh" ;;
bare)
  case ${2:-1}-${3:-none} in
  [13]-none | [13]-flannel) up "{ bare: true, hosts: ${2:-1}, network: '${3:-none}' }" ;;
  *) fail "lab.sh bare [1|3] [none|flannel]" ;;
  esac
  ;;
down) "$LAB_DIR/hosts.sh" release "${2:-}" ;;
*) sed -n '2,7s/^# \{0,1\}//p' "$LAB_DIR/lab.sh" >&2; exit 3 ;;
esac
