//! The heart: what the daemon decides and does. Everything a client may ask for is a method of [`Engine`].
//!
//! | room | what it owns |
//! |---|---|
//! | `engine` | the shared state, start, recovery and end; how tasks are found and shown |
//! | `ledger` | writing to the log, and following it |
//! | `dispatch` | taking tasks and follow-ups in |
//! | `notices` | what is said about where a task starts |
//! | `admission` | who may start now: pure |
//! | `run` | the driver of one run, from state to state |
//! | `environments` | sandboxes: made, adopted, thawed, brought up again, taken away |
//! | `services` | databases and the like: planned, looked after, waited for |
//! | `adopt` | worktrees that others made |
//! | `databases` | parts of shared servers: made, led to, dropped, now or later |
//! | `worktrees` | environments without a boundary: when, of what, and their files |
//! | `apps` | a project's long-lived commands, for a person to look at |
//! | `doors` | host names and ports of this machine that lead inside |
//! | `guard` | what is watched: disk, and who uses what nobody needs |
//! | `approvals`, `answers` | what waits for a person, and what the answer is |
//! | `hosts` | connections to hosts that no rule names: asked about, held, let go |
//! | `history` | what was asked and answered, out of the log |
//! | `presence`, `attention` | what people look at; what they are told when they do not |
//! | `launch`, `converse` | the agent: started once, and talked with |
//! | `composition`, `declared` | what a new environment is made of; what its repositories say is to run in it |
//! | `shared` | apps of repositories that a task is not about, one instance for all |
//! | `proxy` | the egress proxy of a sandbox, and its refusals recorded |
//! | `others`, `parts` | a task's further repositories: taken in and made; all of them as one list |
//! | `snapshot`, `harvest` | checkpoints, and bringing commits out |
//! | `diff`, `comments` | what a task changed, and comments on its lines |
//! | `checks` | the project's check, and what it said |
//! | `restore` | the workspace as it was at a checkpoint |
//! | `review`, `landing` | bringing work out for a look; landing, and what it would do |
//! | `together` | landing several repositories, or none |
//! | `exec` | commands and terminals for a person |
//! | `capacity`, `plan`, `disk` | how many more fit; what a new task would be; what takes up the disk |
//! | `cleanup` | discard and prune |
//! | `project`, `secrets`, `stream`, `clock` | what these stand on |

mod admission;
mod adopt;
mod answers;
mod approvals;
mod apps;
mod attention;
mod capacity;
mod checks;
mod cleanup;
mod clock;
mod comments;
mod composition;
mod converse;
mod databases;
mod declared;
mod diff;
mod disk;
mod dispatch;
mod doors;
mod engine;
mod environments;
mod exec;
mod guard;
mod harvest;
mod history;
mod hosts;
mod landing;
mod launch;
mod ledger;
mod notices;
mod others;
mod parts;
mod plan;
mod presence;
mod project;
mod proxy;
mod restore;
mod review;
mod run;
mod secrets;
mod services;
mod shared;
mod snapshot;
mod stream;
mod together;
mod worktrees;

pub use diff::{DiffRequest, FileRequest};
pub use engine::{Engine, Options, TaskRef};
pub use landing::LandingRequest;
pub use offshoot_environment::monitor::hook_main as monitor_main;
pub use offshoot_git::inside::monitor::NAME as MONITOR_HOOK;
pub use stream::{ExecStream, StreamInput, StreamItem};
