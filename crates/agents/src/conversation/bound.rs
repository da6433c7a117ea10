//! The limits on what an agent may make us remember or pass on. An agent's output is hostile: without these one
//! endless line would fill the daemon's memory.

/// Longest line of a line protocol. The largest real ones are tool results with an image in base64 (a few MB);
/// longer lines are dropped and reported.
pub(super) const LINE: usize = 8 << 20;
/// Longest piece of text in one event. Longer texts are cut into several events, nothing is lost.
pub(super) const TEXT: usize = 64 << 10;
/// Longest title: what fits into two lines of a list.
pub(super) const TITLE: usize = 240;
/// Longest detail of a tool call or an error: a screenful. The whole of it is in the journal.
pub(super) const DETAIL: usize = 4 << 10;
/// Longest id of a session, tool call or option. Real ones are UUIDs or short words.
pub(super) const ID: usize = 256;
/// Longest path in the locations of a tool call (PATH_MAX).
pub(super) const PATH: usize = 4096;
/// Most locations of a tool call that are kept: more than that is a search result, not a place to look.
pub(super) const LOCATIONS: usize = 32;
/// Most tool calls remembered for merging updates into. Real turns have a handful open at a time.
pub(super) const TOOL_CALLS: usize = 256;
/// Most questions open at a time; further ones are refused. Real agents ask one at a time, some a few in parallel.
pub(super) const QUESTIONS: usize = 64;
/// Most options of a question. Real ones have two to five.
pub(super) const OPTIONS: usize = 16;

/// Shortens a text to at most `limit` bytes, at a character boundary, and shows that something is missing.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// A title: one line.
pub(super) fn title(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    shorten(line, TITLE)
}

/// An id is taken whole or not at all: a shortened one would be a different one.
pub(super) fn id(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() <= ID).then(|| text.to_owned())
}

/// Cuts a long text into bounded pieces.
pub(super) fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let mut end = text.len().min(TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at(end);
        text = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortens_at_character_boundaries() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("äöüä", 6), "ä…");
        assert_eq!(title("\n  one\ntwo"), "one");
        assert_eq!(pieces(&"ä".repeat(TEXT)).map(str::len).collect::<Vec<_>>(), [TEXT, TEXT]);
    }
}
