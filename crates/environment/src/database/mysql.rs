//! Parts of a MySQL or MariaDB server: a database, and a user with rights to that one only.
//!
//! The protocol lets a session change its user, so it is the server that keeps environments apart; one that lets
//! somebody in without a password is refused.

use mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable};
use offshoot_core::fault;

use super::{address::Server, part::Part, servers::Fault};

/// Codes of MySQL: access denied, to a database; unknown database; rights missing for a statement.
const DENIED: [u16; 4] = [1045, 1044, 1698, 1049];
const RIGHTS: [u16; 4] = [1227, 1142, 1141, 1410];

fn fault_of(error: &mysql_async::Error) -> Fault {
    match error {
        mysql_async::Error::Server(said) if RIGHTS.contains(&said.code) => Fault::Right(said.message.clone()),
        mysql_async::Error::Server(said) if DENIED.contains(&said.code) => Fault::Login(said.message.clone()),
        mysql_async::Error::Server(said) => Fault::Other(said.message.clone()),
        mysql_async::Error::Io(_) => Fault::Away(offshoot_core::problem::chain(error)),
        other => Fault::Other(offshoot_core::problem::chain(other)),
    }
}

async fn connect(host: &str, port: u16, user: &str, password: &str, database: &str) -> Result<Conn, Fault> {
    let builder = OptsBuilder::default()
        .ip_or_hostname(host)
        .tcp_port(port)
        .user(Some(user))
        .pass((!password.is_empty()).then_some(password))
        .db_name((!database.is_empty()).then_some(database))
        // Never by a socket instead, which a server may trust more.
        .prefer_socket(false);
    Conn::new(Opts::from(builder)).await.map_err(|error| fault_of(&error))
}

async fn administrator(server: &Server) -> Result<Conn, Fault> {
    let mut conn = connect(&server.host, server.port, &server.user, &server.password, "").await?;
    run(&mut conn, "SET lock_wait_timeout = 20").await?;
    Ok(conn)
}

async fn run(conn: &mut Conn, statement: &str) -> Result<(), Fault> {
    conn.query_drop(statement).await.map_err(|error| fault_of(&error))
}

async fn make(conn: &mut Conn, statement: &str) -> Result<(), Fault> {
    run(conn, statement).await.map_err(|fault| match fault {
        // Logged in already, so it is a right that is missing.
        Fault::Login(message) => Fault::Right(message),
        other => other,
    })
}

/// Makes a database for a part.
pub(super) async fn database(server: &Server, part: &Part) -> Result<(), Fault> {
    let mut conn = administrator(server).await?;
    for user in [server.user.as_str(), "root", ""] {
        if let Ok(let_in) = connect(&server.host, server.port, user, "", "").await {
            let _ = let_in.disconnect().await;
            return Err(Fault::Open(format!("it lets {user:?} in without a password")));
        }
    }
    let (user, password, name) = (&part.user, &part.password, &part.database);
    make(&mut conn, &format!("CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}'")).await?;
    make(&mut conn, &format!("ALTER USER '{user}'@'%' IDENTIFIED BY '{password}'")).await?;
    fault::point("database.role");
    make(&mut conn, &format!("CREATE DATABASE IF NOT EXISTS `{name}`")).await?;
    fault::point("database.made");
    // A name in a grant is a pattern.
    let pattern = name.replace('_', "\\_");
    make(&mut conn, &format!("GRANT ALL PRIVILEGES ON `{pattern}`.* TO '{user}'@'%'")).await?;
    conn.disconnect().await.map_err(|error| fault_of(&error))
}

/// Whether a part lets its user in.
pub(super) async fn check(part: &Part) -> Result<(), Fault> {
    let mut conn = connect(&part.host, part.host_port, &part.user, &part.password, &part.database).await?;
    run(&mut conn, "SELECT 1").await?;
    conn.disconnect().await.map_err(|error| fault_of(&error))
}

/// Drops a database and its user, both of that name.
pub(super) async fn remove(server: &Server, name: &str) -> Result<(), Fault> {
    let mut conn = administrator(server).await?;
    // Nobody logs in any more, then nobody is there.
    run(&mut conn, &format!("DROP USER IF EXISTS '{name}'@'%'")).await?;
    let query = format!("SELECT id FROM information_schema.processlist WHERE user = '{name}'");
    let sessions: Vec<u64> = conn.query(query).await.map_err(|error| fault_of(&error))?;
    for session in sessions {
        // It may have ended by itself.
        let _ = run(&mut conn, &format!("KILL {session}")).await;
    }
    fault::point("database.dropping");
    run(&mut conn, &format!("DROP DATABASE IF EXISTS `{name}`")).await?;
    conn.disconnect().await.map_err(|error| fault_of(&error))
}
