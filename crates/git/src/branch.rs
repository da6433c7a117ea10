//! Branch names: the rules of git-check-ref-format(1), applied before a name meets git. Pure.

/// The folder of the tasks' branches in the user's repository.
pub const PREFIX: &str = "offshoot/";

/// Why a text cannot be a branch name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be a branch name: {why}")]
pub struct BadBranchName {
    /// The text.
    pub name: String,
    /// The rule it breaks.
    pub why: &'static str,
}

/// Whether `name` (without `refs/heads/`) may be a branch.
pub fn check(name: &str) -> Result<(), BadBranchName> {
    let bad = |why| Err(BadBranchName { name: name.to_owned(), why });
    // 200: with `refs/heads/` and `.lock` each component still fits a file name (255 bytes).
    if name.is_empty() || name.len() > 200 {
        return bad("it has 1 to 200 bytes");
    }
    if name.starts_with('-') || name == "HEAD" || name == "@" {
        return bad("git reads it as something else");
    }
    if name.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c)) {
        return bad("it has a blank, a control character or one of ~^:?*[\\");
    }
    if name.contains("..") || name.contains("@{") || name.ends_with('.') {
        return bad("it has '..' or '@{', or ends in '.'");
    }
    if name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock")) {
        return bad("a part between slashes is empty, starts with '.' or ends in '.lock'");
    }
    Ok(())
}

/// The branch of the task called `slug`: `offshoot/<slug>`.
pub fn task_branch(slug: &str) -> Result<String, BadBranchName> {
    let name = format!("{PREFIX}{slug}");
    check(&name).map(|()| name)
}

/// Whether both names can be branches of one repository: neither is a folder of the other.
pub fn can_coexist(a: &str, b: &str) -> bool {
    let inside =
        |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    !inside(a, b) && !inside(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_gits_rules() {
        for good in ["main", "offshoot/fix-1", "a/b/c", "é", "a@b", "a.b", "\"q\""] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "", "-x", "HEAD", "@", "a b", "a..b", "a.", ".a", "a/.b", "a//b", "/a", "a/", "a.lock",
            "a.lock/b", "a@{1}", "a\nb", "a\u{7f}b", "a~", "a^", "a:b", "a?", "a*", "a[", "a\\b",
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(!can_coexist("offshoot", "offshoot/x") && can_coexist("offshoot", "offshoots"));
        assert_eq!(task_branch("fix").as_deref(), Ok("offshoot/fix"));
    }
}
