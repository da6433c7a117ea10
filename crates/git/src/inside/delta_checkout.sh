# delta_checkout <commit> <branch> <shallow>
if [ -n "$3" ]; then printf '%s\n' "$3" >.git/shallow; fi
git -c checkout.workers=0 -c checkout.thresholdForParallelism=200 read-tree -m -u HEAD "$1"
refs "$1" "$2"
rm -rf .git/logs .git/ORIG_HEAD
GIT_OPTIONAL_LOCKS=1 git status --porcelain >/dev/null
