//! A notice in each sink's language. Pure. Nothing that an agent wrote is markup, a mention or a link in any of them.

use offshoot_core::config::NotificationKind;
use serde_json::{Value, json};

use crate::notice::Notice;

/// The kind as programs read it.
pub(crate) fn word(kind: Option<NotificationKind>) -> &'static str {
    match kind {
        Some(NotificationKind::Approval) => "approval",
        Some(NotificationKind::Attention) => "attention",
        Some(NotificationKind::Complete) => "complete",
        Some(NotificationKind::Failed) => "failed",
        None => "test",
    }
}

/// For a webhook: everything, to be formatted by whoever reads it.
pub(crate) fn webhook(notice: &Notice) -> Value {
    let task = notice.task.as_ref().map(|(id, name)| json!({ "id": id, "name": name, "root": notice.root }));
    json!({
        "version": 1,
        "kind": word(notice.kind),
        "task": task,
        "approval": notice.approval,
        "title": notice.title(),
        "text": notice.text,
        "link": notice.link,
    })
}

/// For ntfy (docs.ntfy.sh/publish, "Publish as JSON"). Its texts are plain unless `markdown` is asked for. No buttons that
/// act: whoever reads the topic could press them; tapping opens the page, which asks who you are.
pub(crate) fn ntfy(notice: &Notice, topic: &str) -> Value {
    let (priority, tag) = match notice.kind {
        Some(NotificationKind::Approval | NotificationKind::Attention) => (4, "raised_hand"),
        Some(NotificationKind::Failed) => (4, "x"),
        Some(NotificationKind::Complete) => (3, "white_check_mark"),
        None => (3, "bell"),
    };
    let message = if notice.text.is_empty() { &notice.what } else { &notice.text };
    let mut body = json!({
        "topic": topic,
        "title": notice.title(),
        "message": message,
        "priority": priority,
        "tags": [tag],
    });
    if let Some(link) = &notice.link {
        body["click"] = json!(link);
    }
    body
}

/// For Slack and what understands its webhooks (Mattermost, Rocket.Chat, Discord's `/slack`). Slack interprets `&`, `<` and
/// `>` (docs: "Escaping text"); others know mentions and links in Markdown: what is not ours stands in a code span.
pub(crate) fn slack(notice: &Notice) -> Value {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut text = escaped(&notice.title());
    if !notice.text.is_empty() {
        text.push_str(&format!(": `{}`", escaped(&notice.text.replace('`', "'").replace('@', "@\u{200b}"))));
    }
    if let Some(link) = &notice.link {
        text.push_str(&format!(" <{}|open>", escaped(&link.replace('|', "%7C"))));
    }
    json!({ "text": text })
}

/// For a desktop: title and body. Bodies may be read as markup (freedesktop.org notifications, section 3).
pub(crate) fn desktop(notice: &Notice) -> (String, String) {
    let body = notice.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    (notice.title(), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> Notice {
        Notice {
            kind: Some(NotificationKind::Approval),
            task: Some(("01900000".to_owned(), "date-filter".parse().unwrap())),
            root: "/home/ada/shop".to_owned(),
            what: "asks".to_owned(),
            text: "<!channel> @here `<http://evil.example|click>` **x** [y](http://evil.example) & \u{1b}[2J\u{202e}"
                .to_owned(),
            approval: Some("date-filter/1".to_owned()),
            link: Some("https://laptop.example/approvals".to_owned()),
        }
        .cleaned()
    }

    #[test]
    fn what_an_agent_wrote_is_never_markup() {
        let slack = slack(&hostile())["text"].as_str().unwrap().to_owned();
        assert_eq!(
            slack,
            "date-filter asks: `&lt;!channel&gt; @\u{200b}here '&lt;http://evil.example|click&gt;' **x** \
             [y](http://evil.example) &amp; [2J` <https://laptop.example/approvals|open>"
        );
        let (title, body) = desktop(&hostile());
        assert_eq!(title, "date-filter asks");
        assert!(!body.contains('<') && body.contains("&lt;!channel&gt;"), "{body}");
        let ntfy = ntfy(&hostile(), "mine");
        assert_eq!(ntfy["topic"], "mine");
        assert_eq!(ntfy["click"], "https://laptop.example/approvals");
        assert!(ntfy["actions"].is_null() && ntfy["markdown"].is_null());
        let all = [webhook(&hostile()).to_string(), ntfy.to_string()].concat();
        assert!(!all.contains("\\u001b") && !all.contains('\u{202e}'));
    }
}
