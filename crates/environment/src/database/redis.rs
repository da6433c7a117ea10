//! Parts of a Redis or Valkey server (6 or newer, with access control lists): one of its numbered databases, and a user who
//! may use no other.
//!
//! Who has which number is noted on the server itself, in the hash [`CLAIMS`] of database 0, so several daemons can
//! share one. Only an empty database is ever taken, and only a taken one is ever emptied. The user may do nothing that
//! leaves its database or concerns the whole server: so no publish and subscribe, whose channels all databases share.
//! A new connection begins in database 0, and RESET, which is allowed to everybody, leads back there. So the way from
//! inside logs in and chooses the right one before anybody says anything, and inside nobody knows the login.

use std::{collections::BTreeMap, time::Duration};

use offshoot_core::fault;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{address::Server, part::Part, servers::Fault};

/// Which number belongs to which user; `?` before a user means that it is not sure yet that the database is empty.
const CLAIMS: &str = "offshoot:databases";
/// How many databases a server has that does not say: as it is shipped.
const USUAL: u32 = 16;
/// Longest answer read: the claims of a few hundred environments.
const MAX: usize = 1 << 20;

/// What the user may do, besides its number. The rest of `@dangerous` and `@admin` concerns the whole server.
const MAY: [&str; 14] = [
    "~*",
    "+@all",
    "-@admin",
    "-@dangerous",
    "-@pubsub",
    "+flushdb",
    "+keys",
    "+sort",
    "+info",
    "-flushall",
    "-swapdb",
    "-move",
    "-select",
    "-script",
];
/// Taken from, or given to, users of servers that know these.
const NEWER: [&str; 8] = [
    "-copy",
    "-function",
    "-client|tracking",
    "-client|trackinginfo",
    "+sort_ro",
    "+script|load",
    "+script|exists",
    "resetchannels",
];

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Text(String),
    Error(String),
    Number(i64),
    List(Vec<String>),
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(host: &str, port: u16) -> Result<Self, Fault> {
        let stream = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect((host, port))).await;
        let stream = stream.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        stream.map(|stream| Self(BufReader::new(stream))).map_err(|error| Fault::Away(error.to_string()))
    }

    /// Says something and hears the answer; an error is one.
    async fn say(&mut self, words: &[&str]) -> Result<Answer, Fault> {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text += &format!("${}\r\n{word}\r\n", word.len());
        }
        let heard = async {
            self.0.write_all(text.as_bytes()).await?;
            self.one().await
        };
        heard.await.map_err(|error: std::io::Error| Fault::Away(error.to_string()))
    }

    /// The same, where only success will do.
    async fn ask(&mut self, words: &[&str]) -> Result<Answer, Fault> {
        match self.say(words).await? {
            Answer::Error(error) => Err(match error.split(' ').next() {
                Some("WRONGPASS" | "NOAUTH") => Fault::Login(error),
                Some("NOPERM") => Fault::Right(error),
                Some("LOADING" | "MASTERDOWN") => Fault::Away(error),
                _ => Fault::Other(error),
            }),
            answer => Ok(answer),
        }
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        (&mut self.0).take(64 << 10).read_until(b'\n', &mut line).await?;
        let text = line.strip_suffix(b"\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// One answer; lists are of texts and numbers only, which is what is asked for here.
    async fn one(&mut self) -> std::io::Result<Answer> {
        let line = self.line().await?;
        let (kind, rest) = line.split_at_checked(1).ok_or(std::io::ErrorKind::InvalidData)?;
        let number =
            || rest.parse::<i64>().map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData));
        Ok(match kind {
            "+" => Answer::Text(rest.to_owned()),
            "-" => Answer::Error(rest.to_owned()),
            ":" => Answer::Number(number()?),
            "$" => self.bulk(number()?).await?,
            "*" => {
                let mut list = Vec::new();
                for _ in 0..number()?.min(10_000) {
                    let line = self.line().await?;
                    list.push(match line.split_at_checked(1) {
                        Some(("$", length)) => match self.bulk(length.parse().unwrap_or(-1)).await? {
                            Answer::Text(text) => text,
                            _ => String::new(),
                        },
                        Some((_, rest)) => rest.to_owned(),
                        None => return Err(std::io::ErrorKind::InvalidData.into()),
                    });
                }
                Answer::List(list)
            }
            _ => return Err(std::io::ErrorKind::InvalidData.into()),
        })
    }

    async fn bulk(&mut self, length: i64) -> std::io::Result<Answer> {
        let Ok(length) = usize::try_from(length) else { return Ok(Answer::Text(String::new())) };
        if length > MAX {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes).await?;
        bytes.truncate(length);
        Ok(Answer::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn claims(&mut self) -> Result<BTreeMap<u32, String>, Fault> {
        let Answer::List(list) = self.ask(&["HGETALL", CLAIMS]).await? else { return Ok(BTreeMap::new()) };
        let pairs = list.chunks_exact(2);
        Ok(pairs.filter_map(|pair| Some((pair[0].parse().ok()?, pair[1].clone()))).collect())
    }
}

/// In database 0 as the administrator.
async fn administrator(server: &Server) -> Result<Client, Fault> {
    let mut client = Client::connect(&server.host, server.port).await?;
    match (server.user.as_str(), server.password.as_str()) {
        (_, "") => {}
        ("", password) => drop(client.ask(&["AUTH", password]).await?),
        (user, password) => drop(client.ask(&["AUTH", user, password]).await?),
    }
    client.ask(&["SELECT", "0"]).await?;
    Ok(client)
}

/// Takes a database for a part; says which.
pub(super) async fn database(server: &Server, part: &Part) -> Result<u32, Fault> {
    let mut stranger = Client::connect(&server.host, server.port).await?;
    if !matches!(stranger.say(&["PING"]).await?, Answer::Error(_)) {
        let reason =
            "it lets everybody in without a password; set requirepass, or a password for its default user";
        return Err(Fault::Open(reason.to_owned()));
    }
    let mut client = administrator(server).await?;
    if let Answer::Error(error) = client.say(&["ACL", "WHOAMI"]).await? {
        return Err(match error.starts_with("NOPERM") {
            true => Fault::Right(error),
            false => {
                Fault::Unfit(format!("version 6 or newer is needed, with access control lists ({error})"))
            }
        });
    }
    let number = claim(&mut client, &part.user).await?;
    fault::point("database.role");
    let (password, select) = (format!(">{}", part.password), format!("+select|{number}"));
    let base = ["ACL", "SETUSER", &part.user];
    client.ask(&[base.as_slice(), &["reset", "off", &password], &MAY].concat()).await?;
    for rule in NEWER {
        if let Answer::Error(error) = client.say(&[base.as_slice(), &[rule]].concat()).await? {
            let unknown = error.contains("Unknown command") || error.contains("Syntax error");
            if !unknown {
                return Err(Fault::Other(error));
            }
        }
    }
    client.ask(&[base.as_slice(), &[&select, "on"]].concat()).await?;
    fault::point("database.made");
    Ok(number)
}

async fn claim(client: &mut Client, user: &str) -> Result<u32, Fault> {
    let count = match client.say(&["CONFIG", "GET", "databases"]).await? {
        Answer::List(list) => list.get(1).and_then(|n| n.parse().ok()).unwrap_or(USUAL),
        _ => USUAL,
    };
    let claims = client.claims().await?;
    if let Some((number, _)) = claims.iter().find(|(_, owner)| *owner == user) {
        return Ok(*number);
    }
    let unsure = format!("?{user}");
    for number in (1..count).filter(|number| !claims.contains_key(number)) {
        let text = number.to_string();
        if client.ask(&["HSETNX", CLAIMS, &text, &unsure]).await? != Answer::Number(1) {
            continue;
        }
        client.ask(&["SELECT", &text]).await?;
        let size = client.ask(&["DBSIZE"]).await?;
        client.ask(&["SELECT", "0"]).await?;
        if size == Answer::Number(0) {
            client.ask(&["HSET", CLAIMS, &text, user]).await?;
            return Ok(number);
        }
        client.ask(&["HDEL", CLAIMS, &text]).await?;
    }
    Err(Fault::Unfit(format!(
        "none of its {count} databases is free; raise \"databases\" in its configuration"
    )))
}

/// Whether a part lets its user in.
pub(super) async fn check(part: &Part) -> Result<(), Fault> {
    let mut client = Client::connect(&part.host, part.host_port).await?;
    client.ask(&["AUTH", &part.user, &part.password]).await?;
    client.ask(&["SELECT", &part.database]).await.map(drop)
}

/// Gives a user's database back, emptied, and takes the user away.
pub(super) async fn remove(server: &Server, user: &str) -> Result<(), Fault> {
    let mut client = administrator(server).await?;
    // Ends its sessions, too; emptied after that.
    client.ask(&["ACL", "DELUSER", user]).await?;
    fault::point("database.dropping");
    let unsure = format!("?{user}");
    for (number, owner) in client.claims().await? {
        let text = number.to_string();
        if owner == user {
            client.ask(&["SELECT", &text]).await?;
            client.ask(&["FLUSHDB"]).await?;
            client.ask(&["SELECT", "0"]).await?;
        }
        if owner == user || owner == unsure {
            client.ask(&["HDEL", CLAIMS, &text]).await?;
        }
    }
    Ok(())
}
