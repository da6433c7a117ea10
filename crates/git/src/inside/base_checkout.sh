# base_checkout <format> <objects> <commit> <branch> <name> <email> <shallow>
skeleton "$@"
git -c checkout.workers=0 -c checkout.thresholdForParallelism=200 reset -q --hard "$3"
monitor
if monitored; then
  monitor="$quiet"
  next_second
else
  monitor=false
  git update-index -q --untracked-cache || :
fi
GIT_OPTIONAL_LOCKS=1 git -c core.fsmonitor="$monitor" status --porcelain >/dev/null
rm -rf .git/logs .git/ORIG_HEAD
