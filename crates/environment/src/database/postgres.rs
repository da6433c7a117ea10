//! Parts of a PostgreSQL server (13 or newer): a database copied from a template, or a schema, owned by a role of its own.
//!
//! A template is a database that nobody can connect to. What is in it belongs to the role `offshoot_template`, which
//! cannot log in, has no member and owns no database; in a copy it is given to the copy's own role.

use std::time::Duration;

use offshoot_core::fault;
use tokio_postgres::{Client, Config, NoTls, error::SqlState};

use super::{address::Server, part::Part, servers::Fault};

/// The owner of what is in templates.
const OWNER: &str = "offshoot_template";
/// A template of more bytes is copied file by file, which costs the server two checkpoints; a smaller one goes through its
/// log, which costs it three times the bytes.
const FILES: i64 = 48 << 20;

/// A name as SQL takes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn fault_of(error: &tokio_postgres::Error) -> Fault {
    let Some(said) = error.as_db_error() else {
        return Fault::Away(offshoot_core::problem::chain(error));
    };
    let message = said.message().to_owned();
    match *said.code() {
        SqlState::INVALID_PASSWORD
        | SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        | SqlState::INVALID_CATALOG_NAME => Fault::Login(message),
        SqlState::INSUFFICIENT_PRIVILEGE => Fault::Right(message),
        SqlState::OBJECT_IN_USE => Fault::InUse(message),
        SqlState::CANNOT_CONNECT_NOW | SqlState::TOO_MANY_CONNECTIONS | SqlState::ADMIN_SHUTDOWN => {
            Fault::Away(message)
        }
        _ => Fault::Other(message),
    }
}

async fn connect(host: &str, port: u16, user: &str, password: &str, database: &str) -> Result<Client, Fault> {
    let mut config = Config::new();
    config.host(host).port(port).user(user).dbname(database).application_name("offshoot");
    config.connect_timeout(Duration::from_secs(5));
    if !password.is_empty() {
        config.password(password);
    }
    let (client, connection) = config.connect(NoTls).await.map_err(|error| match fault_of(&error) {
        // Asked for a password that the URL does not have, or for encryption: said by the client itself.
        Fault::Away(reason) if error.is_closed() || !reason.contains("connecting") => Fault::Login(reason),
        fault => fault,
    })?;
    tokio::spawn(connection);
    Ok(client)
}

/// In a database of the server as its administrator.
async fn administrator(server: &Server, database: &str) -> Result<Client, Fault> {
    let client = connect(&server.host, server.port, &server.user, &server.password, database).await?;
    // Whoever holds a lock for longer than that is somebody's forgotten session.
    run(&client, "SET lock_timeout = '20s'").await?;
    run(&client, "SET client_min_messages = error").await?;
    Ok(client)
}

async fn run(client: &Client, statement: &str) -> Result<(), Fault> {
    client.batch_execute(statement).await.map_err(|error| fault_of(&error))
}

/// The first column of the first row, as text.
async fn ask(client: &Client, query: &str) -> Result<Option<String>, Fault> {
    let messages = client.simple_query(query).await.map_err(|error| fault_of(&error))?;
    Ok(messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    }))
}

/// A role that may log in and nothing else, in which the administrator can act.
async fn role(client: &Client, part: &Part) -> Result<(), Fault> {
    let name = quoted(&part.user);
    let rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT";
    let there = ask(client, &format!("SELECT 1 FROM pg_roles WHERE rolname = '{}'", part.user)).await?;
    let verb = if there.is_some() { "ALTER" } else { "CREATE" };
    run(client, &format!("{verb} ROLE {name} {rights} PASSWORD '{}'", part.password)).await?;
    run(client, &format!("GRANT {name} TO CURRENT_USER")).await
}

async fn has_database(client: &Client, name: &str) -> Result<bool, Fault> {
    Ok(ask(client, &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'")).await?.is_some())
}

/// Makes a database for a part.
pub(super) async fn database(server: &Server, part: &Part, template: Option<&str>) -> Result<(), Fault> {
    let client = administrator(server, &server.database).await?;
    role(&client, part).await?;
    fault::point("database.role");
    let name = quoted(&part.database);
    if !has_database(&client, &part.database).await? {
        let mut statement = format!("CREATE DATABASE {name} OWNER {}", quoted(&part.user));
        if let Some(template) = template {
            statement += &format!(" TEMPLATE {}", quoted(template));
            let asked = format!("SELECT pg_database_size('{template}')");
            let bytes = ask(&client, &asked).await?.and_then(|n| n.parse::<i64>().ok()).unwrap_or_default();
            // Known since 15; older ones always copy files.
            if bytes > FILES && version(&client).await? >= 15 {
                statement += " STRATEGY file_copy";
            }
        }
        run(&client, &statement).await?;
    }
    fault::point("database.made");
    run(&client, &format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC")).await?;
    if template.is_some() {
        let within = administrator(server, &part.database).await?;
        run(&within, &format!("REASSIGN OWNED BY {OWNER} TO {}", quoted(&part.user))).await?;
    }
    Ok(())
}

async fn version(client: &Client) -> Result<u32, Fault> {
    let number = ask(client, "SHOW server_version_num").await?.and_then(|n| n.parse::<u32>().ok());
    Ok(number.unwrap_or_default() / 10_000)
}

/// Makes a schema for a part, in the server's database.
pub(super) async fn schema(server: &Server, part: &Part) -> Result<(), Fault> {
    let client = administrator(server, &server.database).await?;
    role(&client, part).await?;
    fault::point("database.role");
    let (name, within) = (quoted(&part.schema), quoted(&part.database));
    run(&client, &format!("CREATE SCHEMA IF NOT EXISTS {name} AUTHORIZATION {}", quoted(&part.user))).await?;
    fault::point("database.made");
    run(&client, &format!("ALTER ROLE {} IN DATABASE {within} SET search_path = {name}", quoted(&part.user)))
        .await?;
    let asked = format!("SELECT has_database_privilege('{}', current_database(), 'CONNECT')", part.user);
    if ask(&client, &asked).await?.as_deref() != Some("t") {
        run(&client, &format!("GRANT CONNECT ON DATABASE {within} TO {}", quoted(&part.user))).await?;
    }
    Ok(())
}

/// Whether a part lets its user in.
pub(super) async fn check(part: &Part) -> Result<(), Fault> {
    let client = connect(&part.host, part.host_port, &part.user, &part.password, &part.database).await?;
    run(&client, "SELECT 1").await
}

/// Whether there is a template of this name.
pub(super) async fn has_template(server: &Server, name: &str) -> Result<bool, Fault> {
    has_database(&administrator(server, &server.database).await?, name).await
}

/// Makes a seeded database, with its role, a template.
pub(super) async fn seal(server: &Server, building: &Part, name: &str) -> Result<(), Fault> {
    let client = administrator(server, &server.database).await?;
    end_sessions(&client, &building.user).await?;
    // Somebody else may do the same at this moment.
    let made = run(&client, &format!("CREATE ROLE {OWNER} NOLOGIN")).await;
    let there = ask(&client, &format!("SELECT 1 FROM pg_roles WHERE rolname = '{OWNER}'")).await?;
    if there.is_none() {
        made?;
    }
    run(&client, &format!("GRANT {OWNER} TO CURRENT_USER")).await?;
    let (from, role) = (quoted(&building.database), quoted(&building.user));
    // First, so that the database itself is not given away with what is in it.
    run(&client, &format!("ALTER DATABASE {from} OWNER TO CURRENT_USER")).await?;
    let within = administrator(server, &building.database).await?;
    run(&within, &format!("REASSIGN OWNED BY {role} TO {OWNER}")).await?;
    run(&within, &format!("DROP OWNED BY {role}")).await?;
    drop(within);
    run(&client, &format!("ALTER DATABASE {from} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true")).await?;
    run(&client, &format!("DROP ROLE {role}")).await?;
    fault::point("database.sealed");
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
        building.database
    );
    ask(&client, &end).await?;
    // The connection within may take a moment to end.
    let mut renamed = run(&client, &format!("ALTER DATABASE {from} RENAME TO {}", quoted(name))).await;
    for _ in 0..40 {
        if !matches!(renamed, Err(Fault::InUse(_))) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        renamed = run(&client, &format!("ALTER DATABASE {from} RENAME TO {}", quoted(name))).await;
    }
    match renamed {
        // Somebody else was quicker.
        Err(_) if has_database(&client, name).await? => remove_database(server, &building.database).await,
        other => other,
    }
}

async fn end_sessions(client: &Client, user: &str) -> Result<(), Fault> {
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'");
    ask(client, &end).await.map(drop)
}

/// Drops a database and its role, both of that name.
pub(super) async fn remove_database(server: &Server, name: &str) -> Result<(), Fault> {
    let client = administrator(server, &server.database).await?;
    let there =
        ask(&client, &format!("SELECT datistemplate FROM pg_database WHERE datname = '{name}'")).await?;
    if there.as_deref() == Some("t") {
        run(&client, &format!("ALTER DATABASE {} IS_TEMPLATE false", quoted(name))).await?;
    }
    end_sessions(&client, name).await?;
    run(&client, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))).await?;
    fault::point("database.dropping");
    run(&client, &format!("DROP ROLE IF EXISTS {}", quoted(name))).await
}

/// Drops a schema and its role, both of that name.
pub(super) async fn remove_schema(server: &Server, name: &str) -> Result<(), Fault> {
    let client = administrator(server, &server.database).await?;
    let there = ask(&client, &format!("SELECT 1 FROM pg_roles WHERE rolname = '{name}'")).await?;
    if there.is_some() {
        run(&client, &format!("ALTER ROLE {} NOLOGIN", quoted(name))).await?;
        end_sessions(&client, name).await?;
    }
    run(&client, &format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(name))).await?;
    fault::point("database.dropping");
    if there.is_some() {
        run(&client, &format!("DROP OWNED BY {} CASCADE", quoted(name))).await?;
        run(&client, &format!("DROP ROLE {}", quoted(name))).await?;
    }
    Ok(())
}
