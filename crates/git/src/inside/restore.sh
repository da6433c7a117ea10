# restore <commit>
# The files of the workspace become those of the commit: what differs is written or removed, by way of an index that knows
# the files as they are. The run's index and HEAD stay. What git ignores stays too; if it is in the way nothing is done.
snapshot
git read-tree -m -u "$tree" "$1^{tree}"
