//! The tools a person has on PATH, made visible inside: read-only, at the same path, and never more than tools.
//!
//! System directories are there anyway. A PATH entry elsewhere is shown together with what it needs to run, by the
//! rules of the usual version managers. A home directory itself, or a directory that holds one, is never shown.

use std::path::{Path, PathBuf};

/// Directories to show and the PATH to set.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tools {
    /// Host directories, to be shown read-only at the same path.
    pub directories: Vec<PathBuf>,
    /// PATH inside.
    pub path: Vec<PathBuf>,
}

/// Directories that every environment has.
const SYSTEM: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Below a home directory: where a version manager puts executables, and what they need to run. Relative to home.
const MANAGERS: [(&str, &[&str]); 14] = [
    (".cargo/bin", &[".cargo/bin", ".rustup"]),
    (".pyenv", &[".pyenv"]),
    (".rbenv", &[".rbenv"]),
    (".nodenv", &[".nodenv"]),
    (".nvm/versions", &[".nvm/versions"]),
    (".volta", &[".volta"]),
    (".bun", &[".bun/bin"]),
    (".deno/bin", &[".deno/bin"]),
    (".asdf", &[".asdf"]),
    (".local/share/mise", &[".local/share/mise"]),
    (".local/share/fnm", &[".local/share/fnm"]),
    (".local/bin", &[".local/bin", ".local/share/uv", ".local/share/pipx"]),
    (".sdkman/candidates", &[".sdkman/candidates"]),
    ("go/bin", &["go/bin"]),
];

impl Tools {
    /// What `path` (the text of PATH) shows, for a person whose home is `home`, plus directories the person named.
    pub fn find(path: &str, home: &Path, named: &[PathBuf]) -> Self {
        let mut tools = Self::default();
        for entry in path.split(':').map(Path::new).filter(|p| p.is_absolute()) {
            if SYSTEM.iter().any(|system| entry == Path::new(system)) {
                push(&mut tools.path, entry);
            } else if let Ok(inside) = entry.strip_prefix(home) {
                let Some((_, needs)) = MANAGERS.iter().find(|(at, _)| inside.starts_with(at)) else {
                    // ~/bin and its like: the directory alone. Not home itself, and nothing hidden.
                    let plain = inside
                        .components()
                        .next()
                        .is_some_and(|c| !c.as_os_str().as_encoded_bytes().starts_with(b"."));
                    if plain && entry.is_dir() {
                        push(&mut tools.directories, entry);
                        push(&mut tools.path, entry);
                    }
                    continue;
                };
                for need in needs.iter().map(|need| home.join(need)).filter(|need| need.is_dir()) {
                    push(&mut tools.directories, &need);
                }
                push(&mut tools.path, entry);
            } else if !home.starts_with(entry) && entry.is_dir() && !is_shared(entry) {
                // /opt/node/bin needs /opt/node/lib; a lone directory shows itself.
                let root = if entry.ends_with("bin") {
                    entry.parent().filter(|p| !is_shared(p) && !home.starts_with(p))
                } else {
                    None
                };
                push(&mut tools.directories, root.unwrap_or(entry));
                push(&mut tools.path, entry);
            }
        }
        for directory in named.iter().filter(|d| d.is_absolute() && d.is_dir() && !home.starts_with(d)) {
            push(&mut tools.directories, directory);
        }
        for system in SYSTEM {
            push(&mut tools.path, Path::new(system));
        }
        tools.directories.retain(|d| !d.starts_with("/usr") || d.starts_with("/usr/home"));
        tools
    }

    /// The text of PATH inside.
    pub fn path_variable(&self) -> String {
        self.path.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>().join(":")
    }
}

/// Directories that hold many people's or everything's files.
fn is_shared(dir: &Path) -> bool {
    const SHARED: [&str; 12] =
        ["/", "/home", "/root", "/opt", "/srv", "/var", "/etc", "/tmp", "/run", "/mnt", "/media", "/dev"];
    SHARED.iter().any(|shared| dir == Path::new(shared))
        || ["/proc", "/sys", "/dev", "/run", "/etc", "/tmp", "/var", "/mnt", "/media"]
            .iter()
            .any(|shared| dir.starts_with(shared))
}

fn push(list: &mut Vec<PathBuf>, path: &Path) {
    if !list.iter().any(|known| known == path) {
        list.push(path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn shows_tools_and_nothing_else() {
        let dir = std::env::current_dir()
            .unwrap()
            .join("../../target-tools-test")
            .join(std::process::id().to_string());
        let home = dir.join("home");
        for made in [".cargo/bin", ".rustup/toolchains", ".ssh", "bin", ".config/x/bin", ".pyenv/shims"] {
            fs::create_dir_all(home.join(made)).unwrap();
        }
        let at = |inside: &str| home.join(inside).display().to_string();
        let path = [
            &at(".cargo/bin"),
            &at(".pyenv/shims"),
            &at("bin"),
            &at(""),
            &at(".config/x/bin"),
            "relative",
            "/usr/bin",
            "/tmp",
            "/",
        ]
        .map(ToString::to_string)
        .join(":");
        let tools = Tools::find(&path, &home, &[home.clone(), "/".into()]);
        fs::remove_dir_all(dir.parent().unwrap()).unwrap();
        assert_eq!(
            tools.directories,
            [".cargo/bin", ".rustup", ".pyenv", "bin"].map(|d| home.join(d)),
            "home itself, hidden directories and shared ones stay out"
        );
        assert_eq!(tools.path.iter().filter(|p| p.starts_with(&home)).count(), 3);
    }
}
