//! Where a task's worktree goes: a template with `{repo}` and `{task}`, seen from the main checkout, always outside it.
//!
//! What a repository says about it is believed within narrow bounds: a folder beside the checkout that is not hidden.
//! What the user says may lead anywhere but into a checkout. Pure.

use std::path::{Component, Path, PathBuf};

/// Where worktrees go if nobody says otherwise: beside the checkout, where a person finds them and no search of the
/// checkout does.
pub const DEFAULT: &str = "../{repo}.worktrees/{task}";

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Two tasks would have one worktree.
    #[error("the path of worktrees, {0:?}, needs {{task}} in its last part, so that each task has its own")]
    NoTask(String),
    /// Into the checkout, every search would find each file twice.
    #[error("worktrees cannot go to {}: that is inside the checkout", .0.display())]
    Inside(PathBuf),
    /// Only the user may say so.
    #[error(
        "offshoot.toml wants worktrees in {0:?}; a repository may only name a folder beside the checkout, as in {DEFAULT:?}"
    )]
    NotBeside(String),
}

/// Whose template it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The user's, or the default.
    User,
    /// The repository's own file.
    Project,
}

/// The directory for a task of the repository whose main checkout (or bare git directory) is `root`.
pub fn resolve(template: &str, from: From, root: &Path, task: &str) -> Result<PathBuf, TemplateError> {
    let last = Path::new(template).file_name().unwrap_or_default().to_string_lossy();
    if !last.contains("{task}") {
        return Err(TemplateError::NoTask(template.to_owned()));
    }
    let repo = root.file_name().unwrap_or_default().to_string_lossy();
    let repo = repo.strip_suffix(".git").filter(|name| !name.is_empty()).unwrap_or(&repo);
    let filled = template.replace("{repo}", repo).replace("{task}", task);
    let wanted = Path::new(&filled);
    if from == From::Project {
        let mut parts = wanted.components();
        let beside = parts.next() == Some(Component::ParentDir)
            && parts.all(
                |part| matches!(part, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b".")),
            );
        if !beside {
            return Err(TemplateError::NotBeside(template.to_owned()));
        }
    }
    let path = normal(&root.join(expanded(wanted)));
    if path.starts_with(root) {
        return Err(TemplateError::Inside(path));
    }
    Ok(path)
}

/// With the home directory for `~`.
fn expanded(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

/// Without `.` and `..`; links are not looked at.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_outside_and_one_for_each_task() {
        let at = |template, from, root: &str| resolve(template, from, Path::new(root), "fix");
        let path = |text: &str| Ok(PathBuf::from(text));
        assert_eq!(at(DEFAULT, From::Project, "/home/u/shop"), path("/home/u/shop.worktrees/fix"));
        assert_eq!(at(DEFAULT, From::User, "/srv/shop.git"), path("/srv/shop.worktrees/fix"));
        assert_eq!(at("/data/{repo}-{task}", From::User, "/home/u/shop"), path("/data/shop-fix"));
        for inside in ["{task}", "trees/{task}", "../shop/{task}", "/home/u/shop/.w/{task}"] {
            assert!(
                matches!(at(inside, From::User, "/home/u/shop"), Err(TemplateError::Inside(_))),
                "{inside}"
            );
        }
        for shared in ["../trees", "../{task}/tree", ".."] {
            assert!(
                matches!(at(shared, From::User, "/home/u/shop"), Err(TemplateError::NoTask(_))),
                "{shared}"
            );
        }
        for far in
            ["/tmp/{task}", "../../{task}", "../.ssh/{task}", "~/{task}", "../x/../../{task}", "{task}"]
        {
            assert!(
                matches!(at(far, From::Project, "/home/u/shop"), Err(TemplateError::NotBeside(_))),
                "{far}"
            );
        }
    }
}
