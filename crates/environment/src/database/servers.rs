//! Making, looking at and dropping parts of servers, whatever the kind, each with a deadline: a server that does not answer
//! holds nobody up for long.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use super::{
    address::{Kind, Server},
    mysql,
    part::Part,
    postgres, redis,
    register::{Leased, What},
};

/// For logging in as somebody, and for what is then asked in a moment.
pub(super) const LOOK: Duration = Duration::from_secs(10);
/// For copying a template: a hundred gigabytes on a slow disk.
pub(super) const MAKE: Duration = Duration::from_secs(1800);
/// For dropping: sessions are ended first, and a checkpoint may be waited for.
const REMOVE: Duration = Duration::from_secs(60);

/// What a server said, or did not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody answers.
    #[error("it is not reachable: {0}")]
    Away(String),
    /// It does not let us in.
    #[error("it refused the login: {0}")]
    Login(String),
    /// The login may not make users and databases.
    #[error("its login has no right to make users and databases: {0}")]
    Right(String),
    /// Somebody is in the template.
    #[error("the template is in use: {0}")]
    InUse(String),
    /// Everybody is let in, so no part of it would be separate.
    #[error("it would not keep environments apart: {0}")]
    Open(String),
    /// It cannot do what is needed.
    #[error("it cannot be shared: {0}")]
    Unfit(String),
    /// Something else.
    #[error("it said: {0}")]
    Other(String),
}

/// Why something did not happen on a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared server {server}: {fault}")]
pub struct ServerError {
    /// Its name.
    pub server: String,
    /// Why.
    pub fault: Fault,
}

pub(super) async fn within<T>(
    server: &str,
    limit: Duration,
    asked: impl Future<Output = Result<T, Fault>>,
) -> Result<T, ServerError> {
    let answered = tokio::time::timeout(limit, asked).await;
    let answered =
        answered.unwrap_or_else(|_| Err(Fault::Away(format!("no answer in {} s", limit.as_secs()))));
    answered.map_err(|fault| ServerError { server: server.to_owned(), fault })
}

/// Makes a part, as a copy of a template if there is one. What is there already from an earlier attempt is taken over.
/// Of Redis, notes in the part which number it got.
pub async fn make(server: &Server, part: &mut Part, template: Option<&str>) -> Result<(), ServerError> {
    let made = async {
        match server.kind {
            Kind::Postgres if part.schema.is_empty() => postgres::database(server, part, template).await,
            Kind::Postgres => postgres::schema(server, part).await,
            Kind::Mysql => mysql::database(server, part).await,
            Kind::Redis => {
                part.database = redis::database(server, part).await?.to_string();
                Ok(())
            }
        }
    };
    let began = Instant::now();
    within(&server.name, MAKE, made).await?;
    tracing::info!(server = server.name, name = part.user, ms = began.elapsed().as_millis(), "part made");
    Ok(())
}

/// Whether a part can be logged in to.
pub async fn check(part: &Part) -> Result<(), ServerError> {
    let looked = async {
        match part.kind {
            Kind::Postgres => postgres::check(part).await,
            Kind::Mysql => mysql::check(part).await,
            Kind::Redis => redis::check(part).await,
        }
    };
    within(&part.server, LOOK, looked).await
}

/// Ends the sessions of what was begun and drops it; good, too, if nothing is there.
pub async fn remove(server: &Server, leased: &Leased) -> Result<(), ServerError> {
    let gone = async {
        match (leased.kind, leased.what) {
            _ if server.kind != leased.kind => {
                Err(Fault::Unfit("its name means a server of another kind by now".to_owned()))
            }
            (Kind::Postgres, What::Schema) => postgres::remove_schema(server, &leased.name).await,
            (Kind::Postgres, What::Database | What::Template) => {
                postgres::remove_database(server, &leased.name).await
            }
            (Kind::Mysql, _) => mysql::remove(server, &leased.name).await,
            (Kind::Redis, _) => redis::remove(server, &leased.name).await,
        }
    };
    within(&server.name, REMOVE, gone).await
}

/// Whether parts of this kind are copied from a template: made quickly, however much is in it.
pub fn templates_of(part: &Part) -> bool {
    part.kind == Kind::Postgres && part.schema.is_empty() && part.service.seed.is_some()
}
