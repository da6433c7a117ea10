//! Whether a service is ready: asked from the host over a connection dialled inside, which costs no process, or by a
//! command inside where the project says so. What comes back is hostile: a few bytes are read and compared.

use std::{net::Ipv4Addr, time::Duration};

use offshoot_core::service::{Healthcheck, Service, Test};
use offshoot_sandbox::{ExecRequest, Exit, Stdio};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::plan::Plan;
use crate::sandbox::Sandbox;

/// How to find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Ready as soon as it was started.
    Started,
    /// Somebody accepts at its port.
    Port,
    /// Somebody at its port who is told this answers with that.
    Answer {
        /// What it is told first; may be empty.
        say: Vec<u8>,
        /// Bytes of its answer that do not matter.
        skip: usize,
        /// What follows them.
        hear: Vec<u8>,
    },
    /// A command in the service ends with 0.
    Command(Vec<String>),
}

impl Probe {
    /// What the project says, else `usual`.
    pub(super) fn of(service: &Service, usual: Self) -> Self {
        match service.healthcheck.as_ref().and_then(|check| check.test.as_ref()) {
            None => usual,
            Some(Test::None) => Self::Started,
            Some(Test::Command(argv)) => Self::Command(argv.clone()),
            Some(Test::Shell(line)) => {
                Self::Command(vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()])
            }
        }
    }

    /// A PostgreSQL server that lets `user` into `database`: the start of its protocol (version 3.0), answered by a
    /// request for authentication (`R`) and not by an error such as "starting up" (`E`).
    pub(super) fn postgres(user: &str, database: &str) -> Self {
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for text in ["user", user, "database", database, ""] {
            body.extend(text.as_bytes());
            body.push(0);
        }
        let length = u32::try_from(body.len() + 4).unwrap_or_default();
        let say = length.to_be_bytes().into_iter().chain(body).collect();
        Self::Answer { say, skip: 0, hear: b"R".to_vec() }
    }

    /// A server that answers a line with another.
    pub(super) fn line(say: &str, hear: &str) -> Self {
        Self::Answer { say: say.as_bytes().to_vec(), skip: 0, hear: hear.as_bytes().to_vec() }
    }

    /// What it means that what was ready is so no more, for people.
    pub(super) fn failing(&self) -> String {
        match self {
            Self::Started => "it is not there any more".to_owned(),
            Self::Port => "nothing accepts at its port any more".to_owned(),
            Self::Answer { .. } => "it does not answer at its port any more".to_owned(),
            Self::Command(argv) => format!("its health check fails: {}", argv.join(" ")),
        }
    }

    /// Asks once; `id` names the process that asks, where there is one.
    pub(super) async fn ask(&self, sandbox: &Sandbox, plan: &Plan, id: String) -> bool {
        let check = Healthcheck::default();
        let timeout = plan.service.healthcheck.as_ref().unwrap_or(&check).timeout();
        let asked = async {
            match self {
                Self::Started => Some(()),
                Self::Port => dial(sandbox, plan).await.map(drop),
                Self::Answer { say, skip, hear } => {
                    let mut stream = dial(sandbox, plan).await?;
                    stream.write_all(say).await.ok()?;
                    let mut heard = vec![0; skip + hear.len()];
                    stream.read_exact(&mut heard).await.ok()?;
                    heard.ends_with(hear).then_some(())
                }
                Self::Command(argv) => command(sandbox, plan, argv, id, timeout).await,
            }
        };
        tokio::time::timeout(timeout, asked).await.ok().flatten().is_some()
    }
}

async fn dial(sandbox: &Sandbox, plan: &Plan) -> Option<TcpStream> {
    let port = *plan.ports.first()?;
    // What listens on all addresses listens on its own, too.
    connect(sandbox, plan.address, port).await
}

async fn connect(sandbox: &Sandbox, address: Ipv4Addr, port: u16) -> Option<TcpStream> {
    let stream = std::net::TcpStream::from(sandbox.dial(address.into(), port).await.ok()?);
    stream.set_nonblocking(true).ok()?;
    TcpStream::from_std(stream).ok()
}

async fn command(
    sandbox: &Sandbox,
    plan: &Plan,
    argv: &[String],
    id: String,
    timeout: Duration,
) -> Option<()> {
    let events = sandbox.events();
    let nowhere = || std::fs::File::options().write(true).open("/dev/null").ok();
    sandbox
        .exec(ExecRequest {
            id: id.clone(),
            argv: argv.to_vec(),
            env: plan.env.clone(),
            cwd: plan.cwd.clone(),
            stdio: Stdio::Files { stdin: None, stdout: nowhere()?.into(), stderr: nowhere()?.into() },
            root: plan.root.clone(),
            ..ExecRequest::default()
        })
        .await
        .ok()?;
    match tokio::time::timeout(timeout, sandbox.exit(&id, events)).await {
        Ok(exit) => (exit == Some(Exit::Code(0))).then_some(()),
        Err(_) => {
            let _ = sandbox.signal(&id, 9).await;
            None
        }
    }
}
