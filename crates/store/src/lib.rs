//! The event log and its projections in SQLite: the one place where Offshoot remembers, and the only crate with SQL.
//!
//! | file | what |
//! |---|---|
//! | `open` | opening and closing: one opener at a time, damage noticed and refused |
//! | `migrations` | the tables, and how older ones become today's |
//! | `append` | the only way a record changes: events in, folded, in one transaction |
//! | `rows` | records to rows and back |
//! | `hot` | the bounded memory of records in use |
//! | `query` | what can be asked |
//! | `approvals` | what became of approvals |
//! | `readers` | the connections that questions use |
//! | `backup` | copies, and where the newest is |
//! | `rebuild` | the log folded again |
//! | `error` | what goes wrong |

mod append;
mod approvals;
mod backup;
mod error;
mod hot;
mod migrations;
mod open;
mod query;
mod readers;
mod rebuild;
mod rows;

pub use append::NewEntry;
pub use approvals::PastApproval;
pub use error::{AppendError, OpenError, StoreError};
pub use open::Store;
pub use query::{Project, QueuedRun, TaskFilter};
