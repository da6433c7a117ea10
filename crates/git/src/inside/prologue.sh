# Runs in a sandbox, in the workspace. Nothing here may hold up or surprise the run's own git: no hook is started, the
# run's index and HEAD are read by name only.
#
# In a worktree of the user's (the host says so by these two variables) it is the user's own git, with the user's own
# configuration, on git data that is shared: only what belongs to the task is read and written there.
set -eu
REFS=refs/offshoot own=${OFFSHOOT_GIT_DIR:-}
if [ -n "$own" ]; then
  # Not below refs/worktree: a collection does not look there for what is in use.
  REFS=refs/offshoot/worktrees/${own##*/}
else
  umask 022
  export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
fi
unset GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR GIT_NAMESPACE 2>/dev/null || :
export GIT_TERMINAL_PROMPT=0 GIT_NO_REPLACE_OBJECTS=1
export GIT_OPTIONAL_LOCKS=0 GIT_LITERAL_PATHSPECS=1 GIT_GRAFT_FILE=/dev/null LC_ALL=C
export GIT_DIR="${own:-$PWD/.git}" GIT_WORK_TREE="$PWD"
git() {
  command git --no-pager -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.bare=false -c gc.auto=0 \
    -c maintenance.auto=false -c core.quotePath=true -c advice.graftFileDeprecated=false \
    -c advice.addEmbeddedRepo=false -c core.safecrlf=false "$@"
}
