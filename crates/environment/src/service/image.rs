//! How an image is run as a service: what it wants (its configuration is a stranger's word), what the project says instead,
//! and the user that its files are for.
//!
//! Inside there is one user, whatever number it is shown as. Official images start as root only to become another user;
//! started as that one they go the direct way, so that is what is done.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
};

use offshoot_core::service::{Command, Image as Name, Preset, Service};
use offshoot_image::{Image, ImageConfig, Images, Progress, Reference};
use offshoot_sandbox::ExecRoot;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::{
    plan::{Place, PlanError},
    probe::Probe,
    recipe::{Recipe, SIGINT, SIGTERM, loader, usual_probe},
};

/// Longest `/etc/passwd` that is read out of an image: a few thousand users.
const PASSWD: u64 = 256 << 10;
/// Most ports and volumes of an image that are looked at.
const ITEMS: usize = 64;

/// Gets the image, and works out how it is run.
pub(super) async fn of_image(
    at: &Place<'_>,
    name: &Name,
    repository: &Path,
    images: &Images,
    progress: Progress<'_>,
) -> Result<Recipe, PlanError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| PlanError::Image {
        service: at.service.name.to_string(),
        source,
    };
    let reference: Reference = name.to_string().parse().map_err(|e| failed(Box::new(e)))?;
    let reference = reference.below(repository);
    let image = images.get(&reference, progress).await.map_err(|e| failed(Box::new(e)))?;
    Ok(recipe(at, &image))
}

fn recipe(at: &Place<'_>, image: &Image) -> Recipe {
    let (service, config) = (at.service, &image.config);
    let user = User::of(service, config, &image.layers);
    let root = at.dir.join("root");
    let argv = command(service, config);
    let ports = match service.listens() {
        written if !written.is_empty() => written.into_iter().collect(),
        _ => config.exposed_ports.iter().take(ITEMS).filter_map(|port| exposed(port)).collect::<Vec<_>>(),
    };
    let preset = service.preset;
    let probe = match (preset, &config.healthcheck) {
        (Some(preset), _) => usual_probe(preset, service),
        (None, Some(check)) if check.test.first().is_some_and(|kind| kind == "CMD") => {
            Probe::Command(check.test.iter().skip(1).cloned().collect())
        }
        (None, Some(check)) if check.test.first().is_some_and(|kind| kind == "CMD-SHELL") => {
            let line = check.test.get(1).cloned().unwrap_or_default();
            Probe::Command(vec!["/bin/sh".to_owned(), "-c".to_owned(), line])
        }
        _ if ports.is_empty() => Probe::Started,
        _ => Probe::Port,
    };
    let mut data: Vec<String> =
        config.volumes.iter().take(ITEMS).filter_map(|volume| inside(volume)).collect();
    data.sort();
    data.dedup();
    Recipe {
        argv,
        env: variables(service, config, &user),
        cwd: service.working_dir.clone().or(Some(config.working_dir.clone())).filter(|dir| !dir.is_empty()),
        ports,
        probe,
        stop: match preset {
            Some(Preset::Postgres) => SIGINT,
            _ => config.stop_signal.as_deref().and_then(signal).unwrap_or(SIGTERM),
        },
        load: preset.and_then(|preset| loader(preset, service, &at.address.to_string(), "")),
        data: data.iter().map(|dir| root.join(dir.trim_start_matches('/'))).collect(),
        root: Some(ExecRoot { path: root, uid: user.uid, gid: user.gid }),
        root_layers: image.layers.clone(),
        image: Some(image.digest.to_string()),
        fingerprint: image.digest.to_string(),
    }
}

fn words(command: &Command) -> Vec<String> {
    match command {
        Command::List(words) => words.clone(),
        Command::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
    }
}

fn command(service: &Service, config: &ImageConfig) -> Vec<String> {
    let entry = service.entrypoint.as_ref().map_or_else(|| config.entrypoint.clone(), words);
    let mut arguments = match (&service.command, &service.entrypoint) {
        (Some(command), _) => words(command),
        // The image's arguments are for the image's entry point.
        (None, Some(_)) => Vec::new(),
        (None, None) => {
            let mut arguments = config.cmd.clone();
            if service.preset == Some(Preset::Postgres) {
                // As with this machine's own: an environment's database need not survive a power failure.
                for setting in ["fsync=off", "synchronous_commit=off", "full_page_writes=off"] {
                    arguments.extend(["-c".to_owned(), setting.to_owned()]);
                }
            }
            arguments
        }
    };
    let mut argv = entry;
    argv.append(&mut arguments);
    argv
}

fn variables(service: &Service, config: &ImageConfig, user: &User) -> BTreeMap<String, String> {
    let own = config.env.iter().filter_map(|pair| pair.split_once('='));
    let mut env: BTreeMap<String, String> = own.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    env.entry("PATH".to_owned())
        .or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    env.entry("HOME".to_owned()).or_insert_with(|| user.home.clone());
    env.insert("HOSTNAME".to_owned(), service.name.to_string());
    if service.preset == Some(Preset::Postgres) {
        env.entry("POSTGRES_INITDB_ARGS".to_owned())
            .or_insert_with(|| "--no-sync --wal-segsize=1".to_owned());
    }
    env.extend(service.environment());
    env
}

/// `5432/tcp` or `5432`.
fn exposed(port: &str) -> Option<u16> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    (protocol == "tcp").then(|| number.parse().ok())?
}

/// An absolute path without `..`, in one spelling; never the root itself.
fn inside(path: &str) -> Option<String> {
    let mut clean = String::new();
    for part in Path::new(path).components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                clean.push('/');
                clean.push_str(name.to_str()?);
            }
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (path.starts_with('/') && !clean.is_empty()).then_some(clean)
}

/// Signals by name, as in `signal(7)`.
fn signal(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let named = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("TERM", 15),
        ("WINCH", 28),
    ];
    let number = named.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    number.or_else(|| name.parse().ok().filter(|number| (1..=64).contains(number)))
}

/// Whom a service sees itself as.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    home: String,
}

impl User {
    fn of(service: &Service, config: &ImageConfig, layers: &[PathBuf]) -> Self {
        let passwd = passwd(layers);
        let written = service.user.as_deref().unwrap_or(&config.user);
        let (user, group) = written.split_once(':').unwrap_or((written, ""));
        let mut found = Self::named(user, &passwd);
        if service.user.is_none() && found.uid == 0 {
            found = intended(service).iter().find_map(|name| entry(name, &passwd)).unwrap_or(found);
        }
        if let Ok(gid) = group.parse() {
            found.gid = gid;
        }
        found
    }

    fn named(user: &str, passwd: &str) -> Self {
        if let Some(found) = entry(user, passwd) {
            return found;
        }
        let uid = user.parse().unwrap_or(0);
        let by_number = passwd.lines().find_map(|line| line_entry(line).filter(|(_, user)| user.uid == uid));
        by_number.map_or_else(|| Self { uid, gid: uid, home: "/".to_owned() }, |(_, user)| user)
    }
}

/// The users that an image started as root means to become: named like the image, or like what it serves.
fn intended(service: &Service) -> Vec<String> {
    let image = match &service.source {
        Some(offshoot_core::service::Source::Image(image)) => image.repository_name(),
        _ => None,
    };
    let names = image.into_iter().chain(service.preset.map(|preset| preset.facts().name));
    let mut users = Vec::new();
    for name in names {
        users.push(name.to_owned());
        let other = match name {
            "mariadb" => "mysql",
            "memcached" => "memcache",
            "mongo" => "mongodb",
            "postgis" | "pgvector" => "postgres",
            _ => continue,
        };
        users.push(other.to_owned());
    }
    users
}

fn entry(name: &str, passwd: &str) -> Option<User> {
    passwd.lines().find_map(|line| line_entry(line).filter(|(known, _)| *known == name)).map(|(_, user)| user)
}

fn line_entry(line: &str) -> Option<(&str, User)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    let home = fields.nth(1).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Some((name, User { uid, gid, home }))
}

/// The image's `/etc/passwd`, out of the topmost layer that has one. Never follows a link.
fn passwd(layers: &[PathBuf]) -> String {
    let mut text = String::new();
    for layer in layers {
        let Ok(dir) =
            openat2(CWD, layer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty())
        else {
            continue;
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        if let Ok(file) = openat2(&dir, "etc/passwd", flags, Mode::empty(), resolve) {
            let _ = File::from(file).take(PASSWD).read_to_string(&mut text);
            break;
        }
    }
    text
}

/// The directories of an image's layers that stand below one of its data directories, top first: what a volume of it
/// begins with. A link on the way could lead anywhere, so it ends the search in that layer.
pub(super) fn below(layers: &[PathBuf], path: &Path) -> Vec<PathBuf> {
    let real = |layer: &PathBuf| {
        let mut at = layer.clone();
        for part in path.components() {
            at.push(part);
            if !std::fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_dir()) {
                return None;
            }
        }
        Some(at)
    };
    layers.iter().filter_map(real).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_words_are_read_with_care() {
        for (text, want) in [
            ("/var/lib/db", Some("/var/lib/db")),
            ("/var//lib/./db/", Some("/var/lib/db")),
            ("/", None),
            ("", None),
            ("data", None),
            ("/a/../../etc", None),
        ] {
            assert_eq!(inside(text).as_deref(), want, "{text}");
        }
        assert_eq!(
            ["5432/tcp", "80", "53/udp", "x", "70000/tcp"].map(exposed),
            [Some(5432), Some(80), None, None, None]
        );
        assert_eq!(
            ["SIGINT", "15", "TERM", "SIGX", "99"].map(signal),
            [Some(2), Some(15), Some(15), None, None]
        );
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:998:,,,:/var/lib/postgresql:/bin/bash\nbad\n";
        let user = |text| User::named(text, passwd);
        assert_eq!((user("postgres").uid, user("postgres").gid), (999, 998));
        assert_eq!(user("999").home, "/var/lib/postgresql");
        assert_eq!((user("").uid, user("1234").uid, user("1234").gid), (0, 1234, 1234));
    }

    #[test]
    fn links_in_layers_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::create_dir_all(one.join("var/lib/db")).unwrap();
        std::fs::create_dir_all(two.join("var")).unwrap();
        std::os::unix::fs::symlink("/etc", two.join("var/lib")).unwrap();
        let found = below(&[one.clone(), two], Path::new("var/lib/db"));
        assert_eq!(found, [one.join("var/lib/db")]);
    }
}
