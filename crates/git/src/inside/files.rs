//! The files that a run's workspace begins with, besides those of its layers: written by the host into the run's own writable
//! layer before anything is started, so that starting needs no git.

use crate::{branch, oid::Oid};

/// The files, relative to the workspace, that put a run on its branch. Written into its own layer before it starts, so
/// that starting needs no git.
pub fn run_files(branch: &str, base: &Oid) -> Result<Vec<(String, Vec<u8>)>, branch::BadBranchName> {
    branch::check(branch)?;
    Ok(vec![
        (".git/HEAD".into(), format!("ref: refs/heads/{branch}\n").into_bytes()),
        (format!(".git/refs/heads/{branch}"), format!("{base}\n").into_bytes()),
    ])
}

/// Where the objects of another of a task's repositories are mounted, by its name.
pub fn objects_of(name: &str) -> String {
    format!("/run/offshoot/repositories/{name}")
}

/// The same files for another of a task's repositories. Its layers are those of its own project, so where its objects are in
/// this environment is among them.
pub fn run_files_of(
    name: &str,
    branch: &str,
    base: &Oid,
) -> Result<Vec<(String, Vec<u8>)>, branch::BadBranchName> {
    let mut files = run_files(branch, base)?;
    files.extend(shown_files(name));
    Ok(files)
}

/// The files of a repository that is only shown: HEAD stays detached at its base.
pub fn shown_files(name: &str) -> Vec<(String, Vec<u8>)> {
    vec![(".git/objects/info/alternates".into(), format!("{}\n", objects_of(name)).into_bytes())]
}
