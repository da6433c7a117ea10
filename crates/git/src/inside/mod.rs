//! What runs git within a sandbox: scripts for its `sh`, and the reading of what they report.
//!
//! Building a script is pure; whoever has the sandbox runs it with the workspace as current directory, a clean
//! environment and the run's identity. Needs `sh`, git and the usual text tools (GNU or busybox) inside. A script's
//! report comes from a place where the agent rules: it is read within limits and believed in nothing that matters; what
//! counts is the bundle, which [`crate::import`] checks.

mod files;
pub mod monitor;
mod report;

pub use files::{objects_of, run_files, run_files_of, shown_files};
pub use report::{BadReport, Checkpointed, Embedded, EmbeddedKind, Finished};

use crate::{
    branch,
    oid::{ObjectFormat, Oid},
    repository::Person,
};

/// Where a store's [`objects_dir`](crate::store::Store::objects_dir) is mounted in a sandbox.
pub const OBJECTS: &str = "/run/offshoot/objects";

/// What the workspace's own repository is made of.
#[derive(Clone, Debug)]
pub struct Base {
    /// The commit whose files it has.
    pub commit: Oid,
    /// The branch that commit was taken from, to be found inside by the same name.
    pub branch: Option<String>,
    /// Where the store's objects are, seen from inside: [`OBJECTS`].
    pub objects: String,
    /// Who commits.
    pub person: Person,
    /// [`Store::shallow`](crate::store::Store::shallow).
    pub shallow: Vec<Oid>,
}

impl Base {
    fn args(&self) -> [String; 7] {
        let branch = self.branch.clone().filter(|name| {
            // The task's own branch must find room beside it.
            branch::check(name).is_ok() && name != branch::PREFIX.trim_end_matches('/')
        });
        [
            self.commit.format().as_str().into(),
            self.objects.clone(),
            self.commit.to_string(),
            branch.unwrap_or_default(),
            config_value(&self.person.name),
            config_value(&self.person.email),
            lines(&self.shallow),
        ]
    }
}

const PROLOGUE: &str = include_str!("prologue.sh");
const SKELETON: &str = include_str!("skeleton.sh");
const MONITORED: &str = include_str!("monitored.sh");
const SNAPSHOT: &str = include_str!("snapshot.sh");

fn script<const N: usize>(parts: [&str; N], args: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut argv = vec!["sh".to_owned(), "-c".to_owned(), parts.concat(), "offshoot".to_owned()];
    argv.extend(args);
    argv
}

fn lines(oids: &[Oid]) -> String {
    oids.iter().map(Oid::as_str).collect::<Vec<_>>().join("\n")
}

/// As a value in git's configuration file, in quotes.
fn config_value(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// In an empty workspace: a repository and the files of the base. HEAD is detached.
pub fn base_checkout(base: &Base) -> Vec<String> {
    script([PROLOGUE, SKELETON, MONITORED, include_str!("base_checkout.sh")], base.args())
}

/// In a workspace that stands on another base: the files of `base` instead; costs what differs.
pub fn delta_checkout(base: &Base) -> Vec<String> {
    let [_, _, commit, branch, _, _, shallow] = base.args();
    script([PROLOGUE, SKELETON, MONITORED, include_str!("delta_checkout.sh")], [commit, branch, shallow])
}

/// Variable that names the git directory of a worktree of the user's. Where the host sets it, every script here works on
/// that, with the user's own configuration, and leaves what is not the task's alone.
pub const GIT_DIR_VARIABLE: &str = "OFFSHOOT_GIT_DIR";

/// In a worktree of the user's without files: those of its commit, by the user's own filters. No hook runs.
pub fn worktree_checkout() -> Vec<String> {
    script([PROLOGUE, include_str!("worktree_checkout.sh")], [])
}

/// Records the workspace as it is, as a commit beside the run's branch: `refs/offshoot/checkpoints/<n>`. Answers with a
/// [`Checkpointed`] on standard output. Safe while the agent works.
pub fn checkpoint(n: u32, message: &str) -> Vec<String> {
    script([PROLOGUE, SNAPSHOT, include_str!("checkpoint.sh")], [n.to_string(), message.replace('\0', " ")])
}

/// The files of the workspace become those of a commit that is known inside; the branch, the index and what git ignores
/// stay. Doing it twice is doing it once.
pub fn restore(commit: &Oid) -> Vec<String> {
    script([PROLOGUE, SNAPSHOT, include_str!("restore.sh")], [commit.to_string()])
}

/// Commits what is not committed and brings the task's branch to where the work is. Answers with a [`Finished`].
/// `ended` says that no process of the agent is left: only then are stale locks and a half-done merge cleared.
pub fn finish(branch: &str, base: &Oid, person: &Person, message: &str, ended: bool) -> Vec<String> {
    let ended = if ended { "1" } else { "0" };
    let message = message.replace('\0', " ");
    let text = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let args =
        [branch.into(), base.to_string(), text(&person.name), text(&person.email), message, ended.into()];
    script([PROLOGUE, SNAPSHOT, include_str!("finish.sh")], args)
}

/// Makes a new repository over the files of a workspace whose own is destroyed (when [`finish`] fails); `finish` then
/// finds all files as changes against the base. What is left of the old one is put aside.
pub fn rescue(base: &Base, branch: &str) -> Vec<String> {
    script(
        [PROLOGUE, SKELETON, include_str!("rescue.sh")],
        base.args().into_iter().chain([branch.to_owned()]),
    )
}

/// Writes to standard output all that the run has and the base has not, for [`crate::import`]. There is always a bundle,
/// even if nothing has changed. At most 1,000 refs, the latest first.
pub fn bundle(format: ObjectFormat, base: &Oid, branch: &str) -> Vec<String> {
    let args = [format.as_str().into(), base.to_string(), branch.into(), "1000".into()];
    script([PROLOGUE, include_str!("bundle.sh")], args)
}
