#!/bin/bash
# Installs the real agent CLIs, in exact versions, for the tests that run them.
#
#   install-agents.sh NAME...        claude codex gemini opencode aider node (default: all)
#
# Into $OFFSHOOT_TEST_CACHE or ~/.cache/offshoot-test; each agent has its own directory NAME-VERSION with a
# bin/NAME that starts it. Idempotent: what is there is left alone. Two at once wait for each other.
# On success the last line for each agent is its executable.
set -euo pipefail

cache=${OFFSHOOT_TEST_CACHE:-$HOME/.cache/offshoot-test}
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9

version() {
    case $1 in
        claude) echo 2.1.329 ;;
        codex) echo 0.169.0 ;;
        gemini) echo 0.61.0 ;;
        opencode) echo 1.18.33 ;;
        aider) echo 0.86.2 ;;
        node) echo 22 ;;
        *) echo "unknown agent: $1" >&2; exit 2 ;;
    esac
}

package() {
    case $1 in
        claude) echo @anthropic-ai/claude-code ;;
        codex) echo @openai/codex ;;
        gemini) echo @google/gemini-cli ;;
        opencode) echo opencode-ai ;;
        node) echo node ;;
    esac
}

# npm takes an older version silently when the running node is too old, and the agents are `env node` scripts:
# put a new enough node first on the path.
use_node() {
    local major
    major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/') || major=0
    if [ "${major:-0}" -lt 22 ]; then
        install_one node
        PATH=$cache/node-22/bin:$PATH
    fi
}

install_one() {
    local name=$1 v dir tmp
    v=$(version "$name")
    dir=$cache/$name-$v
    [ -e "$dir/.complete" ] && return 0
    echo "installing $name $v into $dir" >&2
    tmp=$dir.partial
    rm -rf "$tmp" "$dir"
    mkdir -p "$tmp/bin"
    if [ "$name" = aider ]; then
        # A venv cannot be moved, so it is built in place.
        mv "$tmp" "$dir"
        tmp=$dir
        "${OFFSHOOT_TEST_PYTHON:-python3}" -m venv "$dir/venv" >&2
        "$dir/venv/bin/pip" install --quiet --disable-pip-version-check "aider-chat==$v" >&2
        ln -s ../venv/bin/aider "$dir/bin/aider"
    else
        [ "$name" = node ] || use_node
        npm install --prefix "$tmp" --no-audit --no-fund --loglevel=error --save-exact "$(package "$name")@$v" >&2
        ln -s "../node_modules/.bin/$name" "$tmp/bin/$name"
        mv "$tmp" "$dir"
    fi
    # An agent that ships its binary as an optional package may come without it: try it.
    PATH=$dir/bin:$PATH "$dir/bin/$name" --version >&2 </dev/null
    touch "$dir/.complete"
}

[ $# -gt 0 ] || set -- claude codex gemini opencode aider
for name in "$@"; do
    v=$(version "$name")
    case $name in aider | node) ;; *) use_node ;; esac
    install_one "$name"
    echo "$cache/$name-$v/bin/$name"
done
