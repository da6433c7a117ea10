# delta_checkout <commit> <branch> <shallow>: what does not differ stays known to the index, so nothing need be looked at again.
if [ -n "$3" ]; then printf '%s\n' "$3" >.git/shallow; fi
if monitored; then monitor="$quiet"; else monitor=false; fi
git -c core.fsmonitor="$monitor" -c core.fsmonitorHookVersion=2 -c checkout.workers=0 -c checkout.thresholdForParallelism=200 read-tree -m -u HEAD "$1"
refs "$1" "$2"
rm -rf .git/logs .git/ORIG_HEAD
