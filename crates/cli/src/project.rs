//! The repository that the caller stands in, and its configuration. Looks at names only; what git knows, the daemon asks.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use miette::NamedSource;
use offshoot_core::{
    config::{ConfigError, ProjectConfig, UserConfig},
    problem::{Problem, ProblemKind},
    service::Services,
};

use crate::{
    failure::{ConfigReport, Failure},
    session::Session,
};

/// The project's configuration file.
pub(crate) const PROJECT_FILE: &str = "offshoot.toml";

/// The services beside it.
pub(crate) const SERVICES_FILE: &str = "services.json";

const CONFIGURATION_HELP: &str = "docs/reference/configuration.md has every key";
const SERVICES_HELP: &str = "docs/services.md has every key";

/// The work tree (or bare repository) that a directory lies in.
pub(crate) fn root_of(directory: &Path) -> Option<PathBuf> {
    directory
        .ancestors()
        .find(|dir| {
            dir.join(".git").symlink_metadata().is_ok()
                || (dir.join("HEAD").is_file() && dir.join("objects").is_dir() && dir.join("refs").is_dir())
        })
        .map(Path::to_owned)
}

/// The work tree, or a problem that says what to do.
pub(crate) fn require_root(directory: &Path) -> Result<PathBuf, Failure> {
    root_of(directory).ok_or_else(|| {
        Problem::new(
            ProblemKind::NotFound,
            "not_a_repository",
            format!("{} is not in a git repository", directory.display()),
        )
        .hint("cd to one, or make one: git init && git add -A && git commit -m start")
        .into()
    })
}

/// Refuses configuration files with mistakes, showing the place; the daemon would refuse them too, but cannot show it as well.
pub(crate) fn check_configuration(directory: &Path, session: &Session) -> Result<(), Failure> {
    if let Some(root) = root_of(directory) {
        let mut config = ProjectConfig::default();
        check(&root.join(PROJECT_FILE), CONFIGURATION_HELP, |text| {
            config = ProjectConfig::parse(text)?;
            Ok(())
        })?;
        check(&root.join(SERVICES_FILE), SERVICES_HELP, |text| {
            config.check_services(&Services::parse(text)?, text)
        })?;
    }
    check(&session.place.user_config, CONFIGURATION_HELP, |text| UserConfig::parse(text).map(drop))
}

fn check(
    path: &Path,
    help: &str,
    parse: impl FnOnce(&str) -> Result<(), ConfigError>,
) -> Result<(), Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => {
            return Err(Problem::new(
                ProblemKind::Invalid,
                "config_unreadable",
                format!("cannot read {}: {error}", path.display()),
            )
            .into());
        }
    };
    parse(&text).map_err(|error| Failure::Config(Box::new(report(path, help, text, error))))
}

fn report(path: &Path, help: &str, text: String, error: ConfigError) -> ConfigReport {
    ConfigReport {
        message: error.message.trim_end().replace('\n', "; "),
        text: NamedSource::new(path.display().to_string(), text),
        span: error.span.map(Into::into),
        help: help.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_found_from_below() {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        fs::create_dir_all(repo.join("a/b")).unwrap();
        fs::create_dir(repo.join(".git")).unwrap();
        assert_eq!(root_of(&repo.join("a/b")), Some(repo.clone()));
        let linked = dir.path().join("linked");
        fs::create_dir(&linked).unwrap();
        fs::write(linked.join(".git"), "gitdir: /x").unwrap();
        assert_eq!(root_of(&linked), Some(linked.clone()));
        let bare = dir.path().join("bare.git");
        fs::create_dir_all(bare.join("objects")).unwrap();
        fs::create_dir_all(bare.join("refs")).unwrap();
        fs::write(bare.join("HEAD"), "ref: refs/heads/main").unwrap();
        assert_eq!(root_of(&bare), Some(bare.clone()));
    }

    #[test]
    fn mistakes_come_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(PROJECT_FILE);
        fs::write(&file, "[agent]\ndefualt = \"claude\"\n").unwrap();
        let Err(Failure::Config(report)) = check(&file, "", |t| ProjectConfig::parse(t).map(drop)) else {
            panic!("accepted")
        };
        assert!(report.message.contains("defualt"), "{}", report.message);
        let span = report.span.unwrap();
        assert_eq!((span.offset(), span.len()), (8, 7));
    }
}
