//! The paths that a task is to touch, as patterns in the manner of `.gitignore`. Pure.
//!
//! A pattern without a slash inside means that name in any directory; one with a slash begins at the root. A directory
//! means everything below it. `*` does not cross a slash, `**` does. Paths are bytes, as git has them; in a task over
//! several repositories each begins with its repository's name.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Most patterns of a task, and the longest, in bytes: written by a person, in a command line.
const MAX_PATTERNS: usize = 100;
const MAX_LENGTH: usize = 500;

/// Patterns, ready to be asked.
#[derive(Clone, Debug)]
pub struct Scope {
    set: GlobSet,
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// There are too many.
    #[error("a scope has at most {MAX_PATTERNS} patterns")]
    Many,
    /// It says nothing, or too much.
    #[error("{0:?} is empty or longer than {MAX_LENGTH} bytes")]
    Length(String),
    /// `.gitignore` could take back what an earlier pattern said; a scope cannot.
    #[error("{0:?}: a scope has no exceptions")]
    Exception(String),
    /// It cannot be read.
    #[error("{pattern:?}: {reason}")]
    Syntax {
        /// The pattern.
        pattern: String,
        /// Why.
        reason: String,
    },
}

impl Scope {
    /// Reads patterns. None at all cover everything.
    pub fn new(patterns: &[String]) -> Result<Self, ScopeError> {
        if patterns.len() > MAX_PATTERNS {
            return Err(ScopeError::Many);
        }
        for pattern in patterns {
            if pattern.trim().is_empty() || pattern.trim_matches('/').is_empty() || pattern.len() > MAX_LENGTH
            {
                return Err(ScopeError::Length(pattern.clone()));
            }
            if pattern.starts_with('!') {
                return Err(ScopeError::Exception(pattern.clone()));
            }
        }
        Ok(Self { set: globs(patterns.iter().map(String::as_str), false)? })
    }

    /// Whether it covers a path.
    pub fn covers(&self, path: &[u8]) -> bool {
        self.set.is_empty() || self.set.is_match(OsStr::from_bytes(path))
    }
}

/// Patterns as one set. Each of them is there twice, one after the other: as it is, and with everything below it.
pub(crate) fn globs<'a>(
    patterns: impl Iterator<Item = &'a str>,
    any_case: bool,
) -> Result<GlobSet, ScopeError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let bad = |e: globset::Error| ScopeError::Syntax {
            pattern: pattern.to_owned(),
            reason: e.kind().to_string(),
        };
        let bare = pattern.trim_start_matches("./").trim_end_matches('/');
        let path = bare.strip_prefix('/').unwrap_or(bare);
        let path = if bare.contains('/') { path.to_owned() } else { format!("**/{path}") };
        for glob in [path.clone(), format!("{path}/**")] {
            let glob = GlobBuilder::new(&glob)
                .literal_separator(true)
                .backslash_escape(true)
                .case_insensitive(any_case)
                .build()
                .map_err(bad)?;
            set.add(glob);
        }
    }
    set.build().map_err(|e| ScopeError::Syntax { pattern: String::new(), reason: e.kind().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_gitignore() {
        for (pattern, covered, other) in [
            ("src/api/**", vec!["src/api/a.rs", "src/api/b/c.rs"], vec!["src/apis/a.rs", "x/src/api/a.rs"]),
            ("src/api", vec!["src/api/a.rs", "src/api"], vec!["src/api.rs"]),
            ("src/api/", vec!["src/api/a.rs"], vec!["lib/src/api/a.rs"]),
            ("./src/api", vec!["src/api/a.rs"], vec!["lib/src/api/a.rs"]),
            ("docs", vec!["docs/a.md", "x/docs/a.md"], vec!["docs.md"]),
            ("/docs", vec!["docs/a.md"], vec!["x/docs/a.md"]),
            ("*.md", vec!["a.md", "x/y/b.md"], vec!["a.mdx"]),
            ("src/*.rs", vec!["src/a.rs"], vec!["src/x/a.rs"]),
            ("src/**/*.rs", vec!["src/a.rs", "src/x/y/a.rs"], vec!["src/a.c"]),
            ("a b/{c,d}.txt", vec!["a b/c.txt", "a b/d.txt"], vec!["a b/e.txt"]),
            (r"a\*b", vec!["a*b"], vec!["axb"]),
        ] {
            let scope = Scope::new(&[pattern.to_owned()]).unwrap();
            for path in covered {
                assert!(scope.covers(path.as_bytes()), "{pattern} covers {path}");
            }
            for path in other {
                assert!(!scope.covers(path.as_bytes()), "{pattern} does not cover {path}");
            }
        }
    }

    #[test]
    fn paths_are_bytes() {
        let scope = Scope::new(&["src/*".to_owned()]).unwrap();
        assert!(scope.covers(b"src/\xff\n\"x"));
        assert!(!scope.covers(b"\xffsrc/x"));
        assert!(Scope::new(&[]).unwrap().covers(b"anything"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for pattern in ["", " ", "/", "!a", "a[", "{a", &"a".repeat(501)] {
            assert!(Scope::new(&[pattern.to_owned()]).is_err(), "{pattern:?}");
        }
        assert_eq!(Scope::new(&vec!["a".to_owned(); 101]).unwrap_err(), ScopeError::Many);
    }
}
