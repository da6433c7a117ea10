//! Parts of shared servers: real servers on the loopback, two environments at once, servers that are away, and a daemon that
//! dies at each step.

use std::time::{Duration, Instant};

use offshoot_testkit::servers::{DatabaseServer, PASSWORD, What};
use serde_json::{Value, json};

use crate::stage::Stage;

/// How long the daemon may take to drop what an earlier one left.
const PATIENCE: Duration = Duration::from_secs(30);

fn stage(server: &DatabaseServer, services: Value) -> Stage {
    let stage = Stage::new();
    configure(&stage, &server.url());
    stage.write("services.json", &json!({ "services": services }).to_string());
    stage.write("db/rows.sql", "create table t(x int); insert into t values (1), (2), (3);");
    stage.write("db/rows.redis", "set seeded yes\nset other 1\n");
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-qm", "Services"]);
    stage
}

fn configure(stage: &Stage, url: &str) {
    stage.configure(&format!("[servers.dev]\nurl = \"{url}\"\n"));
}

fn postgres() -> Value {
    json!({"db": {"preset": "postgres", "isolation": "database", "server": "dev", "seed": "db/rows.sql"}})
}

#[track_caller]
fn up(stage: &Stage, name: &str) -> Duration {
    let began = Instant::now();
    let output = stage.offshoot(&["env", "up", "--name", name]);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), stage.log());
    began.elapsed()
}

/// Says why an environment does not come up.
#[track_caller]
fn refused(stage: &Stage, name: &str, why: &str) -> String {
    let output = stage.offshoot(&["--json", "env", "up", "--name", name]);
    assert!(!output.status.success());
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(problem.contains(why), "{problem}");
    assert!(!problem.contains(PASSWORD), "{problem}");
    problem
}

fn down(stage: &Stage, name: &str) -> String {
    let output = stage.offshoot(&["env", "down", name, "--force"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn prune(stage: &Stage) -> Value {
    let output = stage.offshoot(&["--json", "prune"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn sh(stage: &Stage, name: &str, script: &str) -> String {
    let exec = stage.exec(name, script);
    let (text, code) = stage.output(name, &exec);
    assert_eq!(code, Some(0), "{script}\n{text}");
    text.trim().to_owned()
}

/// What a script that is to fail says.
#[track_caller]
fn fails(stage: &Stage, name: &str, script: &str) -> String {
    let exec = stage.exec(name, script);
    let (text, code) = stage.output(name, &exec);
    assert_ne!(code, Some(0), "{script}\n{text}");
    text
}

/// What is on a server of ours, templates apart.
fn ours(server: &DatabaseServer) -> String {
    server.ask(
        "select datname from pg_database where datname like 'offshoot%' and not datname like 'offshoot_t%' \
         union all select rolname from pg_roles where rolname like 'offshoot%' and rolname <> 'offshoot_template' \
         union all select nspname from pg_namespace where nspname like 'offshoot%'",
    )
}

/// The administrator's password and address are in no variable, argument or file of an environment.
fn nothing_of_the_administrator(stage: &Stage, name: &str) {
    let script = format!(
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/mountinfo 2>/dev/null >/tmp/seen; \
         env >>/tmp/seen; cat /etc/hosts >>/tmp/seen; \
         ! grep -a -e \"$(printf '%s%s' {} {})\" /tmp/seen && \
         ! grep -raqs --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr --exclude-dir=lib -e \"$(printf '%s%s' {} {})\" / ",
        &PASSWORD[..4],
        &PASSWORD[4..],
        &PASSWORD[..4],
        &PASSWORD[4..]
    );
    sh(stage, name, &script);
    let whole = std::fs::read_to_string(stage.environment(name).join("environment.json")).unwrap();
    assert!(!whole.contains(PASSWORD));
}

#[test]
fn environments_have_databases_of_their_own_on_a_shared_postgres() {
    let server = DatabaseServer::start(What::Postgres);
    let stage = stage(&server, postgres());
    stage.start(None);
    up(&stage, "one");
    up(&stage, "two");
    let count = "psql -Atc 'select count(*) from t'";
    assert_eq!(
        sh(&stage, "one", &format!("psql -Atc 'insert into t values (4)' && {count}")),
        "INSERT 0 1\n4"
    );
    assert_eq!(sh(&stage, "two", count), "3", "the other's rows are not seen");
    assert_eq!(
        sh(&stage, "two", "psql \"$DATABASE_URL\" -Atc 'alter table t add y int; select 7'"),
        "ALTER TABLE\n7"
    );
    assert_eq!(sh(&stage, "two", "psql -h db -p 5432 -Atc 'create table u(); select 8'"), "CREATE TABLE\n8");
    // Neither the other's database, nor the administrator's, nor anybody else's user.
    let other = sh(&stage, "one", "echo $PGDATABASE $PGUSER $PGPASSWORD");
    let [database, user, password] = other.split(' ').collect::<Vec<_>>()[..] else { panic!("{other}") };
    for who in [
        format!("PGDATABASE={database} psql -c 'select 1'"),
        format!("PGDATABASE={database} PGUSER={user} PGPASSWORD={password} psql -c 'select 1'"),
        "PGDATABASE=postgres psql -c 'select 1'".to_owned(),
        "PGUSER=postgres psql -c 'select 1'".to_owned(),
    ] {
        assert!(fails(&stage, "two", &who).contains("this environment"), "{who}");
    }
    // The server itself says no, too: not by way of the environment but with its login.
    let direct = format!("postgres://{user}:{password}@127.0.0.1:{}/", server.port);
    let two = sh(&stage, "two", "echo $PGDATABASE");
    let output =
        stage.command("psql").arg(format!("{direct}{two}")).args(["-c", "select 1"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("permission denied"), "{output:?}");
    fails(&stage, "two", "psql -c 'create role x'");
    fails(&stage, "two", "psql -c 'create database x'");
    // No other way to the host, not even to the same server by its own port.
    fails(&stage, "two", &format!("exec 3<>/dev/tcp/127.0.0.1/{} 2>/dev/null", server.port));
    fails(&stage, "two", &format!("bash -c 'exec 3<>/dev/tcp/db/{}' 2>/dev/null", server.port));
    nothing_of_the_administrator(&stage, "two");
    let services = stage.task("two")["environment"]["services"].clone();
    assert_eq!(services[0]["state"], "ready", "{services}");
    assert_eq!(services[0]["service"]["runs"], "a database on dev");
    let shown = stage.offshoot(&["show", "two"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("db:5432 ready"), "{shown:?}");
    // The daemon ends and comes back; so does the way.
    stage.stop();
    stage.start(None);
    assert_eq!(sh(&stage, "one", count), "4");
    // A session does not hold it up.
    stage.exec("one", "psql -c 'begin; lock t; select pg_sleep(600)'");
    stage.wait("the session", |_| server.ask("select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()") == "1");
    down(&stage, "one");
    assert!(!ours(&server).contains(database), "{}", ours(&server));
    down(&stage, "two");
    assert_eq!(ours(&server), "");
    assert_eq!(
        server.ask("select count(*) from pg_database where datistemplate and datname like 'offshoot_t%'"),
        "1"
    );
    let view = prune(&stage);
    assert!(view["removed"].to_string().contains("template offshoot_t_"), "{view}");
    assert_eq!(server.ask("select count(*) from pg_database where datname like 'offshoot%'"), "0");
    stage.close();
}

#[test]
fn a_template_is_made_once() {
    let server = DatabaseServer::start(What::Postgres);
    let stage = stage(&server, postgres());
    stage.write("db/rows.sql", "create table t(x int, y text); insert into t select n, repeat(md5(n::text), 30) from generate_series(1, 100000) n;");
    stage.git(&["commit", "-qam", "More rows"]);
    stage.start(None);
    let first = up(&stage, "one");
    let size = server.ask("select pg_size_pretty(max(pg_database_size(datname))) from pg_database");
    let second = up(&stage, "two");
    let events = stage.entries();
    let took =
        |kind: &str| events.iter().rev().find(|e| e["event"]["type"] == kind).unwrap()["event"].clone();
    let began = Instant::now();
    let template = server.ask("select datname from pg_database where datname like 'offshoot_t%'");
    let _ = server.ask(&format!("create database plain template {template}"));
    let plain = began.elapsed();
    let began = Instant::now();
    let _ = server.ask(&format!("create database plain2 template {template} strategy file_copy"));
    let files = began.elapsed();
    eprintln!(
        "template of {size}: first {first:?}, second {second:?}, createdb -T {plain:?}, by files {files:?}"
    );
    eprintln!("{}\n{}", took("environment_up"), stage.log());
    assert_eq!(sh(&stage, "two", "psql -Atc 'select count(*) from t'"), "100000");
    let seeded = events.iter().filter(|e| e["event"]["step"] == "seeding db").count();
    assert_eq!(seeded, 1);
    down(&stage, "one");
    down(&stage, "two");
    stage.close();
}

#[test]
fn schemas_are_found_first_and_are_nobody_elses() {
    let server = DatabaseServer::start(What::Postgres);
    let _ = server.ask("create role maker login password 'makes' createrole");
    let _ = server.ask("create database app owner maker");
    let services = json!({"db": {"preset": "postgres", "isolation": "schema", "server": "dev", "seed": {"command": "psql -q -f db/rows.sql"}}});
    let stage = stage(&server, services);
    configure(&stage, &format!("postgres://maker:makes@127.0.0.1:{}/app", server.port));
    stage.start(None);
    up(&stage, "one");
    up(&stage, "two");
    assert_eq!(sh(&stage, "one", "psql -Atc 'delete from t'"), "DELETE 3");
    assert_eq!(sh(&stage, "two", "psql -Atc 'select count(*) from t'"), "3");
    assert_eq!(sh(&stage, "two", "psql -Atc 'show search_path'"), sh(&stage, "two", "echo $DATABASE_SCHEMA"));
    let one = sh(&stage, "one", "echo $DATABASE_SCHEMA");
    assert!(fails(&stage, "two", &format!("psql -c 'select * from {one}.t'")).contains("permission denied"));
    down(&stage, "one");
    down(&stage, "two");
    assert_eq!(ours(&server), "");
    stage.close();
}

#[test]
fn environments_have_databases_of_their_own_on_a_shared_mariadb() {
    let server = DatabaseServer::start(What::Mariadb);
    let services = json!({"db": {"preset": "mariadb", "isolation": "database", "server": "dev", "seed": "db/rows.sql",
        "inject": {"U": "{user}", "P": "{password}", "D": "{database}"}}});
    let stage = stage(&server, services);
    stage.start(None);
    up(&stage, "one");
    up(&stage, "two");
    let ask = |sql: &str| format!("mariadb --no-defaults -h db -u $U -p$P -N -e '{sql}' $D");
    assert_eq!(sh(&stage, "one", &ask("insert into t values (4); select count(*) from t")), "4");
    assert_eq!(sh(&stage, "two", &ask("select count(*) from t")), "3");
    let one = sh(&stage, "one", "echo $D");
    assert!(fails(&stage, "two", &ask(&format!("select * from {one}.t"))).contains("denied"));
    assert_eq!(
        sh(&stage, "two", &ask("show databases")).lines().filter(|d| d.starts_with("offshoot")).count(),
        1
    );
    fails(&stage, "two", "mariadb --no-defaults -h db -u root -e 'select 1'");
    nothing_of_the_administrator(&stage, "two");
    down(&stage, "one");
    down(&stage, "two");
    assert_eq!(server.ask("select schema_name from information_schema.schemata where schema_name like 'offshoot%' union select user from mysql.user where user like 'offshoot%'"), "");
    stage.close();
}

#[test]
fn environments_have_numbered_databases_on_a_shared_redis() {
    let mut server = DatabaseServer::start(What::Redis);
    // Somebody's own keys, in databases that are never taken.
    let _ = server.ask("set mine 1");
    let _ = server.ask("-n 1 set mine 2");
    let services =
        json!({"redis": {"isolation": "database", "server": "dev", "seed": {"sql": ["db/rows.redis"]}}});
    let stage = stage(&server, services);
    stage.start(None);
    up(&stage, "one");
    up(&stage, "two");
    let cli = |words: &str| format!("redis-cli -u \"$REDIS_URL\" --no-auth-warning {words} 2>&1");
    assert_eq!(sh(&stage, "one", &cli("get seeded")), "yes");
    assert_eq!(sh(&stage, "one", &cli("set k v")), "OK");
    assert_eq!(sh(&stage, "two", &cli("get k")), "");
    assert_eq!(sh(&stage, "two", &cli("dbsize")), "2");
    assert_eq!(sh(&stage, "two", "redis-cli -h redis get seeded"), "yes", "also without a login");
    for words in [
        "select 1",
        "swapdb 0 1",
        "flushall",
        "move seeded 0",
        "copy seeded x db 0",
        "acl list",
        "config get requirepass",
        "client list",
        "monitor",
        "publish c m",
        "subscribe c",
        "keys '*' x y",
        "eval \"return redis.call('select', 0)\" 0",
        "function list",
        "client tracking on bcast",
        "auth default x",
        "debug sleep 0",
        "shutdown nosave",
        "migrate 127.0.0.1 1 k 0 1",
    ] {
        let said = sh(&stage, "two", &format!("{} || true", cli(words)));
        assert!(
            said.contains("NOPERM") || said.contains("ERR") || said.contains("WRONGPASS"),
            "{words}: {said}"
        );
    }
    let script =
        r"printf 'reset\nget mine\nselect 0\nhgetall offshoot:databases\n' | redis-cli -h redis 2>&1";
    let said = sh(&stage, "two", script);
    assert_eq!(said.matches("NOAUTH").count(), 3, "{said}");
    assert_eq!(sh(&stage, "two", &cli("eval \"return redis.call('get', 'seeded')\" 0")), "yes");
    nothing_of_the_administrator(&stage, "two");
    // A server that forgot its users is told of them again.
    server.stop();
    server.again();
    stage.stop();
    stage.start(None);
    stage.wait("the service's return", |_| {
        stage.task("two")["environment"]["services"][0]["state"] == "ready"
    });
    assert_eq!(
        sh(
            &stage,
            "two",
            "for n in 1 2 3 4 5 6 7 8 9; do redis-cli -h redis get seeded && break; sleep 0.2; done"
        ),
        "yes"
    );
    down(&stage, "one");
    down(&stage, "two");
    assert_eq!(server.ask("acl users"), "default");
    assert_eq!(
        server.ask("info keyspace").lines().filter(|l| l.starts_with("db")).count(),
        2,
        "what was there is there"
    );
    assert_eq!(server.ask("hgetall offshoot:databases"), "");
    stage.close();
}

#[test]
fn what_a_server_does_not_allow_is_said() {
    let mut server = DatabaseServer::start(What::Postgres);
    let _ = server.ask("create role weak login password 'weak'");
    let stage = stage(&server, postgres());
    stage.configure("");
    stage.start(None);
    let problem = refused(&stage, "a", "no shared server is called");
    assert!(problem.contains("[servers.dev]"), "{problem}");
    configure(&stage, &server.url().replace(PASSWORD, "wrong"));
    refused(&stage, "b", "refused the login");
    configure(&stage, &format!("postgres://weak:weak@127.0.0.1:{}/postgres", server.port));
    refused(&stage, "c", "no right to make users");
    configure(&stage, &server.url().replace("postgres://", "redis://"));
    refused(&stage, "d", "of another kind");
    configure(&stage, &server.url());
    stage.write("db/rows.sql", "create table t(x int); insert into nowhere values (1);");
    stage.git(&["commit", "-qam", "Broken"]);
    let problem = refused(&stage, "e", "does not run");
    assert!(problem.to_string().contains("nowhere"), "{problem}");
    assert_eq!(ours(&server), "", "nothing is left of what could not be made");
    server.stop();
    let began = Instant::now();
    refused(&stage, "f", "not reachable");
    assert!(began.elapsed() < PATIENCE);
    let open = DatabaseServer::start(What::Redis);
    let _ = open.ask("config set requirepass ");
    stage.write(
        "services.json",
        &json!({"services": {"redis": {"isolation": "database", "server": "dev"}}}).to_string(),
    );
    stage.git(&["commit", "-qam", "Redis"]);
    configure(&stage, &open.url());
    refused(&stage, "g", "without a password");
    stage.close();
}

#[test]
fn a_server_that_is_away_is_asked_again_and_holds_nobody_up() {
    let mut server = DatabaseServer::start(What::Postgres);
    let stage = stage(&server, postgres());
    stage.start(None);
    up(&stage, "one");
    server.stop();
    let began = Instant::now();
    let said = down(&stage, "one");
    assert!(began.elapsed() < PATIENCE);
    assert!(said.contains("offshoot_e_") && said.contains("prune"), "{said}");
    let kept = prune(&stage)["kept"].to_string();
    assert!(kept.contains("database offshoot_e_") && kept.contains("template"), "{kept}");
    server.again();
    assert_ne!(ours(&server), "");
    let removed = prune(&stage)["removed"].to_string();
    assert!(removed.contains("database offshoot_e_") && removed.contains("template"), "{removed}");
    assert_eq!(ours(&server), "");
    stage.close();
}

/// Dies at a fault while an environment is made, or taken away; nothing is left on the server after a restart and a prune.
fn dies(what: What, point: &str, services: Value) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let server = DatabaseServer::start(what);
    let stage = stage(&server, services);
    let by_hand = json!({"path": stage.repo, "by_hand": true, "name": "one"});
    let settled = |entry: &Value| {
        // Up, or nothing is left to be made.
        matches!(entry["event"]["type"].as_str(), Some("environment_up" | "run_ended"))
    };
    let dropping = point.contains("drop");
    if dropping {
        stage.start(None);
        stage.post("/v1/tasks", by_hand).ok();
        stage.wait("environment", settled);
        stage.stop();
        stage.start(Some(point));
        let _ = stage.request("POST", "/v1/tasks/one/discard", Some(&json!({"force": true})));
    } else {
        stage.start(Some(point));
        let _ = stage.request("POST", "/v1/tasks", Some(&by_hand));
    }
    stage.died();
    stage.start(None);
    if !dropping {
        stage.wait("what becomes of it", settled);
        stage.post("/v1/tasks/one/discard", json!({"force": true})).ok();
    }
    prune(&stage);
    let empty = || {
        match what {
        What::Postgres => ours(&server) + &server.ask("select datname from pg_database where datname like 'offshoot%'"),
        What::Mariadb => server.ask("select schema_name from information_schema.schemata where schema_name like 'offshoot%' union select user from mysql.user where user like 'offshoot%'"),
        What::Redis => server.ask("acl users").replace("default", "") + &server.ask("info keyspace").replace("# Keyspace", ""),
    }
    };
    assert_eq!(empty().trim(), "", "{point}");
    assert_eq!(std::fs::read_dir(stage.state().join("databases")).into_iter().flatten().count(), 0);
    // And it works.
    up(&stage, "two");
    down(&stage, "two");
    prune(&stage);
    assert_eq!(empty().trim(), "", "{point}");
    stage.close();
}

macro_rules! points {
    ($($name:ident $what:ident $services:ident $point:literal)*) => {
        mod at {
            use super::*;
            $(#[test] fn $name() { dies(What::$what, $point, $services()); })*
        }
    };
}

fn mariadb() -> Value {
    json!({"db": {"preset": "mariadb", "isolation": "database", "server": "dev", "seed": "db/rows.sql"}})
}

fn redis() -> Value {
    json!({"redis": {"isolation": "database", "server": "dev", "seed": {"sql": ["db/rows.redis"]}}})
}

fn schema() -> Value {
    json!({"db": {"preset": "postgres", "isolation": "schema", "server": "dev", "seed": "db/rows.sql"}})
}

points! {
    building Postgres postgres "database.building"
    building_role Postgres postgres "database.role"
    building_made Postgres postgres "database.made"
    seeded Postgres postgres "database.seeded"
    sealed Postgres postgres "database.sealed"
    templated Postgres postgres "database.templated"
    noted Postgres postgres "database.noted"
    role Postgres postgres "database.role#2"
    made Postgres postgres "database.made#2"
    ready Postgres postgres "database.ready"
    drop Postgres postgres "database.drop"
    dropping Postgres postgres "database.dropping"
    dropped Postgres postgres "database.dropped"
    schema_role Postgres schema "database.role"
    schema_made Postgres schema "database.made"
    schema_dropping Postgres schema "database.dropping"
    mariadb_role Mariadb mariadb "database.role"
    mariadb_made Mariadb mariadb "database.made"
    mariadb_dropping Mariadb mariadb "database.dropping"
    redis_role Redis redis "database.role"
    redis_made Redis redis "database.made"
    redis_dropping Redis redis "database.dropping"
}
