# rescue <format> <objects> <commit> <branch> <name> <email> <shallow> <task branch>
# The run has destroyed its git directory: what is left of it goes aside, a new one stands on the base.
if [ -e .git ] || [ -L .git ]; then
  mv .git ".git-broken.$$" 2>/dev/null || rm -rf .git
fi
skeleton "$1" "$2" "$3" "$4" "$5" "$6" "$7"
printf '.git-broken.*\n' >>.git/info/exclude
git update-ref "refs/heads/$8" "$3"
git symbolic-ref HEAD "refs/heads/$8"
git read-tree HEAD
printf 'offshoot 1\nend\n'
