//! Values of a JSON text that know where in it they stand. Built on `serde_json`'s raw values, which borrow from the text,
//! so a place is the difference of two addresses. Called by `read`; knows nothing of services.

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::config::ConfigError;

/// A value of the text.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    whole: &'a str,
    raw: &'a str,
}

/// The kinds of value there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    Text,
    List,
    Object,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

/// A key of an object with its value.
pub(super) struct Member<'a> {
    pub key: String,
    pub at: Node<'a>,
    pub value: Node<'a>,
}

struct Raw<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Raw<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Raw(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

struct RawList<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for RawList<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = RawList<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawList<'de>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(RawList(items))
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

impl<'a> Node<'a> {
    /// The value that a whole text is.
    pub(super) fn root(whole: &'a str) -> Result<Self, ConfigError> {
        let raw: &'a RawValue = serde_json::from_str(whole).map_err(|error| syntax(whole, &error))?;
        Ok(Self { whole, raw: raw.get() })
    }

    /// Where it stands, in bytes.
    pub(super) fn span(&self) -> Range<usize> {
        // Both point into the same text; were they ever not to, the whole text is a place too.
        let start = (self.raw.as_ptr() as usize).wrapping_sub(self.whole.as_ptr() as usize);
        let end = start.saturating_add(self.raw.len());
        if self.whole.get(start..end).is_some() { start..end } else { 0..self.whole.len() }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.raw.bytes().next() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::List,
            Some(b'"') => Kind::Text,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// An error at this place.
    pub(super) fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError { message: message.into(), span: Some(self.span()) }
    }

    /// An error that says what should stand here.
    pub(super) fn expected(&self, what: &str) -> ConfigError {
        self.error(format!("this is {}; {what} is wanted", self.kind().words()))
    }

    /// The members, in the order of the text, each key once, at most `limit`.
    pub(super) fn object(&self, what: &str, limit: usize) -> Result<Vec<Member<'a>>, ConfigError> {
        if self.kind() != Kind::Object {
            return Err(self.expected(what));
        }
        let Raw(pairs) = serde_json::from_str(self.raw).map_err(|e| self.error(reason(&e)))?;
        if pairs.len() > limit {
            return Err(self.error(format!("{} entries; at most {limit} are allowed", pairs.len())));
        }
        let mut members: Vec<Member<'a>> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let at = Self { whole: self.whole, raw: key.get() };
            let value = Self { whole: self.whole, raw: value.get() };
            let key = at.text("a key")?;
            if members.iter().any(|m| m.key == key) {
                return Err(at.error(format!("{key:?} stands here twice")));
            }
            members.push(Member { key, at, value });
        }
        Ok(members)
    }

    /// The items, at most `limit`.
    pub(super) fn list(&self, what: &str, limit: usize) -> Result<Vec<Self>, ConfigError> {
        if self.kind() != Kind::List {
            return Err(self.expected(what));
        }
        let RawList(items) = serde_json::from_str(self.raw).map_err(|e| self.error(reason(&e)))?;
        if items.len() > limit {
            return Err(self.error(format!("{} entries; at most {limit} are allowed", items.len())));
        }
        Ok(items.into_iter().map(|item| Self { whole: self.whole, raw: item.get() }).collect())
    }

    /// The text, without control characters other than line breaks and tabs.
    pub(super) fn text(&self, what: &str) -> Result<String, ConfigError> {
        if self.kind() != Kind::Text {
            return Err(self.expected(what));
        }
        let text: String = serde_json::from_str(self.raw).map_err(|e| self.error(reason(&e)))?;
        if text.len() > super::MAX_VALUE {
            return Err(self.error(format!("longer than {} bytes", super::MAX_VALUE)));
        }
        if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\r')) {
            return Err(self.error("a control character cannot stand here"));
        }
        Ok(text)
    }

    /// A text, a number or true or false, as a text.
    pub(super) fn scalar(&self, what: &str) -> Result<String, ConfigError> {
        match self.kind() {
            Kind::Number | Kind::Bool => Ok(self.raw.to_owned()),
            _ => self.text(what),
        }
    }

    pub(super) fn bool(&self) -> Result<bool, ConfigError> {
        if self.kind() != Kind::Bool {
            return Err(self.expected("true or false"));
        }
        Ok(self.raw == "true")
    }

    /// A whole number from `least` to `most`.
    pub(super) fn number(&self, least: u32, most: u32) -> Result<u32, ConfigError> {
        if self.kind() != Kind::Number {
            return Err(self.expected("a number"));
        }
        let number = self.raw.parse().ok().filter(|n| (least..=most).contains(n));
        number.ok_or_else(|| self.error(format!("{} is not a number from {least} to {most}", self.raw)))
    }
}

/// What serde_json says, without the place, which is shown otherwise.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

fn syntax(text: &str, error: &serde_json::Error) -> ConfigError {
    let line_start: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let mut start = (line_start + error.column().saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let end = text.get(start..).and_then(|rest| rest.chars().next()).map_or(start, |c| start + c.len_utf8());
    ConfigError { message: format!("this is not JSON: {}", reason(error)), span: Some(start..end) }
}
