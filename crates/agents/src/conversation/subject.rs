//! What a question is about, in a form that a standing rule can be compared with: whole, or not at all. And the same as
//! a person wants to see it: the command, the lines of a change.

use offshoot_core::{agent::ToolKind, approval::Subject};
use serde_json::Value;

use super::{bound, json};

/// The subject, unless a part of it is longer than what is remembered: a rule over the beginning of a text would hold
/// for whatever follows.
pub(super) fn whole(subject: Subject) -> Subject {
    let fits = match &subject {
        Subject::Command { command } => !command.is_empty() && command.len() <= bound::DETAIL,
        Subject::Files { paths, .. } => {
            let lengths =
                paths.iter().map(|path| if path.is_empty() { bound::DETAIL + 1 } else { path.len() });
            !paths.is_empty() && lengths.sum::<usize>() <= bound::DETAIL
        }
        Subject::Tool { name, input } => !name.is_empty() && name.len() + input.len() <= bound::DETAIL,
        Subject::Host { .. } | Subject::Question | Subject::Unclear => true,
    };
    if fits { subject } else { Subject::Unclear }
}

/// Something done with files. Relative paths are seen from `cwd`.
pub(super) fn files(kind: ToolKind, paths: &[String], cwd: &str) -> Subject {
    // At the bounds something may have been left out.
    if paths.len() >= bound::LOCATIONS || paths.iter().any(|path| path.len() >= bound::PATH) {
        return Subject::Unclear;
    }
    let absolute = |path: &String| match path.as_str() {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{}/{path}", cwd.trim_end_matches('/')),
    };
    Subject::Files { kind, paths: paths.iter().map(absolute).collect() }
}

/// Of a tool call of ACP that permission is asked for. `known` are the files that the call was announced with.
///
/// Titles do not count: with some agents they are the command, with others the same for all commands.
pub(super) fn of_acp(call: &Value, kind: ToolKind, known: &[String], cwd: &str) -> Subject {
    let input = call.get("rawInput").filter(|input| !input.is_null());
    let command = json::text(call, "/rawInput/command");
    match kind {
        ToolKind::Execute if !command.is_empty() => Subject::Command { command: command.to_owned() },
        ToolKind::Edit | ToolKind::Delete | ToolKind::Read => {
            let places = json::list(call, "/locations").iter().chain(json::list(call, "/content"));
            let paths = places.map(|place| json::text(place, "/path")).filter(|path| !path.is_empty());
            let named = ["/rawInput/file_path", "/rawInput/filePath", "/rawInput/path"];
            let named = named.iter().map(|pointer| json::text(call, pointer)).find(|path| !path.is_empty());
            let mut paths: Vec<_> = paths.chain(named).map(str::to_owned).collect();
            paths.sort();
            paths.dedup();
            files(kind, if paths.is_empty() { known } else { &paths }, cwd)
        }
        _ => match input {
            Some(input) => {
                Subject::Tool { name: json::text(call, "/title").to_owned(), input: input.to_string() }
            }
            None => Subject::Unclear,
        },
    }
}

/// Of a tool of Claude Code.
pub(super) fn of_claude(name: &str, input: &Value, kind: ToolKind, cwd: &str) -> Subject {
    let path = ["/file_path", "/notebook_path"];
    let path = path.iter().map(|pointer| json::text(input, pointer)).find(|path| !path.is_empty());
    match (kind, path) {
        (ToolKind::Execute, _) if name == "Bash" => {
            Subject::Command { command: json::text(input, "/command").to_owned() }
        }
        (ToolKind::Edit | ToolKind::Read, Some(path)) => files(kind, &[path.to_owned()], cwd),
        _ => Subject::Tool { name: name.to_owned(), input: input.to_string() },
    }
}

/// The subject as a person wants to see it.
pub(super) fn shown(subject: &Subject) -> Option<String> {
    Some(match subject {
        Subject::Command { command } => command.clone(),
        Subject::Files { paths, .. } => paths.join("\n"),
        Subject::Tool { name, input } => format!("{name} {input}"),
        Subject::Host { .. } | Subject::Question | Subject::Unclear => return None,
    })
}

/// The change that Claude Code's tools are about to make.
pub(super) fn edit(input: &Value) -> Option<String> {
    let path = json::text(input, "/file_path");
    let content = input.get("content").and_then(Value::as_str);
    let new = content.or_else(|| input.get("new_string").and_then(Value::as_str))?;
    Some(lines(path, json::text(input, "/old_string"), new))
}

/// The changes that a tool call of ACP is about to make.
pub(super) fn change(call: &Value) -> Option<String> {
    let changes = json::list(call, "/content").iter().filter(|block| json::text(block, "/type") == "diff");
    let shown: Vec<_> = changes
        .take(bound::LOCATIONS)
        .map(|one| lines(json::text(one, "/path"), json::text(one, "/oldText"), json::text(one, "/newText")))
        .collect();
    (!shown.is_empty()).then(|| shown.join("\n"))
}

/// A path, then what goes and what comes. What both begin and end with is left out.
fn lines(path: &str, old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[same..], &new[same..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let mut text = path.to_owned();
    for (sign, lines) in [("-", &old[..old.len() - end]), ("+", &new[..new.len() - end])] {
        for line in lines {
            // Past this nothing is shown anyway.
            if text.len() > bound::DETAIL {
                return text;
            }
            text.push_str(&format!("\n{sign}{line}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_too_long_is_no_subject() {
        let command = |length| whole(Subject::Command { command: "x".repeat(length) });
        assert!(matches!(command(bound::DETAIL), Subject::Command { .. }));
        assert_eq!(command(bound::DETAIL + 1), Subject::Unclear);
        assert_eq!(command(0), Subject::Unclear);
        let many: Vec<_> = (0..bound::LOCATIONS).map(|n| format!("/{n}")).collect();
        assert_eq!(files(ToolKind::Edit, &many, "/w"), Subject::Unclear);
        assert_eq!(whole(files(ToolKind::Edit, &[], "/w")), Subject::Unclear);
    }

    #[test]
    fn tools_of_claude() {
        let of = |name, input, kind| of_claude(name, &input, kind, "/w");
        let bash = of("Bash", json!({"command": "ls\nrm x"}), ToolKind::Execute);
        assert_eq!(bash, Subject::Command { command: "ls\nrm x".to_owned() });
        let write = of("Write", json!({"file_path": "a", "content": "x"}), ToolKind::Edit);
        assert_eq!(write, Subject::Files { kind: ToolKind::Edit, paths: vec!["/w/a".to_owned()] });
        let fetch = of("WebFetch", json!({"url": "u"}), ToolKind::Fetch);
        assert_eq!(fetch, Subject::Tool { name: "WebFetch".to_owned(), input: r#"{"url":"u"}"#.to_owned() });
    }

    #[test]
    fn calls_of_acp() {
        let of = |call, kind| whole(of_acp(&call, kind, &[], "/w"));
        let command = |command: &str| Subject::Command { command: command.to_owned() };
        let raw = json!({"title": "List", "rawInput": {"command": "ls -l"}});
        assert_eq!(of(raw, ToolKind::Execute), command("ls -l"));
        assert_eq!(of(json!({"title": "bash"}), ToolKind::Execute), Subject::Unclear);
        assert_eq!(of(json!({}), ToolKind::Execute), Subject::Unclear);
        let argv = json!({"title": "List", "rawInput": {"command": ["ls"]}});
        assert!(matches!(of(argv, ToolKind::Execute), Subject::Tool { .. }));
        let edit = json!({"locations": [{"path": "/w/b"}], "content": [{"type": "diff", "path": "a"}]});
        let both = Subject::Files { kind: ToolKind::Edit, paths: vec!["/w/b".to_owned(), "/w/a".to_owned()] };
        assert_eq!(of(edit, ToolKind::Edit), both);
        assert_eq!(of(json!({"title": "Think"}), ToolKind::Think), Subject::Unclear);
    }

    #[test]
    fn a_change_shows_what_changes() {
        let content = json!([{"type": "diff", "path": "/a", "oldText": "1\n2\n3", "newText": "1\n4\n3"}]);
        assert_eq!(change(&json!({ "content": content })).as_deref(), Some("/a\n-2\n+4"));
        assert_eq!(change(&json!({"content": []})), None);
        let write = json!({"file_path": "/a", "content": "1\n2"});
        assert_eq!(edit(&write).as_deref(), Some("/a\n+1\n+2"));
    }
}
