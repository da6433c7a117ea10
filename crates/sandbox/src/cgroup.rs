//! Control groups: limits that the kernel holds for all processes of an environment together.
//!
//! Version 2 where a subtree was delegated, else version 1 where its directories may be made (root), else none, and
//! then limits are soft. Groups are made below the group the shim itself is in, so that limits which the user or the
//! system set on the daemon keep holding; no existing group or mount is changed. Called by the shim; what was made is
//! written to the environment's `cgroup` file for [`remove_listed`].

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags};

use crate::{
    exec_group::Group,
    message::Stats,
    spec::{SandboxSpec, Weakness},
};

/// How long a group may take to freeze, or to be empty after everything in it was killed.
const PATIENCE: Duration = Duration::from_secs(2);
/// Leaf that a daemon with a delegated subtree moves itself to; environments are its siblings.
const DAEMON_LEAF: &str = "offshoot-daemon";
/// Period of the CPU limit, microseconds (the kernel's default).
const PERIOD: u64 = 100_000;

/// The groups of one environment.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    unified: Option<PathBuf>,
    /// Below `unified`, where its processes are: a group that limits other groups must not have any itself.
    inside: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    cpu: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
    freezer: Option<PathBuf>,
    /// Processes killed for memory: seen here, and told of those in groups below.
    kills: u64,
    kills_below: u64,
    refused: u64,
}

/// Where this process is: (controllers, mount point, path), version 2 with no controllers.
fn hierarchies() -> Vec<(Vec<String>, PathBuf)> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let controllers: Vec<String> =
            controllers.split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
        let mount = mounts.lines().find_map(|mount| {
            let fields: Vec<_> = mount.split(' ').collect();
            let [_, place, kind, options, ..] = fields.as_slice() else { return None };
            let fits = match controllers.first() {
                None => *kind == "cgroup2",
                Some(first) => *kind == "cgroup" && options.split(',').any(|o| o == first),
            };
            fits.then(|| PathBuf::from(place))
        });
        if let Some(mount) = mount {
            found.push((controllers, mount.join(path.trim_start_matches('/'))));
        }
    }
    found
}

pub(crate) fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

pub(crate) fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

pub(crate) fn field(path: &Path, name: &str) -> Option<u64> {
    let text = read(path)?;
    text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok())
}

fn made(path: &Path) -> bool {
    // Another environment may remove the shared parent just after it was made; then once more.
    (0..8).any(|_| {
        fs::create_dir_all(path.parent().unwrap_or(path)).and_then(|()| fs::create_dir(path)).is_ok()
    })
}

impl Cgroup {
    /// Makes what can be made. Never an error: what is missing makes limits soft, and is said so.
    pub fn create(spec: &SandboxSpec) -> Self {
        let name = format!("{}-{}", spec.id, std::process::id());
        let hierarchies = hierarchies();
        let mut group = hierarchies
            .iter()
            .find(|(controllers, _)| controllers.is_empty())
            .and_then(|(_, own)| Self::version_2(own, &name))
            .unwrap_or_else(|| Self::version_1(&hierarchies, &name));
        let list: Vec<_> = group.paths().iter().map(|p| p.display().to_string()).collect();
        if !list.is_empty() && fs::write("cgroup", list.join("\n")).is_err() {
            group.remove();
            return Self::default();
        }
        group.limit(spec);
        group
    }

    fn version_2(own: &Path, name: &str) -> Option<Self> {
        let parent = if own.ends_with(DAEMON_LEAF) { own.parent()? } else { own };
        let control = parent.join("cgroup.subtree_control");
        let enabled = || read(&control).unwrap_or_default();
        let needed = |text: &str| ["memory", "pids"].iter().all(|c| text.split_whitespace().any(|w| w == *c));
        if !needed(&enabled()) {
            let _ = fs::write(&control, "+memory +pids +cpu");
        }
        if !needed(&enabled()) {
            return None;
        }
        let path = parent.join(format!("offshoot-{name}"));
        fs::create_dir(&path).ok()?;
        let inside = path.join("main");
        if fs::create_dir(&inside).is_err() {
            let _ = fs::remove_dir(&path);
            return None;
        }
        let some = || Some(path.clone());
        let cpu = enabled().split_whitespace().any(|w| w == "cpu").then(|| path.clone());
        Some(Self {
            unified: some(),
            inside: Some(inside),
            memory: some(),
            pids: some(),
            cpu,
            freezer: some(),
            ..Self::default()
        })
    }

    fn version_1(hierarchies: &[(Vec<String>, PathBuf)], name: &str) -> Self {
        let make = |controller: &str| {
            let (_, own) = hierarchies.iter().find(|(c, _)| c.iter().any(|c| c == controller))?;
            let path = own.join("offshoot").join(name);
            (path.is_dir() || made(&path)).then_some(path)
        };
        Self {
            memory: make("memory"),
            pids: make("pids"),
            cpu: make("cpu"),
            cpuacct: make("cpuacct"),
            freezer: make("freezer"),
            ..Self::default()
        }
    }

    fn paths(&self) -> Vec<&PathBuf> {
        let mut all: Vec<_> = [&self.memory, &self.pids, &self.cpu, &self.cpuacct, &self.freezer]
            .into_iter()
            .flatten()
            .collect();
        all.dedup();
        all
    }

    fn limit(&mut self, spec: &SandboxSpec) {
        let limits = &spec.limits;
        let v2 = self.unified.is_some();
        let put = |path: &Path, file: &str, value: String| fs::write(path.join(file), value).is_ok();
        if let Some(path) = &self.memory {
            let bytes = limits.memory_bytes;
            let held = spec.weak(Weakness::MemoryLimit)
                || put(path, if v2 { "memory.max" } else { "memory.limit_in_bytes" }, bytes.to_string());
            // Without accounting for swap these files do not exist.
            if v2 {
                put(path, "memory.swap.max", "0".into());
            } else if !spec.weak(Weakness::MemoryLimit) {
                put(path, "memory.memsw.limit_in_bytes", bytes.to_string());
            }
            if !held {
                self.memory = None;
            }
        }
        if let Some(path) = &self.pids
            && !spec.weak(Weakness::ProcessLimit)
            // One more for init.
            && !put(path, "pids.max", (limits.processes + 1).to_string())
        {
            self.pids = None;
        }
        if let (Some(path), Some(percent)) = (&self.cpu, limits.cpu_percent) {
            let quota = PERIOD * u64::from(percent) / 100;
            let done = if v2 {
                put(path, "cpu.max", format!("{quota} {PERIOD}"))
            } else {
                put(path, "cpu.cfs_quota_us", quota.to_string())
            };
            if !done {
                self.cpu = None;
            }
        }
    }

    /// Whether the kernel holds the memory limit.
    pub fn holds_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// The directory to start a process in (version 2).
    pub fn start_in(&self) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(self.inside.as_ref()?, flags, Mode::empty()).ok()
    }

    /// A group for one executed process, if memory is held by groups at all.
    pub fn group(&self, exec: &str, limit: Option<u64>) -> Option<Group> {
        let parent = self.memory.as_ref()?;
        if self.unified.is_some() {
            fs::write(parent.join("cgroup.subtree_control"), "+memory").ok()?;
        }
        Group::create(parent.join(format!("exec-{exec}")), self.unified.is_some(), limit)
    }

    /// Moves a process in.
    pub fn enter(&self, pid: i32) -> io::Result<()> {
        let places = match &self.inside {
            Some(inside) => vec![inside],
            None => self.paths(),
        };
        for path in places {
            fs::write(path.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Whether [`Cgroup::freeze`] works.
    pub fn freezes(&self) -> bool {
        self.freezer.is_some()
    }

    /// Stops or resumes everything, and waits until that is so.
    pub fn freeze(&self, freeze: bool) -> io::Result<()> {
        let path = self.freezer.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let done: Box<dyn Fn() -> bool> = if self.unified.is_some() {
            fs::write(path.join("cgroup.freeze"), if freeze { "1" } else { "0" })?;
            Box::new(|| field(&path.join("cgroup.events"), "frozen ") == Some(u64::from(freeze)))
        } else {
            let state = if freeze { "FROZEN" } else { "THAWED" };
            fs::write(path.join("freezer.state"), state)?;
            Box::new(move || read(&path.join("freezer.state")).is_some_and(|s| s.trim() == state))
        };
        if wait_until(done) { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    /// Usage, as far as groups tell.
    pub fn stats(&self) -> Stats {
        let v2 = self.unified.is_some();
        let at = |path: &Option<PathBuf>, file: &str| path.as_ref().and_then(|p| number(&p.join(file)));
        let cpu_us = if v2 {
            self.cpu.as_ref().and_then(|p| field(&p.join("cpu.stat"), "usage_usec "))
        } else {
            at(&self.cpuacct, "cpuacct.usage").map(|ns| ns / 1000)
        };
        Stats {
            memory_bytes: at(&self.memory, if v2 { "memory.current" } else { "memory.usage_in_bytes" })
                .unwrap_or(0),
            processes: at(&self.pids, "pids.current").unwrap_or(0).saturating_sub(1),
            cpu_us: cpu_us.unwrap_or(0),
            hard: self.hard(),
            trees: BTreeMap::new(),
        }
    }

    /// The limits that the kernel holds.
    pub fn hard(&self) -> Vec<String> {
        let named = [("memory", &self.memory), ("processes", &self.pids), ("cpu", &self.cpu)];
        named.into_iter().filter(|(_, path)| path.is_some()).map(|(name, _)| name.to_owned()).collect()
    }

    /// Limits that were met since the last call.
    pub fn exceeded(&mut self) -> Vec<String> {
        let mut what = Vec::new();
        let events = if self.unified.is_some() { "memory.events" } else { "memory.oom_control" };
        let kills = self.memory.as_ref().and_then(|p| field(&p.join(events), "oom_kill ")).unwrap_or(0);
        let kills = kills.saturating_sub(self.kills_below);
        if kills > self.kills {
            what.push(format!("memory: the kernel killed {} processes", kills - self.kills));
            self.kills = kills;
        }
        let refused = self.pids.as_ref().and_then(|p| field(&p.join("pids.events"), "max ")).unwrap_or(0);
        if refused > self.refused {
            what.push(format!("processes: {} new ones were refused", refused - self.refused));
            self.refused = refused;
        }
        what
    }

    /// That this many of the killed have been told of by their own group. Version 1 does not count them here.
    pub fn told_below(&mut self, kills: u64) {
        self.kills_below += if self.unified.is_some() { kills } else { 0 };
    }

    /// Removes the groups; everything in them has ended, or ends now.
    pub fn remove(&mut self) {
        for path in self.paths() {
            remove_group(path);
        }
        let _ = fs::remove_file("cgroup");
        *self = Self::default();
    }
}

pub(crate) fn wait_until(done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > end {
            return false;
        }
        // Groups have no descriptor that tells this on version 1.
        std::thread::sleep(Duration::from_micros(500));
    }
    true
}

fn below(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_group(path: &Path) {
    for group in below(path) {
        wait_until(|| fs::remove_dir(&group).is_ok() || !group.exists());
    }
    // Dead processes stay counted for a moment.
    wait_until(|| match fs::remove_dir(path) {
        Err(e) => e.kind() == io::ErrorKind::NotFound,
        Ok(()) => true,
    });
    if let Some(parent) = path.parent().filter(|p| p.ends_with("offshoot")) {
        let _ = fs::remove_dir(parent);
    }
}

/// Removes the groups listed in an environment's `cgroup` file, killing whoever is still in them.
pub(crate) fn remove_listed(file: &Path) {
    for path in read(file).unwrap_or_default().lines().map(Path::new) {
        // The file is ours, but a wrong one must not make us touch other groups.
        let own = path.components().any(|c| c.as_os_str().to_string_lossy().starts_with("offshoot"));
        if !own || !path.starts_with("/sys/fs/cgroup") {
            continue;
        }
        let _ = fs::write(path.join("freezer.state"), "THAWED");
        let _ = fs::write(path.join("cgroup.kill"), "1");
        for group in below(path).iter().map(PathBuf::as_path).chain([path]) {
            for pid in read(&group.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
        remove_group(path);
    }
    let _ = fs::remove_file(file);
}

/// Prepares a delegated version 2 subtree: moves the calling daemon (and whoever shares its group) to a leaf and
/// switches the controllers on for environments beside it. Does nothing where there is no such subtree.
pub fn delegate() -> io::Result<bool> {
    let Some((_, own)) = hierarchies().into_iter().find(|(controllers, _)| controllers.is_empty()) else {
        return Ok(false);
    };
    let offered = read(&own.join("cgroup.controllers")).unwrap_or_default();
    if own.ends_with(DAEMON_LEAF)
        || !["memory", "pids"].iter().all(|c| offered.split_whitespace().any(|w| w == *c))
    {
        return Ok(own.ends_with(DAEMON_LEAF));
    }
    let leaf = own.join(DAEMON_LEAF);
    match fs::create_dir(&leaf) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Ok(false),
        _ => {}
    }
    for pid in read(&own.join("cgroup.procs")).unwrap_or_default().lines() {
        fs::write(leaf.join("cgroup.procs"), pid)?;
    }
    fs::write(own.join("cgroup.subtree_control"), "+memory +pids")?;
    let _ = fs::write(own.join("cgroup.subtree_control"), "+cpu");
    Ok(true)
}

/// The limits that groups made from here could hold. Leaves nothing behind.
pub(crate) fn available() -> Vec<String> {
    let hierarchies = hierarchies();
    let name = format!("doctor-{}", std::process::id());
    let unified = hierarchies.iter().find(|(controllers, _)| controllers.is_empty());
    let group = unified
        .and_then(|(_, own)| Cgroup::version_2(own, &name))
        .unwrap_or_else(|| Cgroup::version_1(&hierarchies, &name));
    let hard = group.hard();
    for path in group.paths() {
        remove_group(path);
    }
    hard
}
