//! Text for a terminal: escaping of what came from elsewhere, widths, ages, sizes. Pure.
//!
//! Everything that an agent, a repository or a file name had a hand in goes through [`escape_line`] or
//! [`escape_block`]; afterwards it can neither move the cursor nor reorder or hide what stands beside it.

use std::fmt::Write;

use offshoot_core::time::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// One line: line breaks and tabs become spaces, everything else that is not plainly visible is spelt out.
pub(crate) fn escape_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            '\r' => {}
            c => push_visible(&mut out, c),
        }
    }
    out
}

/// The first line of several, the rest only hinted at.
pub(crate) fn first_line(text: &str) -> String {
    match text.trim().split_once('\n') {
        None => escape_line(text.trim()),
        Some((first, _)) => format!("{} …", escape_line(first.trim_end())),
    }
}

/// Several lines: line breaks and tabs stay, everything else that is not plainly visible is spelt out.
pub(crate) fn escape_block(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c => push_visible(&mut out, c),
        }
    }
    out
}

fn push_visible(out: &mut String, c: char) {
    match c {
        // The picture of a control character: ␛ for ESC.
        '\0'..='\x1f' => out.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')),
        '\x7f' => out.push('␡'),
        c if is_hidden(c) => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// C1 controls, bidirectional controls (Trojan Source), zero-width and tag characters, private use, line separators.
fn is_hidden(c: char) -> bool {
    matches!(u32::from(c),
        0x80..=0x9f | 0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
        | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xe0000..=0xe0fff | 0xf0000..=0x10ffff)
}

/// Columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most `columns` columns; `…` at the end if something is missing.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    if columns == 0 {
        return String::new();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > columns - 1 {
            break;
        }
        used += w;
        out.push(c);
    }
    out.push('…');
    out
}

/// The text cut to, and filled up to, `columns` columns.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let mut out = cut(text, columns);
    let used = width(&out);
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(used)));
    out
}

/// How long ago: `5s`, `12m`, `3h`, `2d`.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    span(now.since(then))
}

/// A length of time in milliseconds: `340ms`, `5s`, `12m`, `3h`, `2d`.
pub(crate) fn span(ms: u64) -> String {
    match ms / 1000 {
        0 if ms > 0 => format!("{ms}ms"),
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// A size: `812K`, `34M`, `1.2G`.
pub(crate) fn size(bytes: u64) -> String {
    const K: u64 = 1024;
    match bytes {
        0 => "0".to_owned(),
        b if b < K * K => format!("{}K", b.div_ceil(K)),
        b if b < K * K * K => format!("{}M", b / (K * K)),
        b => format!("{}.{}G", b / (K * K * K), (b % (K * K * K)) * 10 / (K * K * K)),
    }
}

/// `1 file`, `3 files`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// A moment in the person's time zone, to the second.
pub(crate) fn moment(at: Timestamp) -> String {
    let zone = jiff::tz::TimeZone::system();
    jiff::Timestamp::from_millisecond(at.0)
        .map(|t| t.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_else(|_| at.0.to_string())
}

/// The first characters of a commit id, as git shows it.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes() {
        assert_eq!(escape_line("a\x1b]52;c;AA\x07\nb\tc\r"), "a␛]52;c;AA␇ b c");
        assert_eq!(escape_block("a\r\nb\rc\u{9b}2J"), "a\nb␍c\\u{9b}2J");
        assert_eq!(escape_line("x\u{202e}y\u{200b}z\u{e0041}"), "x\\u{202e}y\\u{200b}z\\u{e0041}");
        assert_eq!(escape_line("日本 émoji 👩‍🚀"), "日本 émoji 👩\\u{200d}🚀");
    }

    #[test]
    fn cutting_counts_columns() {
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(pad("日本語", 4), "日… ");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn ages_and_sizes() {
        assert_eq!([span(0), span(340), span(59_999), span(60_000)], ["0s", "340ms", "59s", "1m"]);
        assert_eq!([span(3_600_000 * 3), span(86_400_000 * 2)], ["3h", "2d"]);
        assert_eq!([size(0), size(100), size(34 << 20), size((12 << 30) / 10)], ["0", "1K", "34M", "1.1G"]);
    }

    proptest::proptest! {
        #[test]
        fn no_control_character_survives(text in proptest::prelude::any::<String>()) {
            proptest::prop_assert!(!escape_line(&text).chars().any(|c| c.is_control() || is_hidden(c)));
            proptest::prop_assert!(
                !escape_block(&text).chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || is_hidden(c))
            );
        }

        #[test]
        fn padding_is_exact(text in "\\PC{0,40}", columns in 0usize..40) {
            proptest::prop_assert_eq!(width(&pad(&escape_line(&text), columns)), columns);
        }
    }
}
