//! Protocol clients and declarative definitions of coding agents.
