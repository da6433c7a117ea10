//! `offshoot comment` and `offshoot comments`.

use std::process::ExitCode;

use offshoot_core::{
    api::{CommentChangeParams, CommentList, CommentParams, CommentView, SendCommentsParams, TaskView},
    comment::Side,
    problem::{Problem, ProblemKind},
};

use crate::{
    commands::run::{announce, read_prompt},
    failure::{Failure, Outcome},
    session::{Session, search_path},
    text::{escape_block, escape_line},
};

/// Comment on a line of a task's work; a draft, until `comments --send` gives all drafts to the agent at once
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// The line, as in src/lib.rs:12, or the number of a draft that is to say something else
    #[arg(value_name = "FILE:LINE")]
    place: String,
    /// What is to be said; `-` reads it from standard input
    text: String,
    /// The line is one of before the change
    #[arg(long)]
    old: bool,
    /// Of a task over several repositories: this one; else its name stands before the path
    #[arg(long, value_name = "NAME")]
    repo: Option<String>,
    /// The commit that was looked at; the newest if not named
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
}

/// List the comments on a task's work, send them, or take one away
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Name, id, or beginning of an id
    task: String,
    /// Give all drafts to the agent, as one follow-up; with a text, that is asked besides
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "", conflicts_with = "remove")]
    send: Option<String>,
    /// Take this one away
    #[arg(long, value_name = "NUMBER")]
    remove: Option<u32>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let text = read_prompt(&args.text)?;
    let view: CommentView = if let Ok(number) = args.place.parse::<u32>() {
        let path = session.task_path(&args.task, &format!("/comments/{number}"))?;
        session.client.post(&path, &CommentChangeParams { text }).await?
    } else {
        let (path, line) = place(&args.place)?;
        let side = if args.old { Side::Old } else { Side::New };
        let params = CommentParams { repository: args.repo, path, line, side, text, commit: args.commit };
        session.client.post(&session.task_path(&args.task, "/comments")?, &params).await?
    };
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        session.screen.print(&shown(&view))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn list(args: ListArgs, session: &Session) -> Outcome {
    let path = session.task_path(&args.task, "/comments")?;
    if let Some(text) = args.send {
        let text = Some(text).filter(|text| !text.is_empty());
        let params = SendCommentsParams { text, search_path: search_path() };
        let path = session.task_path(&args.task, "/comments/send")?;
        let view: TaskView = session.client.post(&path, &params).await?;
        announce(&view, session);
        if session.screen.json {
            session.screen.print_json(&view)?;
        } else {
            session.screen.print(view.task.name.as_str())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let list: CommentList = match args.remove {
        Some(number) => {
            let path = session.task_path(&args.task, &format!("/comments/{number}/remove"))?;
            session.client.post(&path, &serde_json::json!({})).await?
        }
        None => session.client.get(&path).await?,
    };
    if session.screen.json {
        session.screen.print_json(&list)?;
    } else if list.comments.is_empty() {
        session.screen.say("no comments");
    } else {
        let lines: Vec<_> = list.comments.iter().map(shown).collect();
        session.screen.print(&lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A file and a line; the last colon parts them.
fn place(text: &str) -> Result<(String, u32), Failure> {
    let parts = text.rsplit_once(':').and_then(|(path, line)| Some((path, line.parse().ok()?)));
    match parts {
        Some((path, line)) if !path.is_empty() => Ok((path.to_owned(), line)),
        _ => Err(Problem::new(ProblemKind::Invalid, "bad_place", format!("{text:?} is not FILE:LINE"))
            .hint("as in src/lib.rs:12; `offshoot diff --stat` names the files")
            .into()),
    }
}

fn shown(view: &CommentView) -> String {
    let comment = &view.comment;
    let line = view.line_now.unwrap_or(comment.line);
    let mut marks = Vec::new();
    if comment.side == Side::Old {
        marks.push("before the change".to_owned());
    }
    if view.stale {
        marks.push("its line is not there any more".to_owned());
    }
    marks.push(comment.sent.map_or("draft".to_owned(), |run| format!("sent with run {run}")));
    let mut text = format!("{} {}:{line} ({})\n", comment.number, escape_line(&view.path), marks.join(", "));
    text.push_str(&format!("  > {}\n", escape_line(&comment.anchor.text)));
    for line in escape_block(&comment.text).lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_colon_parts_file_and_line() {
        assert_eq!(place("a:b/c.rs:12").ok(), Some(("a:b/c.rs".to_owned(), 12)));
        for bad in ["a.rs", "a.rs:", ":3", "a.rs:x", "a.rs:-1"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
