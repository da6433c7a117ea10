//! Texts with places in braces, as in `postgres://{user}@{host}:{port}`: what an environment's variables are made from.
//! Checked when read, so rendering cannot fail. Values are put in as they are, but for logins and names in a URL (after
//! `://`), which are escaped as URLs want it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What can stand in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The service's name, under which it is found.
    Host,
    /// Its address in digits, for programs that refuse names.
    Address,
    /// The port it listens at.
    Port,
    /// The user to log in as.
    User,
    /// Its password.
    Password,
    /// The database.
    Database,
    /// The schema in it, if every run has one of its own.
    Schema,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Host, Self::Address, Self::Port, Self::User, Self::Password, Self::Database, Self::Schema];

    /// The word in braces.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Address => "address",
            Self::Port => "port",
            Self::User => "user",
            Self::Password => "password",
            Self::Database => "database",
            Self::Schema => "schema",
        }
    }
}

/// What the places stand for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// See [`Field::Host`].
    pub host: String,
    /// See [`Field::Address`].
    pub address: String,
    /// See [`Field::Port`].
    pub port: u16,
    /// See [`Field::User`].
    pub user: String,
    /// See [`Field::Password`].
    pub password: String,
    /// See [`Field::Database`].
    pub database: String,
    /// See [`Field::Schema`].
    pub schema: String,
}

impl Values {
    fn get(&self, field: Field) -> String {
        match field {
            Field::Host => self.host.clone(),
            Field::Address => self.address.clone(),
            Field::Port => self.port.to_string(),
            Field::User => self.user.clone(),
            Field::Password => self.password.clone(),
            Field::Database => self.database.clone(),
            Field::Schema => self.schema.clone(),
        }
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({}:{})", self.host, self.port)
    }
}

/// A text with places. `{{` and `}}` stand for single braces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "postgres://{user}:{password}@{host}:{port}/{database}")]
pub struct Template(String);

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A word in braces that stands for nothing.
    #[error(
        "{{{0}}} stands for nothing here; there are {{host}}, {{address}}, {{port}}, {{user}}, {{password}}, {{database}} and {{schema}}"
    )]
    Unknown(String),
    /// A brace without its other half.
    #[error("a brace without its other half; write {{{{ for a single one")]
    Brace,
}

enum Piece<'a> {
    Text(&'a str),
    Field(Field),
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        pieces.push(Piece::Text(before));
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            pieces.push(Piece::Text(from.get(..1).unwrap_or_default()));
            rest = after;
            continue;
        }
        let (word, after) =
            from.strip_prefix('{').and_then(|f| f.split_once('}')).ok_or(TemplateError::Brace)?;
        let field = Field::ALL.into_iter().find(|f| f.word() == word);
        pieces.push(Piece::Field(field.ok_or_else(|| TemplateError::Unknown(word.to_owned()))?));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

impl Template {
    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which fields it has, in order.
    pub fn fields(&self) -> Vec<Field> {
        let pieces = pieces(&self.0).unwrap_or_default();
        pieces.iter().filter_map(|p| if let Piece::Field(f) = p { Some(*f) } else { None }).collect()
    }

    /// The text with its places filled.
    pub fn render(&self, values: &Values) -> String {
        let mut text = String::with_capacity(self.0.len());
        let mut url = false;
        for piece in pieces(&self.0).unwrap_or_default() {
            match piece {
                Piece::Text(part) => {
                    text.push_str(part);
                    url |= text.contains("://");
                }
                Piece::Field(field) if url => text.push_str(&escaped(&values.get(field))),
                Piece::Field(field) => text.push_str(&values.get(field)),
            }
        }
        text
    }
}

/// All but the unreserved characters of RFC 3986, percent-encoded. Names and addresses of services have no others.
fn escaped(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

impl FromStr for Template {
    type Err = TemplateError;
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        pieces(text).map(|_| Self(text.to_owned()))
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;
    fn try_from(text: String) -> Result<Self, TemplateError> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled() {
        let values = Values {
            host: "db".into(),
            port: 5432,
            user: "u".into(),
            password: "p".into(),
            database: "d".into(),
            ..Values::default()
        };
        for (text, want) in [
            ("postgres://{user}:{password}@{host}:{port}/{database}", "postgres://u:p@db:5432/d"),
            ("plain", "plain"),
            ("{{\"host\": \"{host}\"}}", "{\"host\": \"db\"}"),
            ("", ""),
        ] {
            assert_eq!(text.parse::<Template>().unwrap().render(&values), want);
        }
        let template: Template = "a://{user}:{password}@{host}/{database}".parse().unwrap();
        let values = Values { password: "p@ss:/é".into(), ..values };
        assert_eq!(template.render(&values), "a://u:p%40ss%3A%2F%C3%A9@db/d");
        assert_eq!("{password}".parse::<Template>().unwrap().render(&values), "p@ss:/é");
        for bad in ["{", "}", "{host", "a}b", "{hots}", "{}", "{{host}"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }
}
