# snapshot: the work tree's state as a tree ($tree), by way of a private index ($INDEX). The run's index is copied, not
# touched. Counts what it could not read in $unreadable.
snapshot() {
  INDEX="$GIT_DIR/offshoot-index.$$"
  trap 'rm -f "$INDEX" "$INDEX.lock" "$INDEX.list" "$INDEX.err" "$INDEX.within"' EXIT
  cp "$GIT_DIR/index" "$INDEX" 2>/dev/null || :
  export GIT_INDEX_FILE="$INDEX" OFFSHOOT_LIST="$INDEX.list"
  if ! git ls-files -v >"$INDEX.list" 2>/dev/null; then
    rm -f "$INDEX"
    git read-tree HEAD
    : >"$INDEX.list"
  fi
  # Files the run has asked git not to look at are looked at all the same.
  if grep -q '^[a-z]' "$INDEX.list"; then
    git ls-files -z | git update-index -z --no-assume-unchanged --stdin
  fi
  git add -A --ignore-errors . 2>"$INDEX.err" || :
  unreadable=$(grep -c '^error: unable to index file\|^warning: could not open directory' "$INDEX.err" || :)
  # Repositories within: those git took as a bare commit name (whose objects nobody would have), and those it left out.
  : >"$INDEX.list"
  {
    git ls-files -s -z | { grep -z '^160000' || :; } | cut -z -f2-
    if grep -q 'does not have a commit checked out' "$INDEX.err"; then
      git ls-files -o --exclude-standard -z | { grep -z '/$' || :; }
    fi
  } >"$INDEX.within"
  # All are found before the first is taken: what was taken off the index would be found again.
  xargs -0 -r -n1 sh -eu -c "$ADOPT" adopt <"$INDEX.within"
  tree=$(git write-tree)
}
# For one repository within, $1. A submodule the project knows stays what it is; a clean clone of something that is
# elsewhere is left out; anything else is the run's work, and its files are taken as they are.
ADOPT=$(cat <<'ADOPT_END'
path=${1%/}
[ -e "./$path/.git" ] || exit 0
quiet="git --no-pager -c core.hooksPath=/dev/null -c core.fsmonitor=false"
if $quiet config -f .gitmodules --get-regexp '^submodule\..*\.path$' 2>/dev/null | cut -d' ' -f2- | grep -Fxq -e "$path"; then
  exit 0
fi
within() { ( cd "./$path" && unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE && $quiet "$@" ); }
$quiet update-index --force-remove -- "$path"
if [ -z "$(within status --porcelain 2>/dev/null | head -c1)" ] && [ -n "$(within branch -r --contains HEAD 2>/dev/null | head -c1)" ]; then
  kind=clone
else
  kind=embedded
  within ls-files -z -co --exclude-standard | { grep -zv '/$' || :; } |
    ( cd "./$path" && $quiet update-index -z --add --remove --stdin ) || kind=unreadable
fi
printf '%s ' "$kind" >>"$OFFSHOOT_LIST"
printf '%s' "$path" | od -An -v -tx1 | tr -d ' \n' >>"$OFFSHOOT_LIST"
printf '\n' >>"$OFFSHOOT_LIST"
ADOPT_END
)
changed() { git diff-tree -r -z --no-renames --name-only "$1" "$2" | tr -cd '\000' | wc -c | tr -d ' '; }
