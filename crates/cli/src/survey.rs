//! What `init` finds in a repository: lockfiles, a way to test, files that are not part of it. Reads names and a few small
//! files; runs nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One way of installing dependencies, known by its lockfile.
struct Ecosystem {
    lockfile: &'static str,
    title: &'static str,
    install: &'static str,
    check: Option<&'static str>,
    hosts: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
}

const fn ecosystem(
    lockfile: &'static str,
    title: &'static str,
    install: &'static str,
    check: Option<&'static str>,
    hosts: &'static [&'static str],
) -> Ecosystem {
    Ecosystem { lockfile, title, install, check, hosts, env: &[] }
}

/// In this order: of several lockfiles for one manifest the first wins.
const ECOSYSTEMS: &[Ecosystem] = &[
    ecosystem(
        "Cargo.lock",
        "Rust",
        "cargo test --locked --no-run",
        Some("cargo test --locked"),
        &["index.crates.io", "static.crates.io"],
    ),
    ecosystem(
        "pnpm-lock.yaml",
        "Node (pnpm)",
        "pnpm install --frozen-lockfile",
        Some("pnpm test"),
        &["registry.npmjs.org"],
    ),
    ecosystem(
        "yarn.lock",
        "Node (yarn)",
        "yarn install --frozen-lockfile",
        Some("yarn test"),
        &["registry.yarnpkg.com", "registry.npmjs.org"],
    ),
    ecosystem(
        "bun.lock",
        "Node (bun)",
        "bun install --frozen-lockfile",
        Some("bun test"),
        &["registry.npmjs.org"],
    ),
    ecosystem("package-lock.json", "Node (npm)", "npm ci", Some("npm test"), &["registry.npmjs.org"]),
    ecosystem(
        "uv.lock",
        "Python (uv)",
        "uv sync --frozen",
        Some("uv run --frozen pytest"),
        &["pypi.org", "files.pythonhosted.org"],
    ),
    Ecosystem {
        lockfile: "poetry.lock",
        title: "Python (poetry)",
        install: "poetry install --no-interaction",
        check: Some("poetry run pytest"),
        hosts: &["pypi.org", "files.pythonhosted.org"],
        env: &[("POETRY_VIRTUALENVS_IN_PROJECT", "true")],
    },
    ecosystem(
        "requirements.txt",
        "Python (pip)",
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
        Some(".venv/bin/python -m pytest"),
        &["pypi.org", "files.pythonhosted.org"],
    ),
    ecosystem(
        "go.sum",
        "Go",
        "go build ./...",
        Some("go test ./..."),
        &["proxy.golang.org", "sum.golang.org"],
    ),
    Ecosystem {
        lockfile: "Gemfile.lock",
        title: "Ruby",
        install: "bundle install",
        check: Some("bundle exec rake test"),
        hosts: &["rubygems.org", "index.rubygems.org"],
        env: &[("BUNDLE_PATH", "vendor/bundle")],
    },
    ecosystem(
        "composer.lock",
        "PHP",
        "composer install --no-interaction",
        None,
        &["repo.packagist.org", "api.github.com", "codeload.github.com"],
    ),
    ecosystem("mix.lock", "Elixir", "mix deps.get", Some("mix test"), &["repo.hex.pm", "builds.hex.pm"]),
    ecosystem(
        "pom.xml",
        "Java (Maven)",
        "mvn -q -B test-compile",
        Some("mvn -q -B test"),
        &["repo.maven.apache.org"],
    ),
];

/// Directories that hold what a tool made, never a project of its own.
const SKIPPED: &[&str] = &["node_modules", "target", "vendor", "dist", "build", "venv", "__pycache__"];
/// Most directories looked at below the root: a monorepo's first level.
const MAX_DIRECTORIES: usize = 200;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Ecosystems with their directory (empty for the root), as people call them.
    pub found: Vec<String>,
    /// Setup commands.
    pub commands: Vec<String>,
    /// Files that decide whether the commands must run again.
    pub key: Vec<String>,
    /// Commands that could be the check; the first is the best guess.
    pub checks: Vec<String>,
    /// Hosts that the commands reach.
    pub hosts: Vec<String>,
    /// Variables that keep what is installed inside the workspace.
    pub env: Vec<(String, String)>,
    /// Files with settings or secrets beside the committed ones.
    pub private: Vec<String>,
}

/// Looks at a repository.
pub(crate) fn survey(root: &Path) -> Survey {
    let mut survey = Survey::default();
    look(root, "", &mut survey);
    let mut below = directories(root);
    below.sort();
    for dir in below.into_iter().take(MAX_DIRECTORIES) {
        if let Some(name) = dir.file_name().and_then(|n| n.to_str()) {
            look(&dir, name, &mut survey);
        }
    }
    if has_target(root) {
        survey.checks.insert(0, "make test".to_owned());
    }
    survey.private = private_files(root);
    survey
}

fn directories(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|name| !name.starts_with('.') && !SKIPPED.contains(&name) && plain(name))
        })
        .collect()
}

/// Whether a directory's name can stand in a shell command as it is.
fn plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn look(dir: &Path, below: &str, survey: &mut Survey) {
    let mut node = false;
    for ecosystem in ECOSYSTEMS {
        if !dir.join(ecosystem.lockfile).is_file() {
            continue;
        }
        let is_node = ecosystem.title.starts_with("Node");
        if is_node && std::mem::replace(&mut node, true) {
            continue;
        }
        let within = |command: &str| {
            if below.is_empty() { command.to_owned() } else { format!("cd {below} && {command}") }
        };
        let file = if below.is_empty() {
            ecosystem.lockfile.to_owned()
        } else {
            format!("{below}/{}", ecosystem.lockfile)
        };
        survey.found.push(format!("{} ({file})", ecosystem.title));
        survey.commands.push(within(install(dir, ecosystem)));
        survey.key.push(file);
        if let Some(check) = ecosystem.check
            && can_test(dir, ecosystem)
        {
            survey.checks.push(within(check));
        }
        for host in ecosystem.hosts {
            if !survey.hosts.iter().any(|known| known == host) {
                survey.hosts.push((*host).to_owned());
            }
        }
        survey.env.extend(ecosystem.env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    }
}

fn install(dir: &Path, ecosystem: &Ecosystem) -> &'static str {
    // Yarn 2 and later is known by its own configuration file, and has another word for the same.
    if ecosystem.lockfile == "yarn.lock" && dir.join(".yarnrc.yml").is_file() {
        return "yarn install --immutable";
    }
    ecosystem.install
}

fn can_test(dir: &Path, ecosystem: &Ecosystem) -> bool {
    if ecosystem.title.starts_with("Node") {
        let text = fs::read_to_string(dir.join("package.json")).unwrap_or_default();
        let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        // npm init writes a test script that only fails.
        return package["scripts"]["test"]
            .as_str()
            .is_some_and(|script| !script.contains("no test specified"));
    }
    if ecosystem.title.starts_with("Python") {
        let mentions = ["pyproject.toml", "requirements.txt", "setup.cfg", "uv.lock", "poetry.lock"]
            .iter()
            .any(|f| fs::read_to_string(dir.join(f)).is_ok_and(|text| text.contains("pytest")));
        return mentions || dir.join("pytest.ini").is_file();
    }
    true
}

fn has_target(root: &Path) -> bool {
    ["Makefile", "GNUmakefile", "makefile"].iter().any(|name| {
        fs::read_to_string(root.join(name))
            .is_ok_and(|text| text.lines().any(|line| line.starts_with("test:")))
    })
}

fn private_files(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            let example = ["example", "sample", "template", "dist"]
                .iter()
                .any(|word| name.ends_with(&format!(".{word}")));
            let private = name == ".env"
                || name.starts_with(".env.")
                || matches!(name.as_str(), ".envrc" | ".npmrc" | ".netrc" | ".pypirc" | "credentials.json")
                || name.ends_with(".pem")
                || name.ends_with(".key");
            private && !example
        })
        .collect();
    names.sort();
    names
}

/// The commented `offshoot.toml` for what was found. `agents` are those on PATH.
pub(crate) fn configuration(survey: &Survey, agents: &[String]) -> String {
    let quoted = |text: &str| toml_string(text);
    let list = |items: &[String]| items.iter().map(|i| quoted(i)).collect::<Vec<_>>().join(", ");
    let mut text = String::from(
        "# Offshoot: how coding agents work on this repository. Every key is in docs/reference/configuration.md.\n\
         # It is read from your checkout when a task starts. Commit it, so that everybody has it.\n\n[agent]\n",
    );
    match agents.first() {
        Some(agent) => {
            text.push_str(&format!("# Found here: {}.\ndefault = {}\n", agents.join(", "), quoted(agent)));
        }
        None => text.push_str(
            "# No agent was found on PATH; offshoot agents lists those it knows.\n# default = \"claude\"\n",
        ),
    }
    text.push_str(
        "# model = \"…\"\n# What an agent's own permission requests get. The sandbox is the boundary, so: allow.\n\
         permission = \"allow\"\n# What every agent here is told, without it entering the diff.\n\
         # instructions = \"Run the tests before you finish.\"\n\n",
    );
    if survey.commands.is_empty() {
        text.push_str(
            "# No lockfile was found. If something must be installed before anybody can work, say how:\n# [setup.all]\n\
             # commands = [\"make deps\"]\n# key = [\"deps.lock\"]\n\n",
        );
    } else {
        text.push_str(&format!("# Found: {}.\n", survey.found.join(", ")));
        text.push_str(
            "# Run once per content of the key files; every environment then shares the result.\n[setup.all]\n",
        );
        text.push_str(&format!("commands = [{}]\nkey = [{}]\n\n", list(&survey.commands), list(&survey.key)));
    }
    text.push_str("# What must succeed at the end of a run before it counts as complete.\n");
    match survey.checks.split_first() {
        None => text.push_str("# [check]\n# command = \"make test\"\n\n"),
        Some((first, rest)) => {
            text.push_str(&format!("[check]\ncommand = {}\n", quoted(first)));
            for other in rest {
                text.push_str(&format!("# command = {}\n", quoted(other)));
            }
            text.push_str("timeout = \"15m\"\n\n");
        }
    }
    text.push_str(
        "# Hosts that can be reached from inside; no others. What an agent itself needs comes with the agent.\n[egress]\n",
    );
    text.push_str(&format!("allow = [{}]\n\n", list(&survey.hosts)));
    text.push_str("# For each environment's whole process tree.\n# [limits]\n# memory = \"4g\"\n# processes = 1024\n# disk = \"20g\"\n\n");
    if survey.env.is_empty() {
        text.push_str("# Variables every process inside has. Not for secrets: use offshoot run --pass-env NAME.\n# [environment]\n# env = { CI = \"1\" }\n");
    } else {
        let pairs: Vec<String> = survey.env.iter().map(|(k, v)| format!("{k} = {}", quoted(v))).collect();
        text.push_str(
            "# Variables every process inside has (these keep what is installed in the workspace).\n",
        );
        text.push_str(&format!(
            "# Not for secrets: use offshoot run --pass-env NAME.\n[environment]\nenv = {{ {} }}\n",
            pairs.join(", ")
        ));
    }
    text
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use offshoot_core::config::ProjectConfig;

    use super::*;

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn read(files: &[(&str, &str)], agents: &[&str]) -> (Survey, ProjectConfig) {
        let dir = repository(files);
        let survey = survey(dir.path());
        let agents: Vec<String> = agents.iter().map(|a| (*a).to_owned()).collect();
        let text = configuration(&survey, &agents);
        let config = ProjectConfig::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        (survey, config)
    }

    #[test]
    fn every_lockfile_gives_a_configuration_that_reads() {
        for ecosystem in ECOSYSTEMS {
            let (_, config) = read(&[(ecosystem.lockfile, "")], &["codex"]);
            assert_eq!(config.setup["all"].key, [ecosystem.lockfile]);
            assert_eq!(config.setup["all"].commands, [ecosystem.install]);
            assert_eq!(config.egress.allow.len(), ecosystem.hosts.len());
            assert_eq!(config.agent.default.as_deref(), Some("codex"));
        }
    }

    #[test]
    fn a_monorepo_is_installed_part_by_part() {
        let (survey, config) = read(
            &[
                ("Cargo.lock", ""),
                ("Makefile", "all:\n\ntest: all\n\tcargo test\n"),
                ("web/package-lock.json", ""),
                ("web/package.json", r#"{"scripts":{"test":"vitest run"}}"#),
                ("node_modules/x/package-lock.json", ""),
                (".env", "SECRET=1"),
                (".env.example", ""),
            ],
            &[],
        );
        assert_eq!(config.setup["all"].commands, ["cargo test --locked --no-run", "cd web && npm ci"]);
        assert_eq!(config.setup["all"].key, ["Cargo.lock", "web/package-lock.json"]);
        assert_eq!(config.check.command.as_deref(), Some("make test"));
        assert_eq!(survey.checks, ["make test", "cargo test --locked", "cd web && npm test"]);
        assert_eq!(survey.private, [".env"]);
        assert_eq!(config.agent.default, None);
    }

    #[test]
    fn a_test_script_that_is_none_is_no_check() {
        let package = r#"{"scripts":{"test":"echo \"Error: no test specified\" && exit 1"}}"#;
        let (survey, config) = read(&[("package-lock.json", ""), ("package.json", package)], &[]);
        assert!(survey.checks.is_empty() && config.check.command.is_none());
    }

    #[test]
    fn an_empty_repository_gets_a_file_too() {
        let (survey, config) = read(&[], &[]);
        assert_eq!(survey, Survey::default());
        assert!(config.setup.is_empty());
    }
}
