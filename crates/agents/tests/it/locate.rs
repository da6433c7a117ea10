//! Installations of the kinds there are, made in a directory.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use offshoot_agents::{LocateError, Located, locate};

struct Machine {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("home/me")).unwrap();
        Self { _dir: dir, root }
    }

    fn home(&self, path: &str) -> PathBuf {
        self.root.join("home/me").join(path)
    }

    fn script(&self, path: &str, text: &str) -> PathBuf {
        let file = self.home(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    fn link(&self, path: &str, to: impl AsRef<Path>) {
        let file = self.home(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        symlink(to, file).unwrap();
    }

    fn locate(&self, name: &str, dirs: &[&str]) -> Result<Located, LocateError> {
        let path: OsString = std::env::join_paths(dirs.iter().map(|dir| self.home(dir))).unwrap();
        locate(name, &path, &self.home(""))
    }
}

#[test]
fn a_node_package_with_node_from_nvm() {
    let machine = Machine::new();
    let node = machine.script(".nvm/versions/node/v22/bin/node", "\x7fELF");
    let real =
        machine.script(".nvm/versions/node/v22/lib/node_modules/@x/agent/cli.js", "#!/usr/bin/env node\n");
    machine.link(".nvm/versions/node/v22/bin/agent", "../lib/node_modules/@x/agent/cli.js");
    let located = machine.locate("agent", &[".nvm/versions/node/v22/bin"]).unwrap();
    assert_eq!(located.program, real);
    // The installation of node contains the packages.
    assert_eq!(located.binds, [machine.home(".nvm/versions/node/v22")]);
    assert_eq!(located.path_dirs, [node.parent().unwrap()]);
}

#[test]
fn a_native_binary_in_a_directory_of_settings_is_shown_alone() {
    let machine = Machine::new();
    let real = machine.script(".local/share/claude/versions/2.1", "\x7fELF");
    machine.link(".local/bin/claude", machine.home(".local/share/claude/versions/2.1"));
    let located = machine.locate("claude", &[".local/bin"]).unwrap();
    assert_eq!((located.program, located.binds), (real.clone(), vec![real]));
    assert_eq!(located.path_dirs, Vec::<PathBuf>::new());
}

#[test]
fn an_interpreter_in_the_home_itself_does_not_show_the_home() {
    let machine = Machine::new();
    let node = machine.script("bin/node", "\x7fELF");
    let agent = machine.script("tools/agent", "#!/usr/bin/env -S node --flag\n");
    let located = machine.locate("agent", &["tools", "bin"]).unwrap();
    assert_eq!(located.binds, [node, agent]);
}

#[test]
fn a_python_environment_with_its_base() {
    let machine = Machine::new();
    machine.script(".pyenv/versions/3.11/bin/python3.11", "\x7fELF");
    let base = machine.home(".pyenv/versions/3.11/bin");
    let venv = machine.home("venvs/aider");
    let shebang = format!("#!{}\n", venv.join("bin/python").display());
    let script = machine.script("venvs/aider/bin/aider", &shebang);
    std::fs::write(venv.join("pyvenv.cfg"), format!("home = {}\n", base.display())).unwrap();
    machine.link("venvs/aider/bin/python", base.join("python3.11"));
    machine.link(".local/bin/aider", &script);
    let located = machine.locate("aider", &[".local/bin"]).unwrap();
    assert_eq!(located.program, script);
    assert_eq!(located.binds, [machine.home(".pyenv/versions/3.11"), venv]);
}

#[test]
fn a_pyenv_shim_stands_for_the_global_version() {
    let machine = Machine::new();
    machine.script(".pyenv/shims/tool", "#!/usr/bin/env bash\nexec \"/x/pyenv\" exec \"$program\" \"$@\"\n");
    std::fs::write(machine.home(".pyenv/version"), "3.11\n").unwrap();
    machine.script(".pyenv/versions/3.12/bin/tool", "\x7fELF");
    let real = machine.script(".pyenv/versions/3.11/bin/tool", "\x7fELF");
    assert_eq!(machine.locate("tool", &[".pyenv/shims"]).unwrap().program, real);
    machine.script("asdf/shims/other", "#!/bin/sh\nexec asdf exec other \"$@\"\n");
    assert!(matches!(machine.locate("other", &["asdf/shims"]), Err(LocateError::Shim { tool: "asdf", .. })));
}

#[test]
fn nothing_comes_out_of_directories_of_credentials() {
    let machine = Machine::new();
    machine.script(".ssh/agent", "\x7fELF");
    assert!(matches!(machine.locate("agent", &[".ssh"]), Err(LocateError::Forbidden { .. })));
    assert!(matches!(machine.locate("gone", &["bin"]), Err(LocateError::NotFound { .. })));
    let tool = machine.script("loop/tool", "");
    std::fs::write(&tool, format!("#!{}\n", tool.display())).unwrap();
    assert!(matches!(machine.locate("tool", &["loop"]), Err(LocateError::TooDeep { .. })));
}

#[test]
fn what_belongs_to_the_system_needs_no_bind() {
    let located = locate("env", std::ffi::OsStr::new("/usr/bin:/bin"), Path::new("/home/nobody")).unwrap();
    assert_eq!(located.binds, Vec::<PathBuf>::new());
}
