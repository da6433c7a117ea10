# worktree_checkout: what is there already is not overwritten, and shows up as changed.
git -c submodule.recurse=false -c checkout.workers=0 -c checkout.thresholdForParallelism=200 read-tree -m HEAD
git -c submodule.recurse=false -c checkout.workers=0 -c checkout.thresholdForParallelism=200 checkout-index -q -a || :
git update-index -q --refresh || :
