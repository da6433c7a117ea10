# bundle <format> <base> <branch> <max refs>: a bundle on standard output.
base=$2 branch=refs/heads/$3 others="refs/heads refs/stash"
# What else a worktree's repository has is not the run's.
if [ "$REFS" != refs/offshoot ]; then others=; fi
list=$(
  git rev-parse -q --verify "$branch^{commit}" | sed 's/$/ HEAD/'
  git for-each-ref --no-merged="$base" --count="$4" --sort=-committerdate --format='%(objecttype) %(objectname) %(refname)' \
    "$REFS/checkpoints" "$REFS/elsewhere" $others |
    sed -n "s#^commit \([0-9a-f]*\) $REFS/#\1 refs/offshoot/#p; s/^commit //p" | grep -v -F -x -e "$(git rev-parse -q --verify "$branch^{commit}") $branch" || :
)
printf '# v3 git bundle\n@object-format=%s\n-%s base\n%s\n\n' "$1" "$base" "$list"
printf '%s\n--not\n%s\n' "$(printf '%s\n' "$list" | cut -d' ' -f1)" "$base" |
  git pack-objects --revs --thin --stdout -q --delta-base-offset
