//! Variables in a compose file: `$NAME`, `${NAME:-default}` and their like. No value of this machine gets in: what has a
//! default gets it, what has none stays open. `PWD` is the repository.

use super::yaml::Yaml;

/// How deep defaults may stand in defaults.
const MAX_DEPTH: usize = 8;
/// Longest text that comes out.
const MAX_TEXT: usize = 64 << 10;

/// Fills in all texts of a value; those that cannot be become [`Yaml::Open`].
pub(super) fn fill(value: &mut Yaml) {
    match value {
        Yaml::Text(text) if text.contains('$') => {
            *value = match expand(text, 0) {
                Ok(text) => Yaml::Text(text),
                Err(Missing(name)) => Yaml::Open(name),
            };
        }
        Yaml::List(items) => items.iter_mut().for_each(fill),
        Yaml::Map(entries) => entries.iter_mut().for_each(|(_, value)| fill(value)),
        _ => {}
    }
}

/// A variable without a value.
struct Missing(String);

fn expand(text: &str, depth: usize) -> Result<String, Missing> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if out.len() > MAX_TEXT {
            return Err(Missing("too long".to_owned()));
        }
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((inner, after)) = after.strip_prefix('{').and_then(braced) {
            out.push_str(&braces(inner, depth)?);
            rest = after;
        } else {
            let (name, after) = after.split_at(name_length(after));
            match name {
                "" => out.push('$'),
                name => out.push_str(&value(name)?),
            }
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn name_length(text: &str) -> usize {
    let name =
        |(at, c): &(usize, char)| c.is_ascii_alphabetic() || *c == '_' || (*at > 0 && c.is_ascii_digit());
    text.char_indices().take_while(name).count()
}

/// Splits at the brace that ends what stands at the beginning.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut open = 1usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
    }
    None
}

fn value(name: &str) -> Result<String, Missing> {
    if name == "PWD" { Ok(".".to_owned()) } else { Err(Missing(name.to_owned())) }
}

fn braces(inner: &str, depth: usize) -> Result<String, Missing> {
    let (name, rest) = inner.split_at(name_length(inner));
    if name.is_empty() || depth >= MAX_DEPTH {
        return Err(Missing(inner.chars().take(40).collect()));
    }
    let known = value(name);
    let word = rest.strip_prefix(':').unwrap_or(rest);
    if let Some(default) = word.strip_prefix('-') {
        return known.or_else(|_| expand(default, depth + 1));
    }
    if let Some(instead) = word.strip_prefix('+') {
        return if known.is_ok() { expand(instead, depth + 1) } else { Ok(String::new()) };
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_taken_and_nothing_else() {
        for (text, want) in [
            ("plain", Ok("plain")),
            ("${A:-x}", Ok("x")),
            ("postgres:${TAG-16}-alpine", Ok("postgres:16-alpine")),
            ("${A:-${B:-deep}}", Ok("deep")),
            ("${A:-}", Ok("")),
            ("${A:+x}y", Ok("y")),
            ("$$HOME costs 5$", Ok("$HOME costs 5$")),
            ("${PWD}/db", Ok("./db")),
            ("$PWD/db", Ok("./db")),
            ("${HOME}", Err("HOME")),
            ("a $HOME b", Err("HOME")),
            ("${A:?must be set}", Err("A")),
            ("${A:-${B}}", Err("B")),
            ("${", Ok("${")),
            ("${}", Err("")),
            ("${!x}", Err("!x")),
            ("é$", Ok("é$")),
        ] {
            let got = expand(text, 0).map_err(|m| m.0);
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{text}");
        }
        let deep = "${A:-".repeat(50_000) + &"}".repeat(50_000);
        assert!(expand(&deep, 0).is_err());
    }
}
