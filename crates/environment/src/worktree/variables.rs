//! What the processes of a worktree have in their environment: the host's variables by an allow-list, the environment's
//! own, and a few by which git there keeps to itself. Also the generated file with those that tools read from a file.
//!
//! Keys are not on the list: what a person wants to hand in is named with `--pass-env`. Does not start anything.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use offshoot_core::{config::PortsConfig, id::EnvironmentId, isolation::is_of_host};

use crate::ports;

/// What belongs to one environment.
#[derive(Clone, Debug)]
pub struct Own<'a> {
    /// Its id.
    pub environment: EnvironmentId,
    /// Its task.
    pub task: &'a str,
    /// The first of its ports, if it has some.
    pub port: Option<u16>,
    /// What the project wants its ports to be called.
    pub ports: &'a PortsConfig,
    /// What the project says.
    pub env: &'a BTreeMap<String, String>,
    /// Patterns of what is never committed.
    pub exclude: &'a Path,
}

/// The variables of every process.
pub fn all(
    host: impl Iterator<Item = (String, String)>,
    search_path: &str,
    own: &Own<'_>,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<_, _> = host.filter(|(name, _)| is_of_host(name)).collect();
    env.insert("PATH".to_owned(), search_path.to_owned());
    env.insert("TERM".to_owned(), "xterm-256color".to_owned());
    env.insert("OFFSHOOT".to_owned(), "1".to_owned());
    env.insert("OFFSHOOT_ENVIRONMENT".to_owned(), own.environment.to_string());
    env.insert("OFFSHOOT_ISOLATION".to_owned(), "worktree".to_owned());
    env.extend(in_file(own));
    // For every git started there, without a line in the user's configuration: no collection while others work, and
    // what is generated is ignored.
    let settings = [
        ("gc.auto", "0".to_owned()),
        ("maintenance.auto", "false".to_owned()),
        ("core.excludesFile", own.exclude.to_string_lossy().into_owned()),
    ];
    env.insert("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string());
    for (n, (key, value)) in settings.into_iter().enumerate() {
        env.insert(format!("GIT_CONFIG_KEY_{n}"), key.to_owned());
        env.insert(format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    env
}

/// Those that are also in the generated file, for tools that are started by somebody else.
pub fn in_file(own: &Own<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("OFFSHOOT_TASK".to_owned(), own.task.to_owned())]);
    if let Some(first) = own.port {
        env.insert("PORT".to_owned(), first.to_string());
        for n in 0..ports::COUNT {
            env.insert(format!("OFFSHOOT_PORT_{n}"), (first + n).to_string());
        }
        for (name, n) in own.ports.variables.iter().filter(|(_, n)| **n < ports::COUNT) {
            env.insert(name.clone(), (first + n).to_string());
        }
    }
    env.extend(own.env.clone());
    env
}

const BEGIN: &str = "# offshoot: generated for this worktree, never committed";
const END: &str = "# offshoot: end";

/// The generated file: what is there already (copied from the main checkout, perhaps), then a part of its own, which is
/// written anew each time. The last value counts with the usual readers.
pub fn file_text(there: &str, variables: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let mut own = false;
    for line in there.lines() {
        own |= line == BEGIN;
        if !own {
            text.push_str(line);
            text.push('\n');
        }
        own &= line != END;
    }
    text.push_str(BEGIN);
    text.push('\n');
    for (name, value) in variables {
        text.push_str(&format!("{name}={}\n", quoted(value)));
    }
    text.push_str(END);
    text.push('\n');
    text
}

/// As dotenv, `docker --env-file` aside, and `sh` read it.
fn quoted(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@,+=%".contains(&b);
    if value.bytes().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', "'\\''")) }
}

/// The name of the generated file, if it can be one: relative, within the worktree.
pub fn file_name(wanted: &str) -> Option<PathBuf> {
    use std::path::Component;
    let path = Path::new(wanted);
    let within = path.components().all(|part| matches!(part, Component::Normal(name) if name != ".git"));
    (within && !wanted.is_empty()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_and_its_own() {
        let (ports, env) = (
            PortsConfig { variables: BTreeMap::from([("API_PORT".to_owned(), 1)]), ..PortsConfig::default() },
            BTreeMap::from([("GREETING".to_owned(), "it's $me".to_owned())]),
        );
        let own = Own {
            environment: "00000000-0000-7000-8000-000000000001".parse().unwrap(),
            task: "fix",
            port: Some(30010),
            ports: &ports,
            env: &env,
            exclude: Path::new("/x/exclude"),
        };
        let host =
            ["HOME", "LC_ALL", "SSH_AUTH_SOCK", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "GIT_DIR"];
        let host = host.iter().map(|name| ((*name).to_owned(), "value".to_owned()));
        let all = all(host, "/bin", &own);
        assert!(["HOME", "LC_ALL", "SSH_AUTH_SOCK"].iter().all(|name| all.contains_key(*name)));
        let keys = ["ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "GIT_DIR"];
        assert!(!keys.iter().any(|name| all.contains_key(*name)), "{all:?}");
        assert_eq!((all["PORT"].as_str(), all["API_PORT"].as_str()), ("30010", "30011"));
        assert_eq!(all["GIT_CONFIG_COUNT"], "3");

        let text = file_text("SECRET=theirs\n", &in_file(&own));
        assert!(text.starts_with("SECRET=theirs\n# offshoot") && text.contains("\nPORT=30010\n"), "{text}");
        assert!(text.contains("GREETING='it'\\''s $me'"), "{text}");
        assert_eq!(file_text(&text, &in_file(&own)), text, "written twice is written once");
    }

    #[test]
    fn the_file_stays_in_the_worktree() {
        for good in [".env.local", "api/.env"] {
            assert!(file_name(good).is_some(), "{good}");
        }
        for bad in ["", "/etc/x", "../x", "a/../../x", ".git/config"] {
            assert!(file_name(bad).is_none(), "{bad}");
        }
    }
}
