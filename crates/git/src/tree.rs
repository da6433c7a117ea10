//! What a commit's tree has, by name only: which paths, and which object stands at one.

use crate::{command::GitError, oid::Oid, store::Store};

impl Store {
    /// All paths that git tracks in a commit, in bytes.
    pub fn paths(&self, commit: &Oid) -> Result<Vec<Vec<u8>>, GitError> {
        let out = self
            .git()
            .args(["ls-tree", "-r", "-z", "--name-only", "--full-tree", commit.as_str()])
            .ok()?
            .stdout;
        Ok(out.split(|b| *b == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// The object at a path; `None` if there is none.
    pub fn object_at(&self, commit: &Oid, path: &str) -> Result<Option<Oid>, GitError> {
        let out = self.git().args(["ls-tree", "-z", "--full-tree", commit.as_str(), "--", path]).ok()?.stdout;
        let entry = out.split(|b| *b == 0).next().unwrap_or_default();
        let tab = entry.iter().position(|b| *b == b'\t').unwrap_or_default();
        Ok(entry[..tab].rsplit(|b| *b == b' ').next().and_then(Oid::from_bytes))
    }
}
