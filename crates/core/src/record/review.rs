//! What a person's review does to a task's record: comments on lines, and going back to a checkpoint.

use super::{FoldError, TaskRecord, refused};
use crate::{
    comment::{CommentAdded, CommentRecord, MAX_KEPT},
    event::Entry,
    lifecycle::TaskState,
    time::Timestamp,
};

impl TaskRecord {
    /// The comments that were not sent yet, oldest first.
    pub fn drafts(&self) -> impl Iterator<Item = &CommentRecord> {
        self.comments.iter().filter(|comment| comment.sent.is_none())
    }

    /// Whether the workspace can be brought back to a checkpoint: nobody works in it, and there is something to work on.
    pub fn can_be_restored(&self) -> bool {
        let quiet = self.state.is_settled() || (self.agent.is_none() && self.state == TaskState::Idle);
        quiet && !matches!(self.state, TaskState::Landed | TaskState::Discarded) && self.landing.is_none()
    }

    pub(super) fn commented(&mut self, added: &CommentAdded, at: Timestamp) {
        self.comments_made = self.comments_made.max(added.number);
        self.comments.push(CommentRecord::new(added.clone(), at));
        if self.comments.len() > MAX_KEPT
            && let Some(oldest) = self.comments.iter().position(|comment| comment.sent.is_some())
        {
            self.comments.remove(oldest);
        }
    }

    pub(super) fn comment_changed(
        &mut self,
        number: u32,
        text: &str,
        at: Timestamp,
    ) -> Result<(), FoldError> {
        let draft =
            self.comments.iter_mut().find(|comment| comment.number == number && comment.sent.is_none());
        let draft = draft.ok_or(FoldError::NoComment)?;
        text.clone_into(&mut draft.text);
        draft.at = at;
        Ok(())
    }

    pub(super) fn comment_removed(&mut self, number: u32) -> Result<(), FoldError> {
        let before = self.comments.len();
        self.comments.retain(|comment| comment.number != number);
        if self.comments.len() == before { Err(FoldError::NoComment) } else { Ok(()) }
    }

    pub(super) fn comments_sent(&mut self, entry: &Entry, numbers: &[u32]) -> Result<(), FoldError> {
        let run = self.run_mut(entry)?.number;
        for number in numbers {
            let mut drafts = self.comments.iter_mut().filter(|comment| comment.sent.is_none());
            let draft = drafts.find(|comment| comment.number == *number).ok_or(FoldError::NoComment)?;
            draft.sent = Some(run);
        }
        Ok(())
    }

    pub(super) fn restore_started(&mut self, step: u32) -> Result<(), FoldError> {
        if !self.can_be_restored() {
            return Err(refused("task", self.state, "Restore"));
        }
        self.not_restoring("Restore")?;
        if step > 0 && !self.checkpoints.iter().any(|checkpoint| checkpoint.number == step) {
            return Err(FoldError::NoCheckpoint);
        }
        self.restoring = Some(step);
        Ok(())
    }

    /// While files are being brought back nothing else begins.
    pub(super) fn not_restoring(&self, change: &'static str) -> Result<(), FoldError> {
        match self.restoring {
            None => Ok(()),
            Some(_) => Err(refused("task", "Restoring", change)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        comment::{Anchor, Side},
        event::Event,
        id::{RunId, TaskId},
    };

    fn entry(event: Event) -> Entry {
        let run = Some(RunId(uuid::Uuid::nil()));
        Entry { seq: 1, at: Timestamp(1), task: TaskId(uuid::Uuid::nil()), run, event }
    }

    fn read(text: &str) -> Event {
        serde_json::from_str(text).unwrap()
    }

    fn record() -> TaskRecord {
        let created = r#"{"type":"task_created","name":"a","project":"00000000-0000-0000-0000-000000000000","root":"/r","base":"b","target":"main","branch":"offshoot/a","agent":"x","notices":[]}"#;
        TaskRecord::create(&entry(read(created))).unwrap()
    }

    fn queued() -> Event {
        read(
            r#"{"type":"run_queued","number":1,"prompt":"p","model":null,"check":null,"pass_env":[],"permission":"allow","egress":[],"limits":{"memory_bytes":1,"processes":1,"cpu_percent":null,"disk_bytes":1}}"#,
        )
    }

    fn added(number: u32) -> Event {
        Event::CommentAdded(CommentAdded {
            number,
            repository: String::new(),
            path: "a".into(),
            line: 1,
            side: Side::New,
            commit: "c".into(),
            text: "why?".into(),
            anchor: Anchor::default(),
        })
    }

    #[test]
    fn comments_are_drafts_until_they_are_sent() {
        let mut record = record();
        for event in [added(1), added(2), added(3)] {
            record.apply(&entry(event)).unwrap();
        }
        record.apply(&entry(Event::CommentRemoved { number: 2 })).unwrap();
        record.apply(&entry(Event::CommentChanged { number: 3, text: "because".into() })).unwrap();
        record.apply(&entry(queued())).unwrap();
        record.apply(&entry(Event::CommentsSent { numbers: vec![1] })).unwrap();
        let texts: Vec<_> = record.comments.iter().map(|c| (c.number, c.text.as_str(), c.sent)).collect();
        assert_eq!(texts, [(1, "why?", Some(1)), (3, "because", None)]);
        assert_eq!((record.comments_made, record.drafts().count()), (3, 1));
        let before = record.clone();
        for event in [
            Event::CommentChanged { number: 1, text: "again".into() },
            Event::CommentsSent { numbers: vec![3, 1] },
            Event::CommentRemoved { number: 2 },
        ] {
            assert!(record.apply(&entry(event)).is_err());
        }
        assert_eq!(record, before, "as it was");
    }

    #[test]
    fn of_those_that_were_sent_the_oldest_go() {
        let mut record = record();
        record.apply(&entry(added(1))).unwrap();
        record.apply(&entry(added(2))).unwrap();
        record.apply(&entry(queued())).unwrap();
        record.apply(&entry(Event::CommentsSent { numbers: vec![2] })).unwrap();
        for number in 3..=u32::try_from(MAX_KEPT).unwrap() + 1 {
            record.apply(&entry(added(number))).unwrap();
        }
        assert_eq!(record.comments.len(), MAX_KEPT);
        assert!(record.comments.iter().all(|comment| comment.number != 2), "a draft is not lost for it");
    }

    #[test]
    fn nothing_else_begins_while_files_are_brought_back() {
        let mut record = record();
        assert!(record.apply(&entry(Event::RestoreStarted { step: 1 })).is_err(), "there is no checkpoint");
        let taken = r#"{"type":"checkpoint","number":1,"commit":"c","title":"t","changed":1}"#;
        record.apply(&entry(read(taken))).unwrap();
        record.apply(&entry(Event::RestoreStarted { step: 1 })).unwrap();
        let landing = r#"{"type":"landing_started","target":"main","head":"h","squash":false}"#;
        for event in [queued(), read(landing), Event::RestoreStarted { step: 1 }] {
            assert!(record.apply(&entry(event)).is_err());
        }
        record.apply(&entry(Event::Restored { step: 1 })).unwrap();
        record.apply(&entry(queued())).unwrap();
        assert_eq!((record.restored, record.runs[0].restored), (None, Some(1)), "the next run is told");
        assert!(record.apply(&entry(Event::RestoreStarted { step: 1 })).is_err(), "somebody works");
    }
}
