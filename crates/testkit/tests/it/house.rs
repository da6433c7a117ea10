//! The rules of the house, as ARCHITECTURE.md states them: who may depend on whom, what licences come in, where unsafe
//! code is, how large files may be, what no file may say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may call whom. What is not here may not; `offshoot-testkit` is for tests only.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("sandbox", &["core"]),
    ("git", &["core"]),
    ("image", &["core"]),
    ("environment", &["core", "sandbox", "git", "image"]),
    ("gateway", &["core", "git"]),
    ("agents", &["core"]),
    ("notify", &["core"]),
    ("store", &["core"]),
    ("engine", &["core", "sandbox", "git", "image", "environment", "gateway", "agents", "notify", "store"]),
    ("server", &["core", "engine"]),
    // The sandbox: the one binary is also the shim.
    ("offshoot", &["core", "server", "sandbox"]),
    ("testkit", &[]),
];

/// Licences that MIT OR Apache-2.0 can be combined with, without an obligation beyond naming the authors.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "CC0-1.0",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn metadata() -> Value {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &target])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().unwrap().iter()
}

/// What git has of the project, or would have: files and their text. Binary files are left out.
fn files() -> Vec<(String, String)> {
    let output = Command::new("git")
        // A clone of somebody else's, as root, is still only listed.
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    let names = names.split_terminator('\0');
    let read = |name: &str| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?));
    let files: Vec<_> = names.filter_map(read).collect();
    assert!(files.len() > 200, "only {} files were found", files.len());
    files
}

fn report(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn crates_depend_only_on_those_below() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ARROWS.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    let metadata = metadata();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for package in list(&metadata, "packages").filter(|package| package["source"].is_null()) {
        let name = package["name"].as_str().unwrap();
        let from = name.strip_prefix("offshoot-").unwrap_or(name);
        seen.insert(from.to_owned());
        for dependency in list(package, "dependencies").filter(|it| it["kind"] != "dev") {
            let Some(to) = dependency["name"].as_str().unwrap().strip_prefix("offshoot-") else { continue };
            if !allowed.get(from).is_some_and(|those| those.contains(to)) {
                found.push(format!("{from} → {to}"));
            }
        }
    }
    report(&found, "arrows that are not in the plan of the house");
    let known: BTreeSet<_> = allowed.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(seen, known, "each crate has its place in the plan");
}

#[test]
fn rooms_keep_their_tools_to_themselves() {
    let metadata = metadata();
    let only = [("rusqlite", "offshoot-store"), ("seccompiler", "offshoot-sandbox"), ("clap", "offshoot")];
    let mut found = Vec::new();
    for package in list(&metadata, "packages").filter(|package| package["source"].is_null()) {
        let name = package["name"].as_str().unwrap();
        for dependency in list(package, "dependencies").filter(|it| it["kind"] != "dev") {
            let to = dependency["name"].as_str().unwrap();
            if only.iter().any(|(tool, owner)| *tool == to && *owner != name) {
                found.push(format!("{name} → {to}"));
            }
        }
    }
    report(
        &found,
        "SQL is the store's, system call filters are the sandbox's, arguments are the command line's",
    );
}

/// `(A OR B) AND C`, and the older `A/B`: every part joined by AND has to have an alternative that is on the list.
fn acceptable(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    expression.split(" AND ").all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
}

#[test]
fn licences_are_of_the_list() {
    assert!(acceptable("(MIT OR Apache-2.0) AND Unicode-3.0") && acceptable("Unlicense/MIT"));
    assert!(!acceptable("GPL-3.0-only") && !acceptable("MIT AND MPL-2.0") && !acceptable(""));
    let metadata = metadata();
    let found: Vec<_> = list(&metadata, "packages")
        .filter(|package| !acceptable(package["license"].as_str().unwrap_or_default()))
        .map(|package| format!("{}: {}", package["name"], package["license"]))
        .collect();
    report(&found, "licences that are not on the list");
}

#[test]
fn dependencies_come_from_the_registry_only() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = "));
    let found: Vec<_> = sources
        .filter(|source| *source != "\"registry+https://github.com/rust-lang/crates.io-index\"")
        .map(str::to_owned)
        .collect();
    report(&found, "sources other than the public registry");
}

/// The lints refuse it in every other crate; nobody may lift them.
#[test]
fn unsafe_code_is_in_the_sandbox_only() {
    let mut found = Vec::new();
    for (name, text) in files() {
        if name.starts_with("crates/")
            && name.ends_with("Cargo.toml")
            && !text.contains("[lints]\nworkspace = true")
        {
            found.push(format!("{name} does not take the lints of the workspace"));
        }
        // The one file of system calls, and what stands on it: tests of theirs, the attacker that they are tested with.
        if !name.ends_with(".rs") || name.starts_with("crates/sandbox/") || name.ends_with("/house.rs") {
            continue;
        }
        if text.contains("unsafe_code") || text.contains("unsafe {") || text.contains("unsafe fn") {
            found.push(name);
        }
    }
    report(&found, "unsafe code outside the sandbox");
}

#[test]
fn files_are_small_and_say_what_they_are() {
    let mut found = Vec::new();
    for (name, text) in files() {
        if !name.starts_with("crates/") || !name.ends_with(".rs") {
            continue;
        }
        let lines = text.lines().count();
        let map = name.ends_with("/lib.rs") || name.ends_with("/mod.rs");
        if lines > 800 {
            found.push(format!("{name} has {lines} lines; 800 are the most"));
        }
        if map && lines > 150 {
            found.push(format!("{name} has {lines} lines; a map has 150 at most"));
        }
        if name.contains("/src/") && !text.starts_with("//!") {
            found.push(format!("{name} does not begin with what it owns"));
        }
        for bad in ["manager", "helpers", "utils", "util", "common", "misc"] {
            if Path::new(&name).file_stem().is_some_and(|stem| stem == bad) {
                found.push(format!("{name}: a name that says nothing"));
            }
        }
    }
    report(&found, "files");
}

#[test]
fn every_test_runs() {
    let all = files();
    let mut found = Vec::new();
    for (name, text) in &all {
        if name.ends_with(".rs") && !name.ends_with("/house.rs") && text.contains("#[ignore") {
            found.push(format!("{name} leaves a test out"));
        }
        let Some((krate, module)) = name.split_once("/tests/it/") else {
            if name.contains("/tests/") && name.ends_with(".rs") {
                found.push(format!("{name} is a test binary of its own; there is one for each crate"));
            }
            continue;
        };
        let Some(module) = module.strip_suffix(".rs").filter(|it| *it != "main" && !it.contains('/')) else {
            continue;
        };
        let main = format!("{krate}/tests/it/main.rs");
        let declared = all.iter().any(|(it, text)| *it == main && text.contains(&format!("mod {module};")));
        if !declared {
            found.push(format!("{name} is not declared"));
        }
    }
    report(&found, "tests that do not run");
}

#[test]
fn no_file_tells_of_the_machine_it_was_written_on() {
    let own = format!("{}/", root().display());
    let mut found = Vec::new();
    for (name, text) in files() {
        if name.ends_with("/house.rs") {
            continue;
        }
        for bad in [own.as_str(), "/root/.", "/work/main", "/work/shared", "BEGIN OPENSSH", "sk-ant-api"] {
            if text.contains(bad) {
                found.push(format!("{name} says {bad}"));
            }
        }
        if text.lines().any(|line| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ")) {
            found.push(format!("{name} has a merge conflict in it"));
        }
    }
    report(&found, "files that tell too much");
}

/// Links between the pages lead somewhere.
#[test]
fn pages_link_to_what_is_there() {
    let all = files();
    let mut found = Vec::new();
    for (name, text) in all.iter().filter(|(name, _)| name.ends_with(".md")) {
        let dir = root().join(name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") || file.contains(' ') {
                continue;
            }
            if !dir.join(file).exists() {
                found.push(format!("{name} → {link}"));
            }
        }
    }
    report(&found, "links to nowhere");
}
