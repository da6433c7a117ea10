# finish <branch> <base> <name> <email> <message> <ended>
export GIT_AUTHOR_NAME="$3" GIT_AUTHOR_EMAIL="$4" GIT_COMMITTER_NAME="$3" GIT_COMMITTER_EMAIL="$4"
branch=refs/heads/$1 base=$2 ended=$6
if [ "$ended" = 1 ]; then
  # Nobody is there any more who could hold a lock.
  rm -f "$GIT_DIR/index.lock" "$GIT_DIR/HEAD.lock" "$GIT_DIR/packed-refs.lock" "$GIT_DIR/config.lock"
  if [ -n "$own" ]; then rm -f "$(git rev-parse --path-format=absolute --git-common-dir)/$branch.lock"; fi
  if [ -d "$GIT_DIR/refs" ]; then find "$GIT_DIR/refs" -name '*.lock' -type f -exec rm -f {} +; fi
fi
unmerged=$(git ls-files -u -z 2>/dev/null | tr -cd '\000' | wc -c | tr -d ' ')
submodules=0
[ ! -f .gitmodules ] || submodules=$(git status --porcelain=v2 -z 2>/dev/null | tr '\000\n' '\n ' | grep -c '^1 .. S\(C..\|.M.\|..U\)' || :)
head=$(git rev-parse -q --verify 'HEAD^{commit}' || :)
merging=
if [ -f "$GIT_DIR/MERGE_HEAD" ] && [ "$unmerged" = 0 ]; then
  # Resolved and not concluded: concluded here. With conflicts left it is an ordinary commit, so that nobody takes the
  # merge for done.
  merging=$(git rev-parse -q --verify 'MERGE_HEAD^{commit}' || :)
fi
snapshot
new=$head leftovers=0
if [ -z "$head" ] || [ -n "$merging" ] || [ "$tree" != "$(git rev-parse "$head^{tree}")" ]; then
  new=$(printf '%s\n' "$5" | git commit-tree "$tree" ${head:+-p "$head"} ${merging:+-p "$merging"})
  # In the user's own repository another branch is somebody else's.
  if [ -z "$own" ] || [ "$(git symbolic-ref -q HEAD || :)" = "$branch" ]; then
    git update-ref -m 'offshoot: leftovers' HEAD "$new" "${head:-}"
  fi
  leftovers=1
fi
if [ "$ended" = 1 ]; then
  mv -f "$INDEX" "$GIT_DIR/index"
  rm -rf "$GIT_DIR/MERGE_HEAD" "$GIT_DIR/MERGE_MSG" "$GIT_DIR/MERGE_MODE"
elif [ "$leftovers" = 1 ] && cp "$INDEX" "$GIT_DIR/index.lock.offshoot" && ln "$GIT_DIR/index.lock.offshoot" "$GIT_DIR/index.lock" 2>/dev/null; then
  rm -f "$GIT_DIR/index.lock.offshoot"
  mv -f "$GIT_DIR/index.lock" "$GIT_DIR/index"
else
  rm -f "$GIT_DIR/index.lock.offshoot"
fi
tip=$(git rev-parse -q --verify "$branch^{commit}" || :)
elsewhere=
if [ "$tip" != "$new" ]; then
  if [ -z "$tip" ] || git merge-base --is-ancestor "$tip" "$new"; then
    # The run went on elsewhere (a branch of its own, a detached HEAD): the task's branch follows.
    git update-ref -m 'offshoot: follow' "$branch" "$new" "${tip:-}"
    tip=$new
  else
    elsewhere=$new
    git update-ref "$REFS/elsewhere" "$new"
  fi
fi
printf 'offshoot 1\nhead %s\nleftovers %s\nunmerged %s\nsubmodules %s\nunreadable %s\n' \
  "$tip" "$leftovers" "$unmerged" "$submodules" "$unreadable"
if [ -n "$elsewhere" ]; then printf 'elsewhere %s\n' "$elsewhere"; fi
printf 'changed %s\n' "$(changed "$base" "$tip")"
printf 'on %s\n' "$(git symbolic-ref -q HEAD | od -An -v -tx1 | tr -d ' \n')"
cat "$OFFSHOOT_LIST"
printf 'end\n'
