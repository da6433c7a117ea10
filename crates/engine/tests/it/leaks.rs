//! What must not be left when all tasks are thrown away and the daemon is stopped: processes, mounts, control groups,
//! sockets, directories, refs.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::stage::{Stage, pid_in};

/// How long the kernel may take to finish what was asked of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What there was before.
pub struct Seen {
    /// Names in control groups: environments, and the commits that layers are named after.
    names: BTreeSet<String>,
    /// Process and when it started.
    processes: BTreeSet<(i32, String)>,
}

impl Seen {
    pub fn of(stage: &Stage) -> Self {
        let mut names: BTreeSet<String> = stage
            .entries()
            .iter()
            .filter_map(|e| e["event"]["environment"].as_str().map(str::to_owned))
            .collect();
        let commits = stage.git(&["rev-list", "--all"]);
        names.extend(commits.lines().map(|commit| format!("base-{}", &commit[..30])));
        let mut processes: BTreeSet<i32> = stage
            .sandboxes()
            .iter()
            .filter_map(|dir| pid_in(dir))
            .map(|pid| pid.as_raw_nonzero().get())
            .collect();
        let all = numbers();
        loop {
            let children: Vec<i32> = all
                .iter()
                .copied()
                .filter(|pid| !processes.contains(pid))
                .filter(|pid| stat(*pid).is_some_and(|(parent, _)| processes.contains(&parent)))
                .collect();
            if children.is_empty() {
                break;
            }
            processes.extend(children);
        }
        let processes = processes.into_iter().filter_map(|pid| Some((pid, stat(pid)?.1))).collect();
        Self { names, processes }
    }

    /// What is left of it, or else belongs to the stage.
    pub fn left(&self, stage: &Stage) -> Vec<String> {
        let from = Instant::now();
        loop {
            let left = self.look(stage);
            if left.is_empty() || from.elapsed() > PATIENCE {
                return left;
            }
            std::thread::yield_now();
        }
    }

    fn look(&self, stage: &Stage) -> Vec<String> {
        let mut left = Vec::new();
        for (pid, started) in &self.processes {
            if stat(*pid).is_some_and(|(_, now)| now == *started) {
                left.push(format!("process {pid} {}", command_line(*pid)));
            }
        }
        left.extend(processes_in(stage.path()));
        let mut groups = Vec::new();
        walk(Path::new("/sys/fs/cgroup"), 6, &mut groups);
        for group in groups {
            let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if self.names.iter().any(|n| name.contains(n)) {
                left.push(format!("control group {}", group.display()));
            }
        }
        let state = stage.state();
        let mut dirs = vec![state.join("environments"), state.join("trash")];
        for project in fs::read_dir(state.join("projects")).into_iter().flatten().flatten() {
            dirs.push(project.path().join("building"));
        }
        for dir in dirs {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                left.push(format!("directory {}", entry.path().display()));
            }
        }
        if stage.socket().exists() {
            left.push("socket of the daemon".to_owned());
        }
        let refs = stage.git(&["for-each-ref", "--format=%(refname)"]);
        left.extend(refs.lines().filter(|r| r.contains("offshoot")).map(|r| format!("ref {r}")));
        left
    }
}

/// Processes that hold something below `dir`, or see it mounted. Root sees all; somebody ordinary only what is his and
/// may be looked at.
fn processes_in(dir: &Path) -> Vec<String> {
    let (mut left, mut spaces) = (Vec::new(), BTreeSet::new());
    let own = i32::try_from(std::process::id()).unwrap();
    for pid in numbers() {
        if pid == own || stat(pid).is_none_or(|(parent, _)| parent == own) {
            continue;
        }
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let mut links = vec![proc.join("cwd"), proc.join("root"), proc.join("exe")];
        links.extend(fs::read_dir(proc.join("fd")).into_iter().flatten().flatten().map(|e| e.path()));
        for link in links {
            if let Ok(target) = fs::read_link(&link)
                && target.starts_with(dir)
            {
                left.push(format!(
                    "process {pid} {} by {} at {}",
                    command_line(pid),
                    link.display(),
                    target.display()
                ));
            }
        }
        let space = fs::metadata(proc.join("ns/mnt")).map(|m| m.ino()).unwrap_or_default();
        if spaces.insert(space)
            && let Ok(mounts) = fs::read_to_string(proc.join("mountinfo"))
        {
            let dir = dir.to_string_lossy();
            let found = mounts.lines().filter(|line| line.contains(&*dir));
            // The tests' own mounts (a small disk) are theirs to take away.
            let found = found.filter(|line| line.split(' ').nth(4) != Some(&dir));
            left.extend(found.map(|line| format!("mount seen by {pid}: {line}")));
        }
    }
    left
}

fn numbers() -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Parent and start of a process; none if it is dead.
fn stat(pid: i32) -> Option<(i32, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = text.rsplit_once(") ")?.1.split(' ').collect();
    (fields[0] != "Z").then(|| (fields[1].parse().unwrap_or_default(), fields[19].to_owned()))
}

fn command_line(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

fn walk(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            if depth > 0 {
                walk(&entry.path(), depth - 1, found);
            }
            found.push(entry.path());
        }
    }
}
