//! Surveys of made-up repositories.

use offshoot_core::{
    config::ProjectConfig,
    service::{Condition, Preset, Services},
};
use proptest::prelude::*;

use super::{tool::TOOLS, *};

fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn read(files: &[(&str, &str)], agents: &[&str]) -> (Survey, ProjectConfig) {
    let dir = repository(files);
    let survey = survey(dir.path());
    let agents: Vec<String> = agents.iter().map(|a| (*a).to_owned()).collect();
    let text = configuration(&survey, compose(dir.path()).as_ref(), &agents);
    let config = ProjectConfig::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    (survey, config)
}

#[test]
fn every_lockfile_gives_a_configuration_that_reads() {
    for tool in TOOLS {
        let (_, config) = read(&[(tool.lockfile, "")], &["codex"]);
        let setup = &config.setup[tool.name];
        assert_eq!(setup.key, [tool.lockfile]);
        assert_eq!(setup.commands, tool.install);
        assert_eq!(config.egress.allow.len(), tool.hosts.len());
        assert_eq!(config.agent.default.as_deref(), Some("codex"));
    }
}

#[test]
fn a_monorepo_gets_a_setup_for_each_part() {
    let (survey, config) = read(
        &[
            ("Cargo.lock", ""),
            ("rust-toolchain.toml", ""),
            (".tool-versions", ""),
            (".nvmrc", "22"),
            ("Makefile", "all:\n\ntest: all\n\tcargo test\n"),
            ("web/package-lock.json", ""),
            ("web/package.json", r#"{"scripts":{"test":"vitest run"}}"#),
            ("services/billing/requirements.txt", "-r base.txt\npytest\n"),
            ("services/billing/base.txt", "-c ./pins.txt\nflask\n"),
            ("services/billing/pins.txt", ""),
            ("services/billing/requirements-dev.txt", ""),
            ("services/billing/.python-version", "3.12"),
            ("tools/both/go.sum", ""),
            ("tools/both/go.mod", ""),
            ("tools/both/Gemfile.lock", "GEM\n  remote: https://gems.example.org/\n"),
            ("a/b/c/d/Cargo.lock", ""),
            ("node_modules/x/package-lock.json", ""),
            ("linked/.git", "gitdir: elsewhere"),
            ("linked/Cargo.lock", ""),
            (".env", "SECRET=1"),
            (".env.example", ""),
        ],
        &[],
    );
    let names: Vec<&str> = config.setup.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["cargo", "services-billing", "tools-both-bundler", "tools-both-go", "web"]);
    assert_eq!(config.setup["cargo"].key, ["Cargo.lock", "rust-toolchain.toml", ".tool-versions"]);
    assert_eq!(config.setup["web"].commands, ["cd web && npm ci"]);
    assert_eq!(
        config.setup["web"].key,
        ["web/package-lock.json", "web/package.json", ".nvmrc", ".tool-versions"]
    );
    let pip = &config.setup["services-billing"];
    assert_eq!(
        pip.commands[1],
        "cd services/billing && .venv/bin/pip install -r requirements.txt -r requirements-dev.txt"
    );
    let files = ["requirements.txt", "requirements-dev.txt", "base.txt", "pins.txt", ".python-version"];
    let mut key: Vec<String> = files.iter().map(|f| format!("services/billing/{f}")).collect();
    key.push(".tool-versions".to_owned());
    assert_eq!(pip.key, key);
    assert!(survey.hosts().contains(&"gems.example.org".to_owned()));
    assert_eq!(config.check.command.as_deref(), Some("make test"));
    assert_eq!(survey.checks[..3], ["make test", "cargo test --locked", "cd web && npm test"]);
    assert_eq!(survey.private, [".env"]);
}

#[test]
fn both_kinds_of_yarn_are_told_apart() {
    let (_, config) = read(&[("yarn.lock", "# yarn lockfile v1\n"), (".yarnrc.yml", "")], &[]);
    assert_eq!(config.setup["yarn"].commands, ["yarn install --frozen-lockfile"]);
    let release = ".yarn/releases/yarn-4.6.0.cjs";
    let files = [
        ("yarn.lock", "__metadata:\n  version: 8\n"),
        (".yarnrc.yml", "yarnPath: .yarn/releases/yarn-4.6.0.cjs\n"),
        (release, ""),
        ("package.json", "{}"),
    ];
    let (survey, config) = read(&files, &[]);
    assert_eq!(config.setup["yarn"].commands, ["yarn install --immutable"]);
    assert_eq!(config.setup["yarn"].key, ["yarn.lock", ".yarnrc.yml", release, "package.json"]);
    assert!(survey.hosts().contains(&"repo.yarnpkg.com".to_owned()));
}

#[test]
fn hosts_are_those_of_the_lockfile() {
    let npm = r#"{"packages": {"a": {
        "resolved": "https://npm.corp.example/a.tgz", "funding": {"url": "https://sponsors.example"}},
        "b": {"resolved": "https://127.0.0.1:4873/b.tgz"}, "c": {"resolved": "https://host:1/x"},
        "d": {"resolved": "git+https://token@git.example:8443/x.git#1"}}}"#
        .replace("}, ", "},\n");
    let (survey, _) = read(&[("package-lock.json", &npm)], &[]);
    assert_eq!(survey.hosts(), ["registry.npmjs.org", "npm.corp.example", "git.example:8443"]);
    let cargo = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
                 source = \"git+https://github.com/a/b?rev=1#2\"\n";
    let (survey, _) = read(&[("Cargo.lock", cargo)], &[]);
    assert_eq!(survey.hosts(), ["index.crates.io", "static.crates.io", "github.com"]);
}

#[test]
fn a_test_script_that_is_none_is_no_check() {
    let package = r#"{"scripts":{"test":"echo \"Error: no test specified\" && exit 1"}}"#;
    let (survey, config) = read(&[("package-lock.json", ""), ("package.json", package)], &[]);
    assert!(survey.checks.is_empty() && config.check.command.is_none());
}

#[test]
fn an_empty_repository_gets_a_file_too() {
    let (survey, config) = read(&[], &[]);
    assert_eq!(survey, Survey::default());
    assert!(config.setup.is_empty());
}

#[test]
fn names_that_are_none_are_given_others() {
    let (_, config) = read(
        &[
            ("3d/Cargo.lock", ""),
            ("A_b/Cargo.lock", ""),
            ("a-b/Cargo.lock", ""),
            ("spa ce/Cargo.lock", ""),
            ("local/Cargo.lock", ""),
        ],
        &[],
    );
    let names: Vec<&str> = config.setup.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["a-b", "a-b-2", "cargo", "cargo-2"]);
}

const COMPOSE: &str = r#"
version: "3.8"
x-common: &common
  restart: unless-stopped
  logging: {driver: json-file}
services:
  web:
    build: {context: ./web, target: dev}
    command: npm run "dev server"
    ports: ["3000:3000"]
    environment:
      DATABASE_URL: postgres://shop:secret@db:5432/shop
      SECRET: ${SECRET}
    depends_on: [db]
  db:
    <<: *common
    image: postgres:${PG_VERSION:-16}-alpine
    container_name: shop-db
    environment:
      POSTGRES_USER: shop
      POSTGRES_PASSWORD: ${DB_PASSWORD}
      POSTGRES_DB: ${DB_NAME:-shop}
      PGDATA: /var/lib/postgresql/data
      EMPTY:
    env_file: .env
    ports:
      - "127.0.0.1:5433:5432"
    volumes:
      - pgdata:/var/lib/postgresql/data
      - ./db/init:/docker-entrypoint-initdb.d:ro,z
      - /etc/localtime:/etc/localtime:ro
      - uploads:/uploads
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -U $${POSTGRES_USER}"]
      interval: 1.5s
      timeout: 5s
      retries: 5
    deploy: {resources: {limits: {memory: 512M, cpus: "1"}}}
    shm_size: 128mb
  my_cache:
    <<: *common
    image: redis:7
    command: redis-server --save "" --appendonly no
    ports: [6379]
    volumes: [uploads:/uploads]
    depends_on:
      db: {condition: service_healthy}
      web: {condition: service_started}
  sessions:
    image: redis:7
    ports: ["5433:6379"]
  gis:
    image: postgis/postgis:16-3.4
    network_mode: host
  mail:
    image: ${MAIL_IMAGE}
  admin:
    image: adminer
    profiles: [tools]
  bad:
    image: x
    user: "a b"
    restart: sometimes
volumes: {pgdata: {}, uploads: {}}
"#;

#[test]
fn a_compose_file_becomes_services() {
    let dir = repository(&[("compose.yaml", COMPOSE), ("compose.override.yaml", "")]);
    let composed = compose(dir.path()).unwrap();
    let text = composed.text.clone().unwrap();
    let services = Services::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(composed.services, ["db", "my-cache", "sessions", "gis", "bad"]);

    let db = services.get("db").unwrap();
    assert_eq!(db.env["POSTGRES_DB"], "shop");
    assert!(!db.env.contains_key("POSTGRES_PASSWORD") && !db.env.contains_key("EMPTY"));
    assert_eq!(db.ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["5433:5432"]);
    let volumes: Vec<String> = db.volumes.iter().map(ToString::to_string).collect();
    assert_eq!(volumes, ["./db/init:/docker-entrypoint-initdb.d:ro", "uploads:/uploads"]);
    let check = db.healthcheck.as_ref().unwrap();
    assert_eq!(check.interval().as_millis(), 1500);
    assert!(text.contains("pg_isready -U ${POSTGRES_USER}"), "{text}");
    assert_eq!(db.memory().unwrap().0, 512 << 20);
    assert_eq!(db.restart.to_string(), "always:5");

    let cache = services.get("my-cache").unwrap();
    assert!(text.contains(r#""command": ["redis-server", "--save", "", "--appendonly", "no"]"#), "{text}");
    assert_eq!(cache.depends_on["db"].condition, Condition::ServiceHealthy);
    assert_eq!(cache.depends_on.len(), 1);
    let sessions = services.get("sessions").unwrap();
    assert!(sessions.injected().is_empty() && sessions.ports[0].local.is_none());
    assert_eq!(services.get("gis").unwrap().preset, Some(Preset::Postgres));

    let web = &composed.apps[0];
    assert_eq!((web.name.as_str(), web.port, web.cwd.as_deref()), ("web", Some(3000), Some("web")));
    assert_eq!(web.env.len(), 1, "a variable without a value is none");

    let notes = composed.notes.join("\n");
    for note in [
        "db: the variable POSTGRES_PASSWORD depends on DB_PASSWORD, which has no default; left out",
        "db: the variable EMPTY has no value in the file; left out",
        "db: env_file: is not read",
        "db: the volume /etc/localtime is a place on this machine",
        "db: shm_size has no meaning here and is left out",
        "my_cache: called my-cache here",
        "my_cache: depends on web, which is no service here",
        "sessions: localhost:5433 is taken",
        "sessions: sets no variables, since REDIS_URL is another service's",
        "gis: sets no variables, since",
        "gis: network_mode: every environment has a network of its own",
        "mail: its image depends on MAIL_IMAGE",
        "admin: only started with a profile",
        "bad: user: \"a b\" is not a user or user:group; left out",
        "bad: restart: \"sometimes\" is not known",
        "compose.override.yaml is not read",
    ] {
        assert!(notes.contains(note), "nothing says {note:?}:\n{notes}");
    }
    // The proposal of an app is a comment, whatever stands in the file.
    let text = configuration(&Survey::default(), Some(&composed), &[]);
    assert!(ProjectConfig::parse(&text).unwrap().apps.is_empty());
    let uncommented: String = text
        .lines()
        .skip_while(|line| !line.contains("[apps.web]"))
        .take_while(|line| !line.is_empty())
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    let app = &ProjectConfig::parse(&uncommented).unwrap().apps["web"];
    assert_eq!(app.command, "npm run \"dev server\"");
}

#[test]
fn circles_and_doubles_of_a_compose_file_are_taken_apart() {
    let text =
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n  A: {image: y}\n";
    let dir = repository(&[("docker-compose.yml", text)]);
    let composed = compose(dir.path()).unwrap();
    assert_eq!(composed.services, ["a", "b", "a-2"]);
    assert!(composed.notes.iter().any(|n| n.contains("wait for each other")), "{:?}", composed.notes);
}

#[test]
fn hostile_compose_files_do_no_harm() {
    let laughs = (1..30).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        let refs = vec![format!("*a{}", n - 1); 9].join(", ");
        format!("{text}a{n}: &a{n} [{refs}]\n")
    });
    let merges = (1..30).fold("a0: &a0 {k0: 1}\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n}\n  <<: [*a{0}, *a{0}, *a{0}]\n  k{n}: 1\n", n - 1)
    });
    let many: String =
        (0..20_000).map(|n| format!("  s{n}: {{image: redis, depends_on: [s{}]}}\n", n + 1)).collect();
    let files = [
        ("laughs", format!("{laughs}services: *a29\n")),
        ("merges", format!("{merges}services: {{x: *a29}}\n")),
        ("deep", format!("services: {}{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("deep blocks", (0..5000).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
        ("long", format!("services: {{x: {{image: \"{}\"}}}}", "x".repeat(2 << 20))),
        ("many", format!("services:\n{many}")),
        (
            "many keys",
            format!(
                "services:\n  x:\n    image: y\n{}",
                (0..20_000).map(|n| format!("    k{n}: 1\n")).collect::<String>()
            ),
        ),
        ("itself", "services: &a {x: *a}\n".to_owned()),
        ("not text", "\u{0}\u{1}".to_owned()),
        ("two documents", "services: {}\n---\nservices: {}\n".to_owned()),
        ("a list", "- a\n- b\n".to_owned()),
        ("nothing", String::new()),
        ("null services", "services:\n  a:\n  b: ~\n  c: 5\n".to_owned()),
    ];
    for (what, text) in files {
        let began = std::time::Instant::now();
        let dir = repository(&[("compose.yaml", &text)]);
        let composed = compose(dir.path()).unwrap();
        assert!(composed.services.len() <= 32 && composed.notes.len() <= 101, "{what}");
        assert!(!composed.notes.is_empty(), "{what}: nothing is said");
        if let Some(text) = composed.text {
            Services::parse(&text).unwrap();
        }
        // Generous: what has no bound takes minutes, or all memory.
        assert!(began.elapsed().as_secs() < 20, "{what} took {:?}", began.elapsed());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever stands in a compose file, what is written can be read.
    #[test]
    fn what_is_written_reads(
        image in "[ -~é]{0,12}",
        text in "[ -~\u{85}\u{202e}é\t]{0,20}",
        key in prop::sample::select(vec![
            "command", "entrypoint", "environment", "ports", "volumes", "depends_on", "healthcheck", "mem_limit", "user",
            "working_dir", "restart", "build", "profiles", "x-y",
        ]),
        form in 0..4,
    ) {
        let quoted = serde_json::Value::from(text).to_string();
        let value = match form {
            0 => quoted,
            1 => format!("[{quoted}, {quoted}]"),
            2 => format!("{{test: {quoted}, {quoted}: {quoted}}}"),
            _ => format!("[{{target: {quoted}, source: {quoted}, type: bind}}]"),
        };
        let image = serde_json::Value::from(image).to_string();
        let file = format!("services:\n  a:\n    image: {image}\n    {key}: {value}\n  b: {{image: y, {key}: {value}}}\n");
        let dir = repository(&[("compose.yaml", &file)]);
        let composed = compose(dir.path()).unwrap();
        if let Some(text) = &composed.text {
            prop_assert!(Services::parse(text).is_ok(), "{}", text);
        }
        let text = configuration(&Survey::default(), Some(&composed), &[]);
        let config = ProjectConfig::parse(&text).unwrap();
        prop_assert!(config.apps.is_empty());
    }
}
