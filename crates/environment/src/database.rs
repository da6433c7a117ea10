//! An environment's part of a shared server: a database, or a schema in one, and a login for it alone, on a server that runs
//! already.
//!
//! | file | owns |
//! |---|---|
//! | `address` | where a server is and who may make databases on it, out of its URL |
//! | `part` | what one environment has there: names, login, where it is found inside |
//! | `register` | what was begun on servers, noted before it is begun, until it is known to be gone |
//! | `servers` | making, looking at and dropping, whatever the kind; each with a deadline |
//! | `postgres`, `mysql`, `redis` | the same for one kind |
//! | `seed` | what a part holds at first |
//!
//! Invariants: names follow from the environment's id and are on disk before anything exists by them, so whatever a killed
//! process left is found and dropped; the server's own login is in nothing that is written or shown inside; what was not
//! made here is not touched, neither other databases nor the rights that others have.
//!
//! Called by the engine, which says which server a name means, and leads listeners of a sandbox there.

mod address;
mod mysql;
mod part;
mod postgres;
mod redis;
mod register;
mod seed;
mod servers;

pub use address::{Kind, Server, UrlError};
pub use part::{Part, PartError};
pub use register::{Leased, Register, What};
pub use seed::{SeedError, Seeding, Serve};
pub use servers::{Fault, ServerError, check, make, remove, templates_of};
