//! What is asked of a review.

/// Which diff of a task is wanted, and how.
#[derive(Clone, Debug, Default)]
pub struct DiffRequest {
    /// What this checkpoint changed against the one before.
    pub step: Option<u32>,
    /// What this commit changed against its first parent.
    pub commit: Option<String>,
    /// Only in this repository.
    pub repository: Option<String>,
    /// Only this file, as the list of files names it.
    pub file: Option<String>,
    /// Lines that differ in whitespace only are the same.
    pub ignore_whitespace: bool,
    /// Lines around a change.
    pub context: Option<u32>,
    /// Without the patch.
    pub stat: bool,
}

/// Which file of a task is wanted.
#[derive(Clone, Debug, Default)]
pub struct FileRequest {
    /// Its path, as a diff names it.
    pub file: String,
    /// The repository it is in.
    pub repository: Option<String>,
    /// `base`, `head`, or a commit's id.
    pub commit: Option<String>,
    /// As it was at this checkpoint.
    pub step: Option<u32>,
}

/// Which landing is to be foretold.
#[derive(Clone, Debug, Default)]
pub struct LandingRequest {
    /// As one commit.
    pub squash: bool,
    /// Into which branch; `NAME=BRANCH`, with commas between several, for repositories of a task over several.
    pub into: Option<String>,
}
