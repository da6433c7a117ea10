//! Which setups a directory has, out of the files in it: commands, keys, hosts, the check.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use offshoot_core::{egress::EgressRule, name::Label};

use super::{
    Setup,
    tool::{ANY_TOOLCHAIN, Family, TOOLS, Tool},
};

/// How much of a lockfile is read: the largest that are known have 5 MB.
const MAX_LOCKFILE: u64 = 16 << 20;
/// How much of any other file.
const MAX_FILE: u64 = 1 << 20;
/// Most hosts that one lockfile may add.
const MAX_HOSTS: usize = 16;

/// The setups of one directory: `below` is its path from the root, empty for the root itself.
pub(super) fn look(root: &Path, below: &str) -> Vec<Setup> {
    let dir = root.join(below);
    let mut families: Vec<Family> = Vec::new();
    let mut setups = Vec::new();
    for tool in TOOLS {
        if !dir.join(tool.lockfile).is_file() || families.contains(&tool.family) {
            continue;
        }
        families.push(tool.family);
        setups.push(setup(root, below, tool));
    }
    // `web`, but `web-npm` and `web-pip` where there are two.
    let several = setups.len() > 1;
    for setup in &mut setups {
        setup.name = match (below, several) {
            ("", _) => setup.name.clone(),
            (_, false) => below.replace('/', "-"),
            (_, true) => format!("{}-{}", below.replace('/', "-"), setup.name),
        };
    }
    setups
}

/// Gives each setup a name of its own that a configuration can have.
pub(super) fn name_apart(setups: &mut [Setup]) {
    let mut taken: Vec<String> = Vec::new();
    for setup in setups {
        let stem = Label::from_foreign(&setup.name).map_or_else(|| setup.tool.to_owned(), String::from);
        // The longest number has five digits.
        let stem = stem.get(..stem.len().min(57)).unwrap_or_default().trim_end_matches('-').to_owned();
        let numbered = (2..).map(|n| format!("{stem}-{n}"));
        let free = std::iter::once(stem.clone()).chain(numbered).find(|name| !taken.contains(name));
        setup.name = free.unwrap_or(stem);
        taken.push(setup.name.clone());
    }
}

fn setup(root: &Path, below: &str, tool: &Tool) -> Setup {
    let dir = root.join(below);
    let path = |file: &str| if below.is_empty() { file.to_owned() } else { format!("{below}/{file}") };
    let within = |command: &str| {
        if below.is_empty() { command.to_owned() } else { format!("cd {below} && {command}") }
    };
    let berry = tool.name == "yarn" && is_berry(&dir);
    let mut commands: Vec<String> = tool.install.iter().map(|c| (*c).to_owned()).collect();
    let mut hosts: Vec<String> = tool.hosts.iter().map(|h| (*h).to_owned()).collect();
    let mut key = vec![tool.lockfile.to_owned()];
    key.extend(tool.beside.iter().map(|f| (*f).to_owned()));
    if berry {
        commands = vec!["yarn install --immutable".to_owned()];
        // Where corepack gets the version that package.json names.
        hosts.push("repo.yarnpkg.com".to_owned());
    }
    match tool.name {
        "pip" => {
            let files = requirements(&dir);
            let arguments: String =
                files.iter().filter(|f| f.asked).map(|f| format!(" -r {}", f.name)).collect();
            if let Some(last) = commands.last_mut() {
                *last = format!(".venv/bin/pip install{arguments}");
            }
            key = files.into_iter().map(|f| f.name).collect();
        }
        // The program itself is committed: another version installs otherwise.
        "yarn" => key.extend(yarn_release(&dir)),
        // Which version of the package manager is meant stands in it, and what is run after installing.
        "go" if root.join("go.work").is_file() => key.push("go.work".to_owned()),
        _ => {}
    }
    if tool.family == Family::Node {
        key.push("package.json".to_owned());
    }
    let mut key: Vec<String> =
        key.into_iter().filter(|file| dir.join(file).is_file()).map(|file| path(&file)).collect();
    for file in tool.family.toolchain() {
        if dir.join(file).is_file() {
            key.push(path(file));
        } else if root.join(file).is_file() {
            key.push((*file).to_owned());
        }
    }
    key.extend(ANY_TOOLCHAIN.iter().filter(|f| root.join(f).is_file()).map(|f| (*f).to_owned()));
    for found in hosts_in(&dir.join(tool.lockfile), tool.family) {
        if !hosts.contains(&found) {
            hosts.push(found);
        }
    }
    Setup {
        name: tool.name.to_owned(),
        tool: tool.name,
        title: format!("{} ({})", tool.title, path(tool.lockfile)),
        commands: commands.iter().map(|c| within(c)).collect(),
        key,
        hosts,
        env: tool.env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        check: tool.check.filter(|_| can_test(&dir, tool.family)).map(within),
    }
}

/// The beginning of a file as text; empty where there is none.
pub(super) fn text_of(path: &Path, most: u64) -> String {
    let read = || -> io::Result<String> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// Yarn 2 and later writes another kind of lockfile, and has another word for the same.
fn is_berry(dir: &Path) -> bool {
    let head = text_of(&dir.join("yarn.lock"), 4096);
    head.contains("__metadata:") || (!head.contains("yarn lockfile v1") && dir.join(".yarnrc.yml").is_file())
}

/// The yarn that is committed with the project, as `.yarnrc.yml` names it.
fn yarn_release(dir: &Path) -> Option<String> {
    let text = text_of(&dir.join(".yarnrc.yml"), MAX_FILE);
    let path = text.lines().find_map(|line| line.strip_prefix("yarnPath:"))?;
    let path = path.trim().trim_matches(['"', '\'']);
    plain(path).then(|| path.to_owned())
}

/// Whether a path can stand in a shell command and a configuration as it is, and stays below where it is.
pub(super) fn plain(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with(['/', '-'])
        && path.split('/').all(|name| name != "..")
        && path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
}

struct Requirements {
    name: String,
    /// Whether it is installed by name; else by another that includes it.
    asked: bool,
}

/// `requirements.txt`, those for developers, and what they include.
fn requirements(dir: &Path) -> Vec<Requirements> {
    const DEVELOPERS: [&str; 7] = [
        "requirements-dev.txt",
        "requirements-test.txt",
        "requirements_dev.txt",
        "dev-requirements.txt",
        "test-requirements.txt",
        "requirements/dev.txt",
        "requirements/test.txt",
    ];
    let mut files = vec![Requirements { name: "requirements.txt".to_owned(), asked: true }];
    files.extend(
        DEVELOPERS
            .iter()
            .filter(|f| dir.join(f).is_file())
            .map(|f| Requirements { name: (*f).to_owned(), asked: true }),
    );
    let mut at = 0;
    while let Some(name) = files.get(at).map(|f| f.name.clone()) {
        at += 1;
        let beside = name.rsplit_once('/').map(|(dir, _)| dir);
        for line in text_of(&dir.join(&name), MAX_FILE).lines() {
            let words = ["-r", "--requirement", "-c", "--constraint"];
            let Some(file) = words.iter().find_map(|word| line.trim().strip_prefix(word)) else { continue };
            let file =
                file.trim_start_matches(['=', ' ', '\t']).split_whitespace().next().unwrap_or_default();
            let file = file.strip_prefix("./").unwrap_or(file);
            let file = beside.map_or_else(|| file.to_owned(), |dir| format!("{dir}/{file}"));
            // As many as anybody has; a hostile project has no way to make it more.
            if files.len() < 16
                && plain(&file)
                && !files.iter().any(|f| f.name == file)
                && dir.join(&file).is_file()
            {
                files.push(Requirements { name: file, asked: false });
            }
        }
    }
    files
}

/// The hosts that a lockfile names.
fn hosts_in(lockfile: &Path, family: Family) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    let Ok(file) = fs::File::open(lockfile) else { return hosts };
    let mut lines = BufReader::new(file.take(MAX_LOCKFILE));
    let mut line = Vec::new();
    while hosts.len() < MAX_HOSTS {
        line.clear();
        if !lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        for mark in family.addresses() {
            let Some((_, address)) = text.split_once(mark) else { continue };
            let Some(host) = host_of(address) else { continue };
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
    }
    hosts
}

/// The host of an address as a rule of the allow-list.
fn host_of(address: &str) -> Option<String> {
    let address = address.trim_start().trim_start_matches("git+").replace("%3A", ":").replace("%2F", "/");
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"))?;
    let end = rest.find(|c: char| matches!(c, '/' | '"' | '\'' | '#' | '?' | '&') || c.is_whitespace());
    let host = rest.get(..end.unwrap_or(rest.len()))?.rsplit('@').next()?.to_ascii_lowercase();
    // The index of crates.io is written as the repository that it was; cargo asks elsewhere.
    if address.contains("github.com/rust-lang/crates.io-index") {
        return None;
    }
    match host.trim_end_matches(":443").parse::<EgressRule>().ok()? {
        EgressRule::Host(_) => None,
        rule => Some(rule.to_string()).filter(|text| text != "localhost"),
    }
}

fn can_test(dir: &Path, family: Family) -> bool {
    match family {
        Family::Node => {
            let package: serde_json::Value =
                serde_json::from_str(&text_of(&dir.join("package.json"), MAX_FILE)).unwrap_or_default();
            // npm init writes a test script that only fails.
            package["scripts"]["test"].as_str().is_some_and(|script| !script.contains("no test specified"))
        }
        Family::Python => {
            let files = [
                "pyproject.toml",
                "requirements.txt",
                "requirements-dev.txt",
                "setup.cfg",
                "uv.lock",
                "poetry.lock",
            ];
            dir.join("pytest.ini").is_file()
                || files.iter().any(|f| text_of(&dir.join(f), MAX_FILE).contains("pytest"))
        }
        Family::Ruby => dir.join("Rakefile").is_file(),
        _ => true,
    }
}
