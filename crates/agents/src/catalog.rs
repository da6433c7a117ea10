//! The agents there are: those shipped with Offshoot, changed or joined by the user's own.
//!
//! A user's text has the form of a definition. If it has the name of a known one, or says `extends = "NAME"`, it need
//! only hold what is different: tables are merged, everything else is replaced.

use std::collections::BTreeMap;

use thiserror::Error;
use toml::{Table, Value};

use crate::definition::AgentDefinition;

const SHIPPED: [(&str, &str); 6] = [
    ("claude", include_str!("../definitions/claude.toml")),
    ("codex", include_str!("../definitions/codex.toml")),
    ("gemini", include_str!("../definitions/gemini.toml")),
    ("opencode", include_str!("../definitions/opencode.toml")),
    ("aider", include_str!("../definitions/aider.toml")),
    ("scripted", include_str!("../definitions/scripted.toml")),
];

/// A definition that could not be taken.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// It is not TOML.
    #[error("{origin} is not valid TOML")]
    Syntax {
        /// Where the text came from.
        origin: String,
        /// What is wrong.
        #[source]
        source: toml::de::Error,
    },
    /// It is not a definition.
    #[error("{origin} does not define an agent")]
    Shape {
        /// Where the text came from.
        origin: String,
        /// What is wrong.
        #[source]
        source: toml::de::Error,
    },
    /// It has no name.
    #[error("{origin} has no `name`")]
    Nameless {
        /// Where the text came from.
        origin: String,
    },
    /// It extends an agent that does not exist.
    #[error("{origin} extends `{base}`, which is not known")]
    UnknownBase {
        /// Where the text came from.
        origin: String,
        /// What it extends.
        base: String,
    },
    /// The command is empty.
    #[error("{origin}: `command` is empty")]
    NoCommand {
        /// Where the text came from.
        origin: String,
    },
}

/// All agents by name.
#[derive(Debug, Clone)]
pub struct Catalog {
    agents: BTreeMap<String, AgentDefinition>,
}

impl Catalog {
    /// The shipped agents.
    pub fn shipped() -> Result<Self, CatalogError> {
        Self::with(std::iter::empty())
    }

    /// The shipped agents and the user's, given as (origin for messages, text), in the order in which they count.
    pub fn with<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, CatalogError> {
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        let mut agents = BTreeMap::new();
        for (origin, text) in SHIPPED.into_iter().chain(texts) {
            let origin = || origin.to_owned();
            let mut table: Table =
                text.parse().map_err(|source| CatalogError::Syntax { origin: origin(), source })?;
            let extends = table.remove("extends").and_then(|base| base.as_str().map(str::to_owned));
            let name = table.get("name").and_then(Value::as_str).map(str::to_owned);
            let name = name.ok_or_else(|| CatalogError::Nameless { origin: origin() })?;
            let mut merged = match extends {
                Some(base) => tables
                    .get(&base)
                    .cloned()
                    .ok_or_else(|| CatalogError::UnknownBase { origin: origin(), base })?,
                None => tables.get(&name).cloned().unwrap_or_default(),
            };
            merge(&mut merged, table);
            let agent: AgentDefinition = Value::Table(merged.clone())
                .try_into()
                .map_err(|source| CatalogError::Shape { origin: origin(), source })?;
            if agent.program().is_empty() {
                return Err(CatalogError::NoCommand { origin: origin() });
            }
            tables.insert(name.clone(), merged);
            agents.insert(name, agent);
        }
        Ok(Self { agents })
    }

    /// An agent by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&AgentDefinition> {
        self.agents.get(name)
    }

    /// All agents, by name.
    pub fn iter(&self) -> impl Iterator<Item = &AgentDefinition> {
        self.agents.values()
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_definitions_are_valid_and_named_like_their_files() {
        let catalog = Catalog::shipped().unwrap();
        for (name, _) in SHIPPED {
            assert_eq!(catalog.get(name).unwrap().name, name);
        }
        assert_eq!(catalog.iter().count(), SHIPPED.len());
    }

    #[test]
    fn a_user_changes_and_extends_agents() {
        let own = [
            ("a.toml", "name = 'claude'\nmemory_mb = 1\n[env]\nMINE = 'x'"),
            ("b.toml", "name = 'proxy'\nextends = 'claude'\ntitle = 'Mine'"),
        ];
        let catalog = Catalog::with(own).unwrap();
        let claude = catalog.get("claude").unwrap();
        assert_eq!(claude.memory_mb, 1);
        assert_eq!(claude.env["MINE"], "x");
        assert!(claude.env.contains_key("CLAUDE_CONFIG_DIR"));
        let mine = catalog.get("proxy").unwrap();
        assert_eq!((mine.title.as_str(), mine.program()), ("Mine", "claude"));
    }

    #[test]
    fn mistakes_are_named() {
        let fails = |text: &str| Catalog::with([("x.toml", text)]).unwrap_err().to_string();
        assert_eq!(fails("title = 'x'"), "x.toml has no `name`");
        assert_eq!(fails("name = 'x'\nextends = 'y'"), "x.toml extends `y`, which is not known");
        assert_eq!(fails("name = 'claude'\ncommand = []"), "x.toml: `command` is empty");
        assert_eq!(fails("name = 'claude'\nmemory = 3"), "x.toml does not define an agent");
        assert_eq!(fails("name = "), "x.toml is not valid TOML");
    }
}
