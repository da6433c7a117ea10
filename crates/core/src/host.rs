//! Which changed files would run, or change what runs, on the machine of whoever checks a branch out or merges it.
//!
//! In the sandbox such a file is harmless; on a person's machine the next `git commit`, `make` or editor window starts it.
//! A table by path, and what can be told from a file's mode, from where a link points, and from the scripts of a
//! `package.json`. Pure: the caller brings what is to be looked at. It is a list of what is known to run by itself or by
//! a usual command; code that is run because the project calls it is what the rest of a review is for.

use std::{collections::BTreeSet, ffi::OsStr, os::unix::ffi::OsStrExt, sync::LazyLock};

use globset::GlobSet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::scope::globs;

/// What sort of thing runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostKind {
    /// Git's hooks.
    Hook,
    /// The project's CI.
    Ci,
    /// A build, an installation or the tests.
    Build,
    /// An editor.
    Editor,
    /// Coding agents.
    Agent,
    /// What sets up a shell, a container or an environment.
    Environment,
    /// Git itself.
    Git,
    /// It is a link that leads out of the repository.
    Link,
    /// It became a program.
    Executable,
}

/// Why a file would run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunsOnHost {
    /// What sort of thing runs it.
    pub kind: HostKind,
    /// One sentence for people.
    pub why: String,
}

/// A changed file, as far as it has to be known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changed<'a> {
    /// Its path in its repository, in bytes.
    pub path: &'a [u8],
    /// Its mode before, as git writes it; empty if it is new.
    pub old_mode: &'a str,
    /// Its mode after; empty if it is gone.
    pub new_mode: &'a str,
    /// What it held before, if [`wants_content`] and it was there.
    pub old: Option<&'a [u8]>,
    /// What it holds now, if [`wants_content`].
    pub new: Option<&'a [u8]>,
}

const EXECUTABLE: &str = "100755";
const LINK: &str = "120000";
const SUBMODULE: &str = "160000";
/// Scripts that are named in a sentence.
const NAMED: usize = 8;
/// Characters of a name or a link's target in a sentence.
const SHOWN: usize = 60;

/// One row: what runs it, why, and which paths: patterns as in a scope, a directory with its slash. Upper and lower
/// case are the same, as they are on some machines.
struct Row(HostKind, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row(HostKind::Hook, "git runs it at a commit, checkout, merge or push, where such hooks are installed", &[
        ".husky/", ".githooks/", ".git-hooks/", ".pre-commit-config.yaml", ".pre-commit-config.yml",
        ".pre-commit-hooks.yaml", "lefthook.*", ".lefthook.*", ".lefthook/", "lefthook-local.*", ".lefthook-local.*",
        ".overcommit.yml", ".git-hooks.*", ".simple-git-hooks.*", "simple-git-hooks.*", ".lintstagedrc*",
        "lint-staged.config.*", ".captainhook.json", "captainhook.json", ".rusty-hook.toml", "cargo-husky/",
    ]),
    Row(HostKind::Ci, "CI runs it with the project's secrets when the branch is pushed", &[
        ".github/workflows/", ".github/actions/", ".gitlab-ci.yml", ".gitlab-ci/", ".gitlab/ci/", ".circleci/", ".travis.yml",
        "azure-pipelines*.yml", ".azure-pipelines", "Jenkinsfile", "Jenkinsfile.*", ".buildkite/", ".drone.yml", ".woodpecker/",
        ".woodpecker.y*ml", "bitbucket-pipelines.yml", "appveyor.yml", ".appveyor.yml", ".cirrus.yml", ".cirrus.star",
        ".forgejo/workflows/", ".gitea/workflows/", ".teamcity/", ".semaphore/", "cloudbuild.y*ml", "codemagic.yaml",
        ".builds/", ".build.yml", "**/action.y*ml",
    ]),
    Row(HostKind::Build, "a build, an installation or the tests run it as code", &[
        "build.rs", "**/.cargo/config", "**/.cargo/config.toml", "rust-toolchain", "rust-toolchain.toml",
        "Makefile", "Makefile.*", "GNUmakefile", "*.mk", "CMakeLists.txt", "*.cmake", "CMakePresets.json", "meson.build", "configure",
        "configure.ac", "configure.in", "*.m4", "Justfile", ".justfile", "Taskfile.y*ml", "magefile.go", "BUILD.bazel",
        "WORKSPACE.bazel", "MODULE.bazel", "*.bzl", ".bazelrc", "SConstruct", "SConscript", "wscript", "xmake.lua",
        "premake*.lua", "Earthfile", "Tiltfile", "Vagrantfile", "Dockerfile", "Dockerfile.*", "Containerfile", "Containerfile.*", "*.dockerfile",
        "setup.py", "conftest.py", "noxfile.py", "fabfile.py", "dodo.py", "tox.ini", "sitecustomize.py", "usercustomize.py",
        "*.pth", "hatch_build.py", "*.gradle", "*.gradle.kts", "gradlew", "gradlew.bat", "gradle.properties", "gradle/wrapper/",
        "**/gradle/wrapper/", "init.gradle*", "mvnw", "mvnw.cmd", ".mvn/", "build.xml", "build.sbt", "build.sc", "build.zig",
        "Package.swift", "Podfile", "Fastfile", "Rakefile", "Gemfile", "*.gemspec", "Guardfile", "mix.exs", "rebar.config",
        "rebar.config.script", "Setup.hs", "*.csproj", "*.fsproj", "*.vbproj", "*.vcxproj", "Directory.Build.*", "*.targets",
        "*.props", "build.cake", "build.fsx", "binding.gyp", ".npmrc", ".yarnrc", ".yarnrc.yml", ".yarn/", ".pnpmfile.*js",
        "pnpmfile.js", "gulpfile.*", "Gruntfile.*", "webpack.*js", "webpack.*ts", "vite.config.*", "vitest.config.*",
        "vitest.workspace.*", "jest.config.*", "karma.conf.*", "playwright.config.*", "cypress.config.*", "babel.config.*",
        ".babelrc*", "rollup.config.*", "esbuild.*js", "rspack.config.*", "next.config.*", "nuxt.config.*", "svelte.config.*",
        "astro.config.*", "metro.config.*", "eslint.config.*", ".eslintrc*", "prettier.config.*", ".prettierrc.*js",
        "tailwind.config.*", "postcss.config.*", "tsup.config.*", "commitlint.config.*", "bunfig.toml", "deno.json*",
    ]),
    Row(HostKind::Editor, "an editor that opens the directory reads it, and may run what it says", &[
        ".vscode/", ".idea/", ".run/", "*.iml", "*.code-workspace", "*.sublime-project", ".zed/", ".fleet/", ".vs/", ".exrc",
        ".vimrc", ".nvimrc", ".nvim.lua", ".lvimrc", ".dir-locals.el", ".dir-locals-2.el", ".project.vim", ".helix/",
        ".settings/", ".kakrc",
    ]),
    Row(HostKind::Agent, "coding agents follow it on your machine, with all that they may do there", &[
        ".claude/", ".mcp.json", "mcp.json", "AGENTS.md", "AGENTS.override.md", "AGENT.md", "CLAUDE.md", "CLAUDE.local.md",
        "GEMINI.md", ".gemini/", ".geminiignore", "QWEN.md", ".qwen/", ".cursor/", ".cursorrules", ".windsurf/", ".windsurfrules",
        ".codex/", ".opencode/", "opencode.json*", ".aider.conf.yml", ".aider*", ".github/copilot-instructions.md",
        ".github/instructions/", ".github/prompts/", ".github/chatmodes/", ".github/agents/", ".roo/", ".roorules",
        ".clinerules/", ".continue/", ".goosehints", ".amp/", ".kiro/", ".junie/", ".agents/", "SKILL.md", ".rules/", ".crush.json",
        "crush.json", ".factory/", ".augment/", ".trae/",
    ]),
    Row(HostKind::Environment, "what sets up your shell, a container or an environment does what it says", &[
        ".envrc", ".env", ".env.local", ".devcontainer/", ".devcontainer.json", ".tool-versions", "mise.toml", ".mise.toml",
        "mise.local.toml", ".mise/", ".rtx.toml", "flake.nix", "shell.nix", "default.nix", "devenv.nix", "devbox.json",
        "docker-compose*.y*ml", "compose*.y*ml", "Procfile", "Procfile.*", ".gitpod.yml", ".gitpod.Dockerfile", ".autoenv.zsh", "flox.nix",
    ]),
    Row(HostKind::Environment, "Offshoot does what it says for every task that starts from here: commands, hosts, services", &[
        "/offshoot.toml", "/services.json", "/.worktreeinclude",
    ]),
    Row(HostKind::Git, "git reads it itself: filters, merge drivers, submodules, settings", &[
        ".gitattributes", ".gitmodules", ".gitconfig", ".lfsconfig",
    ]),
];

/// All patterns in order, and which row each belongs to.
static PATTERNS: LazyLock<(GlobSet, Vec<(&'static Row, &'static str)>)> = LazyLock::new(|| {
    let all = TABLE.iter().flat_map(|row| row.2.iter().map(move |pattern| (row, *pattern)));
    // The tests go through every one of them.
    let rows = all.clone().collect();
    (globs(all.map(|(_, pattern)| pattern), true).unwrap_or_default(), rows)
});

/// Whether more than path and modes has to be known of a file: where a link points, or what a `package.json` holds.
pub fn wants_content(path: &[u8], new_mode: &str) -> bool {
    new_mode == LINK || is_package(path)
}

/// Why a file would run; nothing if it would not, or is gone.
pub fn runs_on_host(file: &Changed<'_>) -> Vec<RunsOnHost> {
    if file.new_mode.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<RunsOnHost> = Vec::new();
    let mut add = |kind, why: &str| found.push(RunsOnHost { kind, why: why.to_owned() });
    let (set, rows) = &*PATTERNS;
    let mut told = BTreeSet::new();
    for at in set.matches(OsStr::from_bytes(file.path)) {
        // Each pattern is in the set twice; what is below counts for directories only.
        let Some((Row(kind, why, _), pattern)) = rows.get(at / 2) else { continue };
        if (at % 2 == 0 || pattern.ends_with('/')) && told.insert((*kind, *why)) {
            add(*kind, why);
        }
    }
    if is_package(file.path)
        && let Some(why) = scripts(file.old, file.new)
    {
        add(HostKind::Build, &why);
    }
    match file.new_mode {
        LINK => {
            let target = file.new.unwrap_or_default();
            if leaves(file.path, target) {
                let target = plain(&String::from_utf8_lossy(target));
                add(HostKind::Link, &format!("it is a link that leads out of the repository, to {target}"));
            }
        }
        EXECUTABLE if file.old_mode != EXECUTABLE => {
            add(HostKind::Executable, "it has become a program: its executable bit was set");
        }
        SUBMODULE => {
            add(HostKind::Git, "it is a commit of another repository, which git brings in as a submodule")
        }
        _ => {}
    }
    found
}

fn is_package(path: &[u8]) -> bool {
    path.rsplit(|b| *b == b'/').next() == Some(b"package.json")
}

/// What of a `package.json` runs and was not there before.
fn scripts(old: Option<&[u8]>, new: Option<&[u8]>) -> Option<String> {
    let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let Some(new) = new.and_then(read) else {
        return Some("its scripts cannot be read; npm and the like may run them".to_owned());
    };
    let old = old.and_then(read).unwrap_or_default();
    let none = serde_json::Map::new();
    let scripts = new["scripts"].as_object().unwrap_or(&none);
    let changed: Vec<_> =
        scripts.iter().filter(|(name, script)| old["scripts"].get(name) != Some(script)).collect();
    if changed.is_empty() {
        return None;
    }
    let mut names: Vec<_> = changed.iter().take(NAMED).map(|(name, _)| plain(name)).collect();
    if changed.len() > NAMED {
        names.push(format!("{} more", changed.len() - NAMED));
    }
    let on_install =
        ["preinstall", "install", "postinstall", "prepare", "prepublish", "preprepare", "postprepare"];
    let by_itself = if changed.iter().any(|(name, _)| on_install.contains(&name.as_str())) {
        "an installation runs some of them by itself"
    } else {
        "npm and the like run them by name"
    };
    Some(format!("its scripts changed ({}); {by_itself}", names.join(", ")))
}

/// Whether a link leads out of the tree it is in, or into git's own directory. By its text alone: other links on the way
/// are flagged themselves.
fn leaves(path: &[u8], target: &[u8]) -> bool {
    if target.first() == Some(&b'/') {
        return true;
    }
    let mut depth = path.iter().filter(|b| **b == b'/').count();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            part if part.eq_ignore_ascii_case(b".git") => return true,
            _ => depth += 1,
        }
    }
    false
}

/// Hostile text within a sentence: short, and without anything that changes how the sentence is read.
fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_:./@+".contains(c) { c } else { '?' };
    let shown: String = text.chars().take(SHOWN).map(plain).collect();
    if text.chars().nth(SHOWN).is_some() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(path: &str, old_mode: &str, new_mode: &str) -> Vec<HostKind> {
        let file = Changed { path: path.as_bytes(), old_mode, new_mode, ..Changed::default() };
        runs_on_host(&file).into_iter().map(|found| found.kind).collect()
    }

    #[test]
    fn every_pattern_is_read() {
        let all: usize = TABLE.iter().map(|row| row.2.len()).sum();
        assert_eq!(PATTERNS.0.len(), 2 * all);
        assert!(TABLE.iter().all(|row| !row.1.is_empty() && !row.1.ends_with('.')));
    }

    #[test]
    fn what_runs_is_known_by_its_path() {
        use HostKind as K;
        for (path, kind) in [
            (".husky/pre-commit", K::Hook),
            (".githooks/post-checkout", K::Hook),
            (".pre-commit-config.yaml", K::Hook),
            ("lefthook.yml", K::Hook),
            (".github/workflows/ci.yml", K::Ci),
            (".GitHub/Workflows/ci.yml", K::Ci),
            (".gitlab-ci.yml", K::Ci),
            (".circleci/config.yml", K::Ci),
            ("build.rs", K::Build),
            ("crates/a/build.rs", K::Build),
            (".cargo/config.toml", K::Build),
            ("sub/.cargo/config.toml", K::Build),
            ("Makefile", K::Build),
            ("lib/makefile.am", K::Build),
            ("setup.py", K::Build),
            ("app/build.gradle.kts", K::Build),
            ("gradle/wrapper/gradle-wrapper.jar", K::Build),
            ("x/CMakeLists.txt", K::Build),
            ("vite.config.ts", K::Build),
            (".yarn/releases/yarn.cjs", K::Build),
            (".vscode/tasks.json", K::Editor),
            ("sub/.vscode/settings.json", K::Editor),
            (".idea/workspace.xml", K::Editor),
            (".claude/settings.json", K::Agent),
            (".mcp.json", K::Agent),
            ("AGENTS.md", K::Agent),
            ("docs/CLAUDE.md", K::Agent),
            (".envrc", K::Environment),
            (".devcontainer/devcontainer.json", K::Environment),
            ("offshoot.toml", K::Environment),
            ("services.json", K::Environment),
            (".gitattributes", K::Git),
            ("sub/.gitmodules", K::Git),
        ] {
            assert_eq!(kinds(path, "", "100644"), [kind], "{path}");
            assert_eq!(kinds(path, "100644", ""), [], "{path} is gone");
        }
    }

    #[test]
    fn ordinary_files_are_left_alone() {
        for path in [
            "src/main.rs",
            "README.md",
            "src/build/mod.rs",
            "docs/makefiles.md",
            "a/offshoot.toml",
            "husky/x",
            "src/builder.rs",
            "package-lock.json",
            "Cargo.toml",
            "github/workflows/x",
            "environment.py",
            "x.vscode/y",
        ] {
            assert_eq!(kinds(path, "100644", "100644"), [], "{path}");
        }
    }

    #[test]
    fn modes_and_links_count() {
        assert_eq!(kinds("tool", "", "100755"), [HostKind::Executable]);
        assert_eq!(kinds("tool", "100644", "100755"), [HostKind::Executable]);
        assert_eq!(kinds("tool", "100755", "100755"), []);
        assert_eq!(kinds("tool", "100755", "100644"), []);
        assert_eq!(kinds(".husky/pre-push", "", "100755"), [HostKind::Hook, HostKind::Executable]);
        assert_eq!(kinds("vendor/x", "", "160000"), [HostKind::Git]);
        for (path, target, out) in [
            ("a", "/etc/passwd", true),
            ("a", "../x", true),
            ("a/b", "../x", false),
            ("a/b", "../../x", true),
            ("a/b", "c/../../../x", true),
            ("a/b", "./c//d", false),
            ("a/b", "../.git/hooks", true),
            ("a", "", false),
        ] {
            let file = Changed {
                path: path.as_bytes(),
                new_mode: "120000",
                new: Some(target.as_bytes()),
                ..Changed::default()
            };
            assert!(wants_content(file.path, file.new_mode));
            assert_eq!(!runs_on_host(&file).is_empty(), out, "{path} -> {target}");
        }
    }

    #[test]
    fn scripts_of_a_package_are_named() {
        let why = |old: Option<&str>, new: &str| {
            let file = Changed {
                path: b"web/package.json",
                new_mode: "100644",
                old: old.map(str::as_bytes),
                new: Some(new.as_bytes()),
                ..Changed::default()
            };
            assert!(wants_content(file.path, file.new_mode));
            runs_on_host(&file).pop().map(|found| found.why)
        };
        assert_eq!(why(None, r#"{"name":"a"}"#), None);
        let old = r#"{"scripts":{"build":"tsc","old":"x"}}"#;
        assert_eq!(why(Some(old), r#"{"scripts":{"build":"tsc"},"dependencies":{"a":"1"}}"#), None);
        let new = r#"{"scripts":{"build":"tsc && curl x","postinstall":"evil"}}"#;
        let said = why(Some(old), new).unwrap();
        assert!(said.contains("(build, postinstall)") && said.contains("by itself"), "{said}");
        assert!(why(Some(old), "{").unwrap().contains("cannot be read"));
        let hostile = "{\"scripts\":{\"a\\u202eb\\n\\u001b[31m\":\"x\"}}";
        assert!(why(None, hostile).unwrap().contains("(a?b???31m)"), "{:?}", why(None, hostile));
        let many: Vec<_> = (0..30).map(|n| format!("\"s{n:02}\":\"x\"")).collect();
        let said = why(None, &format!("{{\"scripts\":{{{}}}}}", many.join(","))).unwrap();
        assert!(said.contains("s07, 22 more"), "{said}");
        assert!(why(None, "{\"scripts\":7}").is_none());
    }

    #[test]
    fn names_may_be_any_bytes() {
        let file = Changed { path: b".husky/\xff\n\"", new_mode: "100644", ..Changed::default() };
        assert_eq!(runs_on_host(&file).len(), 1);
        let file =
            Changed { path: b"l", new_mode: "120000", new: Some(b"/\xff\x1b]0;x\x07"), ..Changed::default() };
        assert!(
            runs_on_host(&file)[0].why.ends_with("/??]0?x?".replace(']', "?").as_str()),
            "{:?}",
            runs_on_host(&file)
        );
    }
}
