# Files are many enough for git's fsmonitor protocol. Where the hook is not to be seen, git looks for itself. No untracked
# cache: git takes it for checked once it has written the index after an answer that told it to look at everything.
MANY=10000
HOOK=/run/offshoot/monitor/fsmonitor
# While a layer is made nobody else writes: nothing has changed since the layers below.
quiet='printf "base\\0"; :'
monitored() { [ -e .git/offshoot-monitored ]; }
# monitor: after the first checkout, before the first status.
monitor() {
  if [ "$(git ls-files | wc -l)" -le "$MANY" ]; then return 0; fi
  printf '[core]\n\tuntrackedCache = false\n\tfsmonitorHookVersion = 2\n\tfsmonitor = "[ -x %s ] && exec %s"\n' "$HOOK" "$HOOK" >>.git/config
  : >.git/offshoot-monitored
}
# next_second: an index no younger than a file, in seconds, makes git read that file again and write the index anew, in each
# environment.
next_second() {
  second=$(date +%s)
  while [ "$(date +%s)" = "$second" ]; do sleep 0.1 2>/dev/null || sleep 1; done
}
