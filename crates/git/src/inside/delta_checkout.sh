# delta_checkout <commit> <branch> <shallow>: what does not differ stays known to the index, so nothing need be looked at again.
if [ -n "$3" ]; then printf '%s\n' "$3" >.git/shallow; fi
parallel='-c checkout.workers=0 -c checkout.thresholdForParallelism=200'
if monitored; then
  # Half the time of read-tree on 80,000 files. It looks at every file first unless git is told what changed.
  git -c core.fsmonitor="$quiet" -c core.fsmonitorHookVersion=2 $parallel checkout -q --detach "$1"
else
  git $parallel read-tree -m -u HEAD "$1"
fi
refs "$1" "$2"
rm -rf .git/logs .git/ORIG_HEAD
