# checkpoint <n> <message>
export GIT_AUTHOR_NAME=Offshoot GIT_AUTHOR_EMAIL=offshoot@localhost
export GIT_COMMITTER_NAME=Offshoot GIT_COMMITTER_EMAIL=offshoot@localhost
snapshot
head=$(git rev-parse -q --verify 'HEAD^{commit}' || :)
previous=$(git for-each-ref --count=1 --sort=-version:refname --format='%(objectname)' "$REFS/checkpoints")
created=0 commit=
for known in $head $previous; do
  if [ "$(git rev-parse "$known^{tree}")" = "$tree" ]; then commit=$known; break; fi
done
if [ -z "$commit" ]; then
  commit=$(printf '%s\n' "$2" | git commit-tree "$tree" ${head:+-p "$head"})
  git update-ref "$REFS/checkpoints/$1" "$commit"
  created=1
fi
printf 'offshoot 1\ntree %s\ncommit %s\ncreated %s\nunreadable %s\n' "$tree" "$commit" "$created" "$unreadable"
if [ -n "$head" ]; then printf 'changed %s\n' "$(changed "$head" "$tree")"; fi
cat "$OFFSHOOT_LIST"
printf 'end\n'
