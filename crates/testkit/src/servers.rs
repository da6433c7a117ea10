//! Database servers for tests: the machine's own programs, each in a directory of its own on a port of the loopback, with a
//! password. They run as an ordinary user, as PostgreSQL insists, and end when dropped.

#![expect(clippy::unwrap_used, reason = "a test that has no server has failed")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::user;

/// The administrator's password on all of them.
pub const PASSWORD: &str = "adminsecret0815";

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// PostgreSQL; the administrator is `postgres`.
    Postgres,
    /// MariaDB; the administrator is `admin`.
    Mariadb,
    /// Redis; the administrator is the default user.
    Redis,
}

/// A running server.
#[derive(Debug)]
pub struct DatabaseServer {
    what: What,
    dir: TempDir,
    /// Its port on 127.0.0.1; the same when it is started anew.
    pub port: u16,
    child: Option<Child>,
}

impl DatabaseServer {
    /// Starts one; returns when it takes connections.
    ///
    /// # Panics
    ///
    /// If its programs are not there, or it does not start.
    #[must_use]
    pub fn start(what: What) -> Self {
        let dir = tempfile::Builder::new().prefix("ods").tempdir_in("/tmp").unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("password"), PASSWORD).unwrap();
        user::give(dir.path()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { what, dir, port, child: None };
        server.prepare();
        server.again();
        server
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn prepare(&self) {
        let data = self.path("data");
        match self.what {
            What::Postgres => run(self.named(&postgres_program("initdb")).args([
                "-D",
                &data,
                "-U",
                "postgres",
                "-A",
                "scram-sha-256",
                "-N",
                "-E",
                "UTF8",
                "--locale=C",
                "--pwfile",
                &self.path("password"),
            ])),
            What::Mariadb => {
                run(Command::new("mariadb-install-db").args([
                    "--no-defaults",
                    &format!("--datadir={data}"),
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                ]));
                let text = format!(
                    "ALTER USER root@localhost IDENTIFIED BY '{PASSWORD}';\n\
                     DROP USER IF EXISTS ''@localhost;\n\
                     CREATE USER IF NOT EXISTS admin@'%' IDENTIFIED BY '{PASSWORD}';\n\
                     GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION;\n\
                     DELETE FROM mysql.global_priv WHERE User = '' OR Host NOT IN ('%', 'localhost');\n\
                     FLUSH PRIVILEGES;\n"
                );
                fs::write(self.dir.path().join("first.sql"), text).unwrap();
                user::give(self.dir.path()).unwrap();
            }
            What::Redis => {}
        }
    }

    /// A command as a user who has a name, which PostgreSQL wants and the ordinary user of tests has not.
    fn named(&self, program: &Path) -> Command {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (uid, gid) = if user::is_root() { (user::ORDINARY, user::ORDINARY) } else { (uid, gid) };
        fs::write(self.dir.path().join("passwd"), format!("tester:x:{uid}:{gid}::/tmp:/bin/sh\n")).unwrap();
        user::give(&self.dir.path().join("passwd")).unwrap();
        let mut command = Command::new("bwrap");
        command.args(["--dev-bind", "/", "/", "--ro-bind", &self.path("passwd"), "/etc/passwd"]);
        command.arg("--die-with-parent").arg(program);
        command
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn again(&mut self) {
        let (data, port) = (self.path("data"), self.port.to_string());
        let mut command = match self.what {
            What::Postgres => {
                let mut command = self.named(&postgres_program("postgres"));
                command.args(["-D", &data, "-h", "127.0.0.1", "-p", &port, "-k", &data, "-F"]);
                command
            }
            What::Mariadb => {
                let mut command = Command::new(mariadb_program());
                command.args([
                    "--no-defaults",
                    &format!("--datadir={data}"),
                    &format!("--socket={data}/socket"),
                    &format!("--port={port}"),
                    "--bind-address=127.0.0.1",
                    "--innodb-flush-log-at-trx-commit=0",
                    &format!("--init-file={}", self.path("first.sql")),
                ]);
                command
            }
            What::Redis => {
                let mut command = Command::new("redis-server");
                command.args(["--port", &port, "--bind", "127.0.0.1", "--dir", &data]);
                command.args(["--requirepass", PASSWORD]);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = user::drop_root(&mut command).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        match self.what {
            What::Redis => {
                drain(Said::Err(err));
                heard(Said::Out(out), "eady to accept connections");
            }
            What::Postgres => {
                drain(Said::Out(out));
                heard(Said::Err(err), "ready to accept connections");
            }
            What::Mariadb => {
                drain(Said::Out(out));
                heard(Said::Err(err), "ready for connections");
            }
        }
        self.child = Some(child);
    }

    /// Ends it; its data stay. Redis writes them first.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // PostgreSQL: at once, and its own processes with it.
        let (signal, pid) = match self.what {
            What::Postgres => {
                let said = fs::read_to_string(self.dir.path().join("data/postmaster.pid"));
                (Signal::QUIT, said.ok().and_then(|text| text.lines().next()?.parse().ok()))
            }
            What::Mariadb | What::Redis => (Signal::TERM, i32::try_from(child.id()).ok()),
        };
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
        let _ = child.wait();
    }

    /// Its URL for an administrator.
    #[must_use]
    pub fn url(&self) -> String {
        match self.what {
            What::Postgres => format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres", self.port),
            What::Mariadb => format!("mysql://admin:{PASSWORD}@127.0.0.1:{}", self.port),
            What::Redis => format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port),
        }
    }

    /// What its own client prints, as the administrator.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    pub fn ask(&self, text: &str) -> String {
        let port = self.port.to_string();
        let mut command = match self.what {
            What::Postgres => {
                let mut command = Command::new("psql");
                command.args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", text]).arg(self.url());
                command
            }
            What::Mariadb => {
                let mut command = Command::new("mariadb");
                command.args([
                    "--no-defaults",
                    "-h",
                    "127.0.0.1",
                    "-P",
                    &port,
                    "-u",
                    "admin",
                    "-N",
                    "-e",
                    text,
                ]);
                command.env("MYSQL_PWD", PASSWORD);
                command
            }
            What::Redis => {
                let mut command = Command::new("redis-cli");
                command.args(["-p", &port, "--no-auth-warning", "-a", PASSWORD]).args(text.split(' '));
                command
            }
        };
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        self.stop();
    }
}

enum Said {
    Out(ChildStdout),
    Err(ChildStderr),
}

impl Said {
    fn lines(self) -> Box<dyn Iterator<Item = String> + Send> {
        match self {
            Self::Out(out) => Box::new(BufReader::new(out).lines().map_while(Result::ok)),
            Self::Err(err) => Box::new(BufReader::new(err).lines().map_while(Result::ok)),
        }
    }
}

fn drain(said: Said) {
    std::thread::spawn(move || said.lines().for_each(drop));
}

fn heard(said: Said, wanted: &str) {
    let mut lines = said.lines();
    let mut all = Vec::new();
    loop {
        let line = lines.next().unwrap_or_else(|| panic!("it did not start:\n{}", all.join("\n")));
        if line.contains(wanted) {
            break;
        }
        all.push(line);
    }
    std::thread::spawn(move || lines.for_each(drop));
}

fn run(command: &mut Command) {
    let output = user::drop_root(command).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The newest PostgreSQL of this machine.
fn postgres_program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| {
        path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok())
    });
    newest.map_or_else(|| PathBuf::from(name), |dir| dir.join("bin").join(name))
}

fn mariadb_program() -> PathBuf {
    let beside = Path::new("/usr/sbin/mariadbd");
    if beside.exists() { beside.to_owned() } else { PathBuf::from("mariadbd") }
}
