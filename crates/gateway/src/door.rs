//! The way out to one shared server, as one guest of it: what an environment that has a part of a database server reaches
//! under the service's name. Nothing else is reached by it: the address is the host's to say, never the inside's.
//!
//! Where a protocol says at its beginning who wants to go where, that is held here, too: at PostgreSQL only the guest's own
//! user and database pass, so other users are not even tried, whatever the server would believe; at Redis the guest is logged
//! in and at its own numbered database before its first byte passes. MySQL's begins with a challenge of the server and
//! lets a session change its user later, so there it is the server that holds.
//!
//! Called by the engine with listeners of a sandbox. What comes out of them is hostile: bounded in size and time.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use crate::{
    accept::{self, ServeError},
    egress::socket::{Activity, Socket},
    pass,
};

/// Connections at a time; more wait in the listener's backlog. Twice what PostgreSQL takes as it is shipped.
const CONNECTIONS: usize = 200;
/// For the server to be reached, and for a guest to say who it is.
const BEGIN: Duration = Duration::from_secs(15);
/// A connection in which no byte moves for so long is closed: pools keep theirs open over night.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest first message that PostgreSQL itself takes (`MAX_STARTUP_PACKET_LENGTH`).
const STARTUP: usize = 10_000;

/// What PostgreSQL's first message begins with, if it is none of a session: asking for TLS, for GSSAPI; cancelling.
const TLS: u32 = 80_877_103;
const GSSAPI: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

/// As whom a server is reached.
#[derive(Clone)]
pub enum Guest {
    /// PostgreSQL.
    Postgres {
        /// The only user.
        user: String,
        /// The only database.
        database: String,
    },
    /// MySQL or MariaDB.
    Mysql,
    /// Redis or Valkey.
    Redis {
        /// Its user.
        user: String,
        /// That one's password.
        password: String,
        /// The number of its database.
        number: u32,
    },
}

/// A way to a server. Dropping it ends its connections.
pub struct Door {
    _accepting: JoinSet<()>,
}

struct To {
    host: String,
    port: u16,
    guest: Guest,
}

impl Door {
    /// Serves a listener as the way to a server. Call it within a Tokio runtime.
    pub fn serve(listener: TcpListener, host: &str, port: u16, guest: Guest) -> Result<Self, ServeError> {
        let (listener, _) = accept::prepare(listener)?;
        let to = Arc::new(To { host: host.to_owned(), port, guest });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept::each(listener, Arc::new(Semaphore::new(CONNECTIONS)), move |stream, _| {
            let to = Arc::clone(&to);
            async move {
                let activity = Activity::new();
                tokio::select! {
                    () = connection(&to, stream, &activity) => {}
                    () = activity.idle_for(IDLE) => {}
                }
            }
        }));
        Ok(Self { _accepting: accepting })
    }
}

async fn connection(to: &To, mut client: TcpStream, activity: &Arc<Activity>) {
    let begun = timeout(BEGIN, to.begin(&mut client)).await;
    let server = match begun.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(Some(server)) => server,
        // Said no in the guest's own language.
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(%error, "a connection to a shared server was not made");
            // There is no language to say no in; an end would look like an answer.
            let _ = client.set_zero_linger();
            return;
        }
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let [client, server] = [client, server].map(|stream| Socket::new(stream, Arc::clone(activity)));
    pass::both_ways(client, server).await;
}

impl To {
    /// A connection to the server on which the guest can go on; none if it was told why not.
    async fn begin(&self, client: &mut TcpStream) -> io::Result<Option<TcpStream>> {
        match &self.guest {
            Guest::Mysql => self.dial().await.map(Some),
            Guest::Redis { user, password, number } => {
                let mut server = self.dial().await?;
                let number = number.to_string();
                let words: [&[&str]; 2] = [&["AUTH", user, password], &["SELECT", &number]];
                server.write_all(&words.map(command).concat()).await?;
                let mut said = [0; 10];
                server.read_exact(&mut said).await?;
                let good = &said == b"+OK\r\n+OK\r\n";
                good.then_some(Some(server)).ok_or_else(|| io::Error::other("the login was refused"))
            }
            Guest::Postgres { user, database } => {
                let Some(first) = startup(client).await? else { return Ok(None) };
                if let Some((code, refusal)) = refusal(&first, user, database) {
                    client.write_all(&no(code, &refusal)).await?;
                    return Ok(None);
                }
                let mut server = match self.dial().await {
                    Ok(server) => server,
                    Err(error) => {
                        client
                            .write_all(&no("08006", &format!("the shared server is away: {error}")))
                            .await?;
                        return Ok(None);
                    }
                };
                server.write_all(&first).await?;
                Ok(Some(server))
            }
        }
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        TcpStream::connect((self.host.as_str(), self.port)).await
    }
}

/// A command as Redis reads it.
fn command(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    text.into_bytes()
}

/// The first message that says something; questions for encryption are answered: none is needed on this way. None at the
/// end of the connection.
async fn startup(client: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    // Both kinds of encryption may be asked for, each once.
    for _ in 0..3 {
        let mut head = [0; 8];
        match client.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        };
        let [a, b, c, d, rest @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let code = u32::from_be_bytes(rest);
        if code == TLS || code == GSSAPI {
            client.write_all(b"N").await?;
            continue;
        }
        if !(8..=STARTUP).contains(&length) {
            return Err(io::Error::other("not PostgreSQL's protocol"));
        }
        let mut message = vec![0; length];
        let (start, body) = message.split_at_mut(8);
        start.copy_from_slice(&head);
        client.read_exact(body).await?;
        return Ok(Some(message));
    }
    Err(io::Error::other("asks for encryption again and again"))
}

/// Why a first message does not pass, with PostgreSQL's code for that. Every mention of a user or a database has to be the
/// right one: which of two the server would take is not guessed.
fn refusal(message: &[u8], user: &str, database: &str) -> Option<(&'static str, String)> {
    let (head, body) = message.split_at_checked(8)?;
    let code = head.get(4..).and_then(|c| c.try_into().ok()).map(u32::from_be_bytes);
    if code == Some(CANCEL) {
        return None;
    }
    if code.is_none_or(|code| code >> 16 != 3) {
        return Some(("0A000", "only version 3 of the protocol passes here".to_owned()));
    }
    let mut words = body.split(|byte| *byte == 0);
    let (mut users, mut databases) = (Vec::new(), Vec::new());
    while let Some(name) = words.next().filter(|name| !name.is_empty()) {
        let value = words.next().unwrap_or_default();
        match name {
            b"user" => users.push(value),
            b"database" => databases.push(value),
            _ => {}
        }
    }
    if databases.is_empty() {
        // As the server does.
        databases.clone_from(&users);
    }
    let all = |said: &[&[u8]], right: &str| !said.is_empty() && said.iter().all(|s| *s == right.as_bytes());
    if !all(&users, user) {
        return Some(("28000", format!("this environment is let in as user \"{user}\" only")));
    }
    if !all(&databases, database) {
        return Some(("28000", format!("this environment has the database \"{database}\" only")));
    }
    None
}

/// PostgreSQL's message of an error that ends the connection.
fn no(code: &str, message: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap_or_default();
    [b"E".as_slice(), &length.to_be_bytes(), fields.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(code: u32, words: &[&str]) -> Vec<u8> {
        let mut body = code.to_be_bytes().to_vec();
        for word in words {
            body.extend(word.as_bytes());
            body.push(0);
        }
        body.push(0);
        let length = u32::try_from(body.len() + 4).unwrap();
        [length.to_be_bytes().to_vec(), body].concat()
    }

    #[test]
    fn only_the_guest_and_its_database_pass() {
        let with = |words: &[&str]| refusal(&first(196_608, words), "me", "mine").map(|(code, _)| code);
        assert_eq!(with(&["user", "me", "database", "mine", "application_name", "psql"]), None);
        assert_eq!(with(&["user", "postgres", "database", "mine"]), Some("28000"));
        assert_eq!(with(&["user", "me", "database", "other"]), Some("28000"));
        assert_eq!(with(&["user", "me"]), Some("28000"), "the database is then called as the user");
        assert_eq!(with(&["user", "me", "database", "mine", "user", "postgres"]), Some("28000"));
        assert_eq!(with(&["user", "postgres", "user", "me", "database", "mine"]), Some("28000"));
        assert_eq!(with(&[]), Some("28000"));
        let old = refusal(&first(131_072, &["user", "me", "database", "mine"]), "me", "mine");
        assert_eq!(old.map(|(code, _)| code), Some("0A000"));
        assert_eq!(refusal(&first(CANCEL, &["12345678"]), "me", "mine"), None);
    }

    #[test]
    fn words_of_redis_are_counted_in_bytes() {
        assert_eq!(command(&["AUTH", "ä"]), "*2\r\n$4\r\nAUTH\r\n$2\r\nä\r\n".as_bytes());
    }
}
