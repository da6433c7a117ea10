# skeleton <format> <objects> <commit> <branch> <name> <email> <shallow>: makes .git, without index and files.
skeleton() {
  command git init -q --template= --object-format="$1" .
  mkdir -p .git/info .git/objects/info
  printf '%s\n' "$2" >.git/objects/info/alternates
  {
    printf '[user]\n\tname = %s\n\temail = %s\n' "$5" "$6"
    printf '[core]\n\tuntrackedCache = true\n\tlogAllRefUpdates = true\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n'
    printf '[feature]\n\tmanyFiles = false\n[advice]\n\tdetachedHead = false\n'
    printf '[push]\n\tdefault = current\n[init]\n\tdefaultBranch = main\n'
  } >>.git/config
  if [ -n "$7" ]; then printf '%s\n' "$7" >.git/shallow; fi
  refs "$3" "$4"
}
# refs <commit> <branch>: HEAD detached at the commit, and the base's branch if it has one. No other ref.
refs() {
  { printf '# pack-refs with: peeled fully-peeled sorted \n'
    if [ -n "$2" ]; then printf '%s refs/heads/%s\n' "$1" "$2"; fi
  } >.git/packed-refs
  printf '%s\n' "$1" >.git/HEAD
}
