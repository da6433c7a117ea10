//! Landing a task over several repositories: all of them, or none.
//!
//! First every landing is made in the stores and tried against the checkouts; whatever can be refused is refused here, and
//! nothing was changed. Then all moves are recorded together, each with where its branch was and where it goes. Then the
//! branches move, one after the other. If one cannot (somebody was quicker), those that moved are moved back, last first, by
//! compare-and-swap. After a crash the record says what to go on with, and every step may be repeated.
//!
//! Two repositories have no common instant: whoever looks between two moves sees one landed and the other not. What a person
//! built on a branch in that time is not taken from them: then the branch stays, and that is said.

use offshoot_core::{
    api::{LandParams, LandView},
    event::Event,
    fault,
    part::{BranchMove, PartLanded},
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_git::{
    land::{How, LandError, LandOptions},
    oid::Oid,
    prepared::{Prepared, carry_out, prepare, take_back},
};

use crate::{
    engine::Engine,
    others::about,
    parts::{Held, Part, parts},
    project,
    review::{land_problem, word},
};

impl Engine {
    /// Brings a task's work in all of its repositories into their target branches, or in none.
    pub(crate) async fn land_together(
        &self,
        record: &TaskRecord,
        params: LandParams,
    ) -> Result<LandView, Problem> {
        let targets = targets(record, &params)?;
        let (engine, of, squash) = (self.clone(), record.clone(), params.squash);
        let moves = tokio::task::spawn_blocking(move || engine.forecast(&of, &targets, &params))
            .await
            .map_err(|e| Problem::internal("the landing was interrupted", &e))??;
        let Some(first) = moves.first() else { return Err(nothing(record)) };
        let started = Event::LandingStarted {
            target: first.target.clone(),
            head: first.head.clone(),
            squash,
            moves: moves.clone(),
        };
        self.inner.ledger.append(record.id, record.run().map(|r| r.id), vec![started])?;
        fault::point("land.recorded");
        self.move_all(record, moves).await
    }

    /// After a start: a landing that was cut off is taken to its end, or taken back.
    pub(crate) async fn finish_together(&self, record: &TaskRecord, moves: Vec<BranchMove>) {
        if let Err(problem) = self.move_all(record, moves).await {
            tracing::warn!(task = %record.id, %problem, "a landing that was cut off was not finished");
        }
    }

    async fn move_all(&self, record: &TaskRecord, moves: Vec<BranchMove>) -> Result<LandView, Problem> {
        let (engine, of, all) = (self.clone(), record.clone(), moves.clone());
        let moved = tokio::task::spawn_blocking(move || engine.move_now(&of, &all))
            .await
            .map_err(|e| Problem::internal("the landing was interrupted", &e))?;
        let run = record.run().map(|r| r.id);
        match moved {
            Ok(()) => {
                let view = landed_view(record, &moves);
                self.landed(record, &view).await;
                Ok(view)
            }
            Err(refused) => {
                let (problem, stuck) = *refused;
                let mut events = vec![Event::LandingRefused { reason: problem.message.clone() }];
                if !stuck.is_empty() {
                    events.push(Event::Noticed { notices: stuck });
                }
                self.inner.ledger.append(record.id, run, events)?;
                Err(problem)
            }
        }
    }

    /// Makes every landing and refuses whatever stands against one of them. Nothing that a person sees has changed then.
    fn forecast(
        &self,
        record: &TaskRecord,
        targets: &[(Part, String)],
        params: &LandParams,
    ) -> Result<Vec<BranchMove>, Problem> {
        let mut moves = Vec::with_capacity(targets.len());
        for (part, target) in targets {
            let held = self.held_one(part)?;
            let head = part.head.as_deref().unwrap_or(&part.base);
            let head: Oid = head.parse().map_err(|e| Problem::internal("not a commit", &e))?;
            let message = self.message(record, params)?;
            let author = project::person(&held.repository);
            let options = LandOptions { squash: params.squash, message, author };
            let made = prepare(&held.project.objects, &held.repository, &head, target, &options)
                .map_err(|error| refused(record, part, error))?;
            moves.push(BranchMove {
                repository: part.name.clone(),
                target: made.target,
                head: made.task.to_string(),
                before: made.old.to_string(),
                after: made.new.to_string(),
                how: word(made.how).to_owned(),
            });
        }
        Ok(moves)
    }

    /// Moves the branches. If one cannot be moved, those that were are moved back; the second answer says which could not be.
    fn move_now(&self, record: &TaskRecord, moves: &[BranchMove]) -> Result<(), Box<(Problem, Vec<String>)>> {
        let all = parts(record);
        let (mut steps, mut problem) = (Vec::with_capacity(moves.len()), None);
        for one in moves {
            match self.step(&all, one) {
                Ok(step) => steps.push(step),
                Err(found) => problem = problem.or(Some(found)),
            }
        }
        if let Some(problem) = problem {
            // A repository is gone since this landing was begun: what moved before that goes back.
            steps.retain(|(held, made)| {
                held.repository.branch_commit(&made.target).is_ok_and(|at| at.as_ref() == Some(&made.new))
            });
            let stuck = self.move_back(&steps);
            return Err(Box::new((with_stuck(problem, &stuck), stuck)));
        }
        for (n, (held, made)) in steps.iter().enumerate() {
            match carry_out(&held.project.objects, &held.repository, made) {
                Ok(_) => fault::point("land.moved"),
                Err(error) => {
                    let problem = refused(record, &held.part, error);
                    let stuck = self.move_back(&steps[..n]);
                    return Err(Box::new((with_stuck(problem, &stuck), stuck)));
                }
            }
        }
        Ok(())
    }

    /// Moves branches back to where they were, last first; says which stayed, and why.
    fn move_back(&self, steps: &[(Held, Prepared)]) -> Vec<String> {
        let mut stuck = Vec::new();
        for (held, made) in steps.iter().rev() {
            if made.old == made.new {
                continue;
            }
            fault::point("land.back");
            if let Err(error) = take_back(&held.project.objects, &held.repository, made) {
                stuck.push(format!(
                    "{} of {} has landed and could not be moved back: {}; it was at {}",
                    made.target,
                    held.part.name,
                    chain(&error),
                    made.old
                ));
            }
        }
        stuck
    }

    fn step(&self, all: &[Part], one: &BranchMove) -> Result<(Held, Prepared), Problem> {
        let part =
            all.iter().find(|part| part.name == one.repository).ok_or_else(|| lost(&one.repository))?;
        let held = self.held_one(part).map_err(|problem| about(&part.name, problem))?;
        Ok((held, prepared(one)?))
    }

    fn held_one(&self, part: &Part) -> Result<Held, Problem> {
        let repository = project::repository_of(&part.root)?;
        let project = self.inner.projects.open(part.project, &repository)?;
        Ok(Held { part: part.clone(), repository, project })
    }
}

/// What lands where: every repository with commits of its own.
fn targets(record: &TaskRecord, params: &LandParams) -> Result<Vec<(Part, String)>, Problem> {
    let all = parts(record);
    if let Some(name) = params.targets.keys().find(|name| !all.iter().any(|part| part.name == **name)) {
        let known: Vec<_> = all.iter().map(|part| part.name.as_str()).collect();
        let text = format!("{} is not about a repository {name:?}", record.name);
        return Err(Problem::new(ProblemKind::NotFound, "unknown_repository", text)
            .hint(format!("it is about {}", known.join(", "))));
    }
    let with_commits: Vec<_> = all.into_iter().filter(Part::has_commits).collect();
    if with_commits.is_empty() {
        return Err(nothing(record));
    }
    with_commits
        .into_iter()
        .map(|part| {
            let main = params.target.as_ref().filter(|_| part.main);
            let target = params.targets.get(&part.name).or(main).or(part.target.as_ref()).cloned();
            let target = target.ok_or_else(|| {
                Problem::new(
                    ProblemKind::Invalid,
                    "no_target",
                    format!("{}: {} was not started from a branch", part.name, record.name),
                )
                .hint(format!("name the branch to land on with --into {}=BRANCH", part.name))
            })?;
            Ok((part, target))
        })
        .collect()
}

fn nothing(record: &TaskRecord) -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "nothing_to_land",
        format!("{} has no commits of its own in any repository", record.name),
    )
    .hint(format!("`offshoot discard {}` takes it away", record.name))
}

/// Why nothing landed, with the repository that stands against it.
fn refused(record: &TaskRecord, part: &Part, error: LandError) -> Problem {
    let problem = about(&part.name, land_problem(record, error));
    Problem { message: format!("{}; nothing landed in any repository", problem.message), ..problem }
}

fn with_stuck(problem: Problem, stuck: &[String]) -> Problem {
    if stuck.is_empty() {
        return problem;
    }
    let message = problem.message.replace("; nothing landed in any repository", "");
    Problem::new(ProblemKind::Conflict, "landed_in_part", format!("{message}; {}", stuck.join("; ")))
        .hint("land again when that is settled: what has landed is not landed twice")
}

fn lost(name: &str) -> Problem {
    Problem::new(ProblemKind::Failed, "unknown_repository", format!("the task has no repository {name:?}"))
}

fn prepared(one: &BranchMove) -> Result<Prepared, Problem> {
    let parse = |text: &str| text.parse::<Oid>().map_err(|e| Problem::internal("not a commit", &e));
    Ok(Prepared {
        target: one.target.clone(),
        old: parse(&one.before)?,
        new: parse(&one.after)?,
        task: parse(&one.head)?,
        how: match one.how.as_str() {
            "merge" => How::Merge,
            "squash" => How::Squash,
            "fast_forward" => How::FastForward,
            _ => How::UpToDate,
        },
    })
}

/// What is told of a landing: the main repository's first, if it has part in it.
fn landed_view(record: &TaskRecord, moves: &[BranchMove]) -> LandView {
    let repositories: Vec<_> = moves
        .iter()
        .map(|one| PartLanded {
            repository: one.repository.clone(),
            target: one.target.clone(),
            commit: one.after.clone(),
            how: one.how.clone(),
        })
        .collect();
    let main = repositories.iter().find(|one| one.repository == record.repository);
    let first = main.or(repositories.first()).cloned();
    let (target, commit, how) = first.map(|one| (one.target, one.commit, one.how)).unwrap_or_default();
    LandView { target, commit, how, repositories }
}
