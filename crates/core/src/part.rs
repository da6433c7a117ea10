//! The repositories of a task besides its main one, as events tell of them and as the log adds them up.
//!
//! A task over one repository has none of these: its own fields say everything. With others, each has a workspace, a git
//! directory, a branch of the task's name, checkpoints, a harvest and a landing of its own, and this is where they are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{event::Changes, id::ProjectId};

/// Another repository of a new task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartCreated {
    /// Its name in `offshoot.toml` of the main repository.
    pub name: String,
    /// Its project: the same as if it were the main repository of a task.
    pub project: ProjectId,
    /// Its root on the host, and where it appears inside.
    pub root: String,
    /// Base commit.
    pub base: String,
    /// The branch the base was taken from and a landing goes to.
    pub target: Option<String>,
    /// It is only shown: it has no branch, and nothing of it is brought out.
    #[serde(default)]
    pub read_only: bool,
}

/// Another repository at a checkpoint. All of a task's repositories are in each checkpoint, changed or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartCheckpoint {
    /// Which one.
    pub name: String,
    /// The commit that holds it.
    pub commit: String,
    /// Files that differ from the checkpoint before.
    pub changed: u32,
    /// What it holds against its base.
    pub changes: Changes,
}

/// What was brought out of another repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartHarvested {
    /// Which one.
    pub name: String,
    /// Tip of the task's branch in it; its base if nothing was committed.
    pub head: String,
    /// Commits since the base.
    pub commits: u32,
    /// What differs from the base.
    pub changes: Changes,
    /// Whether files had been left uncommitted and were committed on the agent's behalf.
    pub leftovers: bool,
    /// Whether the branch in the user's repository has it; if not, why not.
    pub unpublished: Option<String>,
}

/// A target branch that a landing over several repositories moves. All of them are made, merged and recorded before the
/// first moves, so that whoever finds the landing half done knows where each was and where it is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BranchMove {
    /// The repository's name; the main one's too.
    pub repository: String,
    /// The branch.
    pub target: String,
    /// The task's commit.
    pub head: String,
    /// Where the branch was.
    pub before: String,
    /// Where it goes.
    pub after: String,
    /// `up_to_date`, `fast_forward`, `merge` or `squash`.
    pub how: String,
}

/// A repository that landed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartLanded {
    /// Its name; the main one's too.
    pub repository: String,
    /// The branch.
    pub target: String,
    /// Its new tip.
    pub commit: String,
    /// `up_to_date`, `fast_forward`, `merge` or `squash`.
    pub how: String,
}

/// Another repository of a task, as the log tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartRecord {
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: ProjectId,
    /// Its root on the host, and where it appears inside.
    pub root: String,
    /// Base commit.
    pub base: String,
    /// Where a landing goes.
    pub target: Option<String>,
    /// It is only shown.
    #[serde(default)]
    pub read_only: bool,
    /// What its workspace holds against its base.
    pub changes: Changes,
    /// Its checkpoints, oldest first, with the numbers of the task's.
    pub checkpoints: Vec<PartStep>,
    /// Tip of the task's branch in it, once something was brought out.
    pub head: Option<String>,
    /// Why the branch in the user's repository does not have `head`, if so.
    pub unpublished: Option<String>,
    /// Where a landing left its target.
    pub landed: Option<String>,
}

/// One checkpoint of another repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartStep {
    /// Number within the task.
    pub number: u32,
    /// The commit that holds it.
    pub commit: String,
}

impl PartHarvested {
    /// Nothing: the base is all there is.
    pub fn nothing(name: String, base: String) -> Self {
        Self {
            name,
            head: base,
            commits: 0,
            changes: Changes::default(),
            leftovers: false,
            unpublished: None,
        }
    }
}

impl PartRecord {
    /// What a part starts as.
    pub fn new(created: PartCreated) -> Self {
        Self {
            name: created.name,
            project: created.project,
            root: created.root,
            base: created.base,
            target: created.target,
            read_only: created.read_only,
            changes: Changes::default(),
            checkpoints: Vec::new(),
            head: None,
            unpublished: None,
            landed: None,
        }
    }

    /// Whether it holds work of its own.
    pub fn has_work(&self) -> bool {
        self.head.as_ref().is_some_and(|head| *head != self.base) || self.changes.files > 0
    }

    pub(crate) fn checkpoint(&mut self, number: u32, taken: &PartCheckpoint) {
        self.changes = taken.changes.clone();
        self.checkpoints.push(PartStep { number, commit: taken.commit.clone() });
    }

    pub(crate) fn harvested(&mut self, harvested: &PartHarvested) {
        self.head = Some(harvested.head.clone());
        self.changes = harvested.changes.clone();
        self.unpublished.clone_from(&harvested.unpublished);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Entry, Event},
        id::TaskId,
        record::TaskRecord,
        time::Timestamp,
    };

    fn entry(event: &str) -> Entry {
        let event: Event = serde_json::from_str(event).unwrap();
        Entry { seq: 1, at: Timestamp(1), task: TaskId(uuid::Uuid::nil()), run: None, event }
    }

    #[test]
    fn what_was_written_before_there_were_several_still_folds_and_is_written_as_before() {
        let created = r#"{"type":"task_created","name":"a","project":"00000000-0000-0000-0000-000000000000","root":"/r","base":"b","target":"main","branch":"offshoot/a","agent":null,"notices":[]}"#;
        let mut record = TaskRecord::create(&entry(created)).unwrap();
        for event in [
            r#"{"type":"checkpoint","number":1,"commit":"c","title":"t","changed":1}"#,
            r#"{"type":"harvested","head":"h","commits":1,"changes":{"files":1,"added":1,"deleted":0,"latest_commit":null},"leftovers":false,"unpublished":null}"#,
            r#"{"type":"landing_started","target":"main","head":"h","squash":false}"#,
        ] {
            let entry = entry(event);
            record.apply(&entry).unwrap();
            assert_eq!(serde_json::to_string(&entry.event).unwrap(), event);
        }
        assert!(record.has_unlanded_work());
        assert!(record.landing.as_ref().unwrap().moves.is_empty());
        let text = serde_json::to_value(&record).unwrap();
        assert!(text.get("others").is_none() && text.get("repository").is_none());
    }

    #[test]
    fn each_repository_has_what_is_its_own() {
        let created = r#"{"type":"task_created","name":"a","project":"00000000-0000-0000-0000-000000000000","root":"/r","base":"b","target":"main","branch":"offshoot/a","agent":null,"notices":[],"repository":"api","others":[{"name":"front","project":"00000000-0000-0000-0000-000000000001","root":"/f","base":"f","target":"ui"}]}"#;
        let mut record = TaskRecord::create(&entry(created)).unwrap();
        assert!(!record.has_unlanded_work());
        let changes = r#"{"files":2,"added":3,"deleted":0,"latest_commit":null}"#;
        record
            .apply(&entry(&format!(
                r#"{{"type":"checkpoint","number":1,"commit":"b","title":"t","changed":2,"others":[{{"name":"front","commit":"c","changed":2,"changes":{changes}}}]}}"#
            )))
            .unwrap();
        assert!(record.has_unlanded_work(), "in the other");
        assert_eq!(record.other("front").unwrap().checkpoints[0].commit, "c");
        assert_eq!(record.changes, Changes::default());
        let unknown = format!(
            r#"{{"type":"checkpoint","number":2,"commit":"b","title":"t","changed":2,"others":[{{"name":"back","commit":"c","changed":2,"changes":{changes}}}]}}"#
        );
        assert!(record.apply(&entry(&unknown)).is_err());
        assert_eq!(record.checkpoints.len(), 1, "as it was");
    }
}
