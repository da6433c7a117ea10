//! The part of the file system that every environment has: an allow-list of the host's system directories, read-only,
//! and a fresh, minimal `/etc`, `/tmp`, `/run` and home.
//!
//! Never bound: `/`, the user's home, `/run`, `/tmp`, `/var`, `/root`, `/etc` as a whole. Called by the environment
//! crate, which appends the workspace's mounts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::spec::{Identity, Mount};

/// What differs between environments.
#[derive(Clone, Debug)]
pub struct SystemOptions {
    /// Who runs inside.
    pub identity: Identity,
    /// Home directory inside.
    pub home: PathBuf,
    /// Host directory to be the home; memory-backed if none.
    pub home_source: Option<PathBuf>,
    /// Host name inside.
    pub hostname: String,
    /// Host directories shown read-only at their own path (tool chains). Missing ones are left out.
    pub tool_dirs: Vec<PathBuf>,
    /// Bytes in `/tmp`.
    pub tmp_bytes: u64,
    /// Lines for `/etc/hosts`: address and names (services under their names).
    pub hosts: Vec<String>,
}

/// Top-level directories: bound where the host has a directory, linked where it has a link.
const TOP: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];

/// What programs read from `/etc` and what holds no secret: loader, alternatives, certificates, time, tool chains.
const ETC: &[&str] = &[
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "pki/tls",
    "pki/ca-trust",
    "pki/java",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "protocols",
    "services",
    "mime.types",
    "magic",
    "terminfo",
    "inputrc",
    "debian_version",
    "os-release",
    "lsb-release",
    "profile",
    "profile.d",
    "bash.bashrc",
    "fonts",
    "maven",
    "perl",
    "python3",
    "postgresql-common",
    "login.defs",
    "shells",
    "timezone",
    "npmrc",
    "R",
    "emacs",
    "vim",
];

/// Mounts for one environment, in order. `/proc` and `/dev` come by themselves.
pub fn default_mounts(options: &SystemOptions) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = TOP.iter().filter_map(|path| host_path(Path::new(path))).collect();
    mounts.extend(etc(options));
    for target in ["/var/log", "/var/lib", "/var/cache", "/opt", "/srv", "/mnt", "/media", "/sys"] {
        mounts.push(dir(target, 0o755));
    }
    mounts.push(tmpfs("/run", 16 << 20, 0o755));
    mounts.push(dir("/run/lock", 0o1777));
    mounts.push(tmpfs("/tmp", options.tmp_bytes, 0o1777));
    mounts.push(link("/var/tmp", "/tmp"));
    mounts.push(link("/var/run", "/run"));
    mounts.push(match &options.home_source {
        Some(source) => Mount::Bind {
            source: source.clone(),
            target: options.home.clone(),
            writable: true,
            optional: false,
        },
        None => Mount::Tmpfs { target: options.home.clone(), bytes: options.tmp_bytes, mode: 0o750 },
    });
    for tool in &options.tool_dirs {
        mounts.push(read_only(tool, tool));
    }
    mounts
}

fn host_path(path: &Path) -> Option<Mount> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => {
            Some(Mount::Symlink { target: path.to_owned(), to: fs::read_link(path).ok()? })
        }
        Ok(meta) if meta.is_dir() => Some(read_only(path, path)),
        _ => None,
    }
}

fn read_only(source: &Path, target: &Path) -> Mount {
    Mount::Bind { source: source.to_owned(), target: target.to_owned(), writable: false, optional: true }
}

fn dir(target: &str, mode: u32) -> Mount {
    Mount::Dir { target: target.into(), mode }
}

fn tmpfs(target: &str, bytes: u64, mode: u32) -> Mount {
    Mount::Tmpfs { target: target.into(), bytes, mode }
}

fn link(target: &str, to: &str) -> Mount {
    Mount::Symlink { target: target.into(), to: to.into() }
}

fn etc(options: &SystemOptions) -> Vec<Mount> {
    let etc = Path::new("/etc");
    let mut mounts = vec![dir("/etc", 0o755)];
    let java = fs::read_dir(etc).into_iter().flatten().flatten().map(|e| e.file_name());
    let java = java.filter(|name| name.to_string_lossy().starts_with("java"));
    let names = ETC.iter().map(PathBuf::from).chain(java.map(PathBuf::from));
    for path in names.map(|name| etc.join(name)) {
        // A link into a bound directory stays a link; one that leads elsewhere is followed by the bind.
        match fs::read_link(&path) {
            Ok(to) if into_usr(&path, &to) => mounts.push(Mount::Symlink { target: path, to }),
            _ if path.exists() => mounts.push(read_only(&path, &path)),
            _ => {}
        }
    }
    match fs::read_link("/etc/localtime") {
        Ok(to) => mounts.push(Mount::Symlink { target: "/etc/localtime".into(), to }),
        Err(_) => mounts.push(read_only(Path::new("/etc/localtime"), Path::new("/etc/localtime"))),
    }
    let Identity { uid, gid, name } = &options.identity;
    let (home, host) = (options.home.display(), &options.hostname);
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let mut hosts = format!("127.0.0.1 localhost {host}\n::1 localhost ip6-localhost\n");
    options.hosts.iter().for_each(|line| hosts.extend([line.as_str(), "\n"]));
    for (target, content) in [
        (
            "/etc/passwd",
            format!(
                "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n{name}:x:{uid}:{gid}:{name}:{home}:{shell}\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        ("/etc/group", format!("root:x:0:\n{name}:x:{gid}:\nnogroup:x:65534:\n")),
        ("/etc/hosts", hosts),
        ("/etc/hostname", format!("{host}\n")),
        ("/etc/resolv.conf", format!("nameserver {}\noptions timeout:1 attempts:1\n", crate::network::DNS)),
        ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n".to_owned()),
    ] {
        mounts.push(Mount::File { target: target.into(), content, mode: 0o644 });
    }
    mounts
}

fn into_usr(path: &Path, to: &Path) -> bool {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut at = PathBuf::new();
    for part in parent.join(to).components() {
        match part {
            std::path::Component::ParentDir => drop(at.pop()),
            part => at.push(part),
        }
    }
    at.starts_with("/usr")
}
