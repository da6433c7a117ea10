//! The lives of task, run and environment as transition tables: `(state, change) → state`, nothing else.
//!
//! A change that the table does not have is refused, so an illegal step cannot be recorded. Engine and store
//! both ask this file; neither has a rule of its own.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a task stands, in the words a person sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for its turn: the machine is full.
    Queued,
    /// An agent works, or its environment comes up.
    Running,
    /// Somebody has to look: a question, an obstacle, a limit.
    NeedsAttention,
    /// Nothing happens, but the session or the environment is there.
    Idle,
    /// The last run ended well.
    Complete,
    /// The last run ended badly; what it left is kept.
    Failed,
    /// The last run was stopped by a person; what it left is kept.
    Stopped,
    /// The work is in the target branch.
    Landed,
    /// Thrown away by a person.
    Discarded,
}

/// What can happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskChange {
    /// A run was asked for.
    Queue,
    /// Its run was admitted.
    Start,
    /// Its run needs a person.
    Attend,
    /// What needed a person was settled, or work goes on.
    Proceed,
    /// Its run waits for nothing in particular.
    Rest,
    /// Its run ended well.
    Complete,
    /// Its run ended badly.
    Fail,
    /// Its run was stopped.
    Stop,
    /// It was landed.
    Land,
    /// It was thrown away.
    Discard,
}

impl TaskState {
    /// The state after `change`, or `None` if that cannot happen here.
    pub fn after(self, change: TaskChange) -> Option<Self> {
        use TaskChange as C;
        use TaskState as S;
        Some(match (self, change) {
            (S::Queued, C::Start) => S::Running,
            (S::Running | S::Idle, C::Attend) => S::NeedsAttention,
            (S::NeedsAttention | S::Idle, C::Proceed) => S::Running,
            (S::Running | S::NeedsAttention, C::Rest) => S::Idle,
            (S::Queued | S::Running | S::NeedsAttention | S::Idle, C::Stop) => S::Stopped,
            (S::Queued | S::Running | S::NeedsAttention | S::Idle, C::Fail) => S::Failed,
            (S::Running | S::NeedsAttention | S::Idle, C::Complete) => S::Complete,
            (S::Complete | S::Failed | S::Stopped | S::Landed, C::Queue) => S::Queued,
            (S::Complete | S::Failed | S::Stopped | S::Idle, C::Land) => S::Landed,
            (from, C::Discard) if from != S::Landed && from != S::Discarded => S::Discarded,
            _ => return None,
        })
    }

    /// Whether the task still has, or will have, a run in progress.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Queued | Self::Running | Self::NeedsAttention | Self::Idle)
    }

    /// Whether nothing more happens unless a person asks.
    pub fn is_settled(self) -> bool {
        !self.is_active()
    }

    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::NeedsAttention => "needs attention",
            Self::Idle => "idle",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Landed => "landed",
            Self::Discarded => "discarded",
        }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits for admission.
    Queued,
    /// Its environment comes up.
    Preparing,
    /// Its agent works, waits or rests.
    Working,
    /// The agent is done; the project's check runs in the same environment.
    Checking,
    /// Its commits are being brought out.
    Harvesting,
    /// Ended well.
    Complete,
    /// Ended badly.
    Failed,
    /// Ended by a person.
    Stopped,
}

/// What can happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunChange {
    /// There is room for it.
    Admit,
    /// Its agent was started.
    Work,
    /// Its agent ended; the check starts.
    Check,
    /// Its commits are brought out.
    Harvest,
    /// It is over.
    End(RunEnd),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// The agent finished its turn and the check, if there is one, passed.
    Complete,
    /// The agent, the environment or the check failed.
    Failed,
    /// A person stopped it.
    Stopped,
}

impl RunState {
    /// The state after `change`, or `None` if that cannot happen here.
    pub fn after(self, change: RunChange) -> Option<Self> {
        use RunChange as C;
        use RunState as S;
        Some(match (self, change) {
            (S::Queued, C::Admit) => S::Preparing,
            (S::Preparing, C::Work) => S::Working,
            (S::Working, C::Check) => S::Checking,
            (S::Preparing | S::Working | S::Checking, C::Harvest) => S::Harvesting,
            (S::Queued, C::End(RunEnd::Stopped)) => S::Stopped,
            (S::Queued | S::Preparing | S::Working | S::Checking | S::Harvesting, C::End(RunEnd::Failed)) => {
                S::Failed
            }
            (S::Preparing | S::Working | S::Checking | S::Harvesting, C::End(RunEnd::Stopped)) => S::Stopped,
            (S::Harvesting, C::End(RunEnd::Complete)) => S::Complete,
            _ => return None,
        })
    }

    /// Whether the run is over.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Stopped)
    }
}

/// Where a service of an environment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Waits for others, for its next start, or for the environment's processes.
    Waiting,
    /// Started and not ready yet.
    Starting,
    /// Its health check passed.
    Ready,
    /// It was ready, runs, and its health check fails.
    Unhealthy,
    /// It ended with code 0, as some are meant to.
    Completed,
    /// Somebody stopped it; it is started when somebody asks for that.
    Stopped,
    /// It does not run and is not started again.
    Failed,
}

impl ServiceState {
    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// Where an environment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentState {
    /// Being made.
    Creating,
    /// Its sandbox runs.
    Up,
    /// Its processes are frozen; anything that needs them thaws them first.
    Suspended,
    /// It has no processes (they were killed, or the machine was restarted); its workspace is intact.
    Down,
    /// Everything of it is gone.
    Removed,
}

/// What can happen to an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentChange {
    /// Its sandbox answers.
    Up,
    /// Its processes were frozen.
    Suspend,
    /// Its processes were thawed.
    Resume,
    /// Its sandbox is gone.
    Lose,
    /// It was taken away, with a reason.
    Remove,
}

impl EnvironmentState {
    /// The state after `change`, or `None` if that cannot happen here.
    pub fn after(self, change: EnvironmentChange) -> Option<Self> {
        use EnvironmentChange as C;
        use EnvironmentState as S;
        Some(match (self, change) {
            (S::Creating | S::Down, C::Up) => S::Up,
            (S::Up, C::Suspend) => S::Suspended,
            (S::Suspended, C::Resume) => S::Up,
            (S::Creating | S::Up | S::Suspended, C::Lose) => S::Down,
            (from, C::Remove) if from != S::Removed => S::Removed,
            _ => return None,
        })
    }

    /// Whether it holds processes, and so memory.
    pub fn has_processes(self) -> bool {
        matches!(self, Self::Creating | Self::Up | Self::Suspended)
    }
}

/// Where an app of an environment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppState {
    /// Its process was started and has not ended.
    Running,
    /// Its environment lost all processes; it is started again with that.
    Interrupted,
    /// It ended, or was never started.
    Ended,
}

impl AppState {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Ended => "not running",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK_CHANGES: [TaskChange; 10] = [
        TaskChange::Queue,
        TaskChange::Start,
        TaskChange::Attend,
        TaskChange::Proceed,
        TaskChange::Rest,
        TaskChange::Complete,
        TaskChange::Fail,
        TaskChange::Stop,
        TaskChange::Land,
        TaskChange::Discard,
    ];

    /// Every pair of the task table, written out: a row per state, a column per change, `-` for refused.
    #[test]
    fn the_task_table() {
        use TaskState as S;
        let table = [
            //             Queue  Start  Attend Proceed Rest Complete Fail Stop Land Discard
            (S::Queued, "- R - - - - F S - D"),
            (S::Running, "- - A - I C F S - D"),
            (S::NeedsAttention, "- - - R I C F S - D"),
            (S::Idle, "- - A R - C F S L D"),
            (S::Complete, "Q - - - - - - - L D"),
            (S::Failed, "Q - - - - - - - L D"),
            (S::Stopped, "Q - - - - - - - L D"),
            (S::Landed, "Q - - - - - - - - -"),
            (S::Discarded, "- - - - - - - - - -"),
        ];
        let letter = |state: Option<S>| match state {
            None => "-",
            Some(S::Queued) => "Q",
            Some(S::Running) => "R",
            Some(S::NeedsAttention) => "A",
            Some(S::Idle) => "I",
            Some(S::Complete) => "C",
            Some(S::Failed) => "F",
            Some(S::Stopped) => "S",
            Some(S::Landed) => "L",
            Some(S::Discarded) => "D",
        };
        for (from, row) in table {
            let got: Vec<_> = TASK_CHANGES.iter().map(|c| letter(from.after(*c))).collect();
            assert_eq!(got.join(" "), row, "{from:?}");
        }
    }

    #[test]
    fn a_run_that_is_over_stays_over() {
        let changes = [
            RunChange::Admit,
            RunChange::Work,
            RunChange::Check,
            RunChange::Harvest,
            RunChange::End(RunEnd::Complete),
            RunChange::End(RunEnd::Failed),
            RunChange::End(RunEnd::Stopped),
        ];
        for over in [RunState::Complete, RunState::Failed, RunState::Stopped] {
            assert!(changes.iter().all(|c| over.after(*c).is_none()));
        }
        assert_eq!(
            RunState::Working.after(RunChange::End(RunEnd::Complete)),
            None,
            "nothing completes unharvested"
        );
    }

    #[test]
    fn a_removed_environment_stays_removed() {
        use EnvironmentChange as C;
        for change in [C::Up, C::Suspend, C::Resume, C::Lose, C::Remove] {
            assert_eq!(EnvironmentState::Removed.after(change), None);
        }
        assert_eq!(EnvironmentState::Suspended.after(C::Lose), Some(EnvironmentState::Down));
    }
}
