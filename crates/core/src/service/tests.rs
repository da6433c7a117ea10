//! Reading `services.json` as a whole.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::{config::ProjectConfig, time::Bytes};

fn parse(text: &str) -> Services {
    Services::parse(text).unwrap_or_else(|e| panic!("{e} at {:?}\n{text}", e.line_column(text)))
}

const WHOLE: &str = r#"{
  "$schema": "https://example.org/services.schema.json",
  "services": [
    {
      "name": "db",
      "image": "postgres:16",
      "memory": "1g",
      "env": {"POSTGRES_USER": "shop", "POSTGRES_PORT": 5432, "FSYNC": false},
      "ports": [5432, "5433:5432"],
      "volumes": ["data:/var/lib/postgresql/data", "./db/init:/docker-entrypoint-initdb.d:ro"],
      "healthcheck": {"test": ["CMD-SHELL", "pg_isready"], "interval": "1m30s", "retries": 5, "start_interval": "100ms"},
      "seed": "db/seed.sql",
      "restart": "on-failure:3",
      "user": 999,
      "working_dir": "/srv//x/",
      "inject": {"DATABASE_URL": "postgres://{user}:{password}@{host}:{port}/{database}"}
    },
    {
      "name": "migrate",
      "image": "oci:./images/migrate",
      "entrypoint": ["/bin/sh", "-c"],
      "command": "migrate up",
      "env": ["A=1", "B=x=y"],
      "depends_on": {"db": {"condition": "service_healthy"}},
      "wait": false
    },
    {"name": "cache", "use": "host", "preset": "redis", "depends_on": ["migrate"]},
    {"name": "search", "use": "host", "command": ["searchd", "--port", "9200"], "ports": [9200]},
    {"name": "reports", "isolation": "schema", "preset": "postgres", "server": "big", "inject": {}, "seed": {"command": "make seed"}}
  ]
}"#;

#[test]
fn a_whole_file_reads() {
    let services = parse(WHOLE);
    let db = services.get("db").unwrap();
    assert_eq!(db.preset, Some(Preset::Postgres), "known by its image");
    assert_eq!(db.memory(), Some(Bytes(1 << 30)));
    assert_eq!(db.env["POSTGRES_PORT"], "5432");
    assert_eq!(db.ports.iter().map(|p| p.local).collect::<Vec<_>>(), [None, Some(5433)]);
    assert_eq!((db.port(), db.listens().len()), (Some(5432), 1));
    assert_eq!(db.volumes[1].to_string(), "./db/init:/docker-entrypoint-initdb.d:ro");
    let check = db.healthcheck.as_ref().unwrap();
    assert_eq!((check.interval().as_secs(), check.start_interval().as_millis()), (90, 100));
    assert_eq!(db.seed, Some(Seed::Sql { sql: vec!["db/seed.sql".parse().unwrap()] }));
    assert_eq!((db.restart.policy, db.restart.attempts), (RestartPolicy::OnFailure, 3));
    assert_eq!((db.user.as_deref(), db.working_dir.as_deref()), (Some("999"), Some("/srv/x")));
    assert_eq!(db.credentials().database, "shop");
    assert_eq!(db.environment()["POSTGRES_PASSWORD"], "postgres");

    let migrate = services.get("migrate").unwrap();
    assert_eq!(migrate.source, Some(Source::Image(Image::Layout("images/migrate".parse().unwrap()))));
    assert_eq!(migrate.env["B"], "x=y");
    assert!(!migrate.wait && migrate.injected().is_empty());

    let cache = services.get("cache").unwrap();
    assert_eq!(cache.injected().keys().collect::<Vec<_>>(), ["REDIS_URL"]);
    assert_eq!(services.get("reports").unwrap().source, None);
    let order: Vec<&str> = services.order().iter().map(|s| s.name.as_str()).collect();
    assert_eq!(order, ["db", "migrate", "cache", "search", "reports"]);
}

#[test]
fn an_object_by_name_is_the_same() {
    let list = parse(r#"{"services": [{"name": "redis", "use": "host"}]}"#);
    assert_eq!(parse(r#"{"services": {"redis": {"use": "host"}}}"#), list);
    assert_eq!(parse(r#"{"services": {"redis": {"use": "host", "name": "redis"}}}"#), list);
    assert_eq!(parse(r#"{"services": []}"#), Services::default());
}

#[test]
fn what_is_stored_reads_as_it_was_written() {
    let services = parse(WHOLE);
    let text = serde_json::to_string_pretty(&services).unwrap();
    assert_eq!(serde_json::from_str::<Services>(&text).unwrap(), services);
    assert_eq!(parse(&text), services);
}

#[test]
fn mistakes_are_pointed_at() {
    let one = |rest: &str| format!(r#"{{"services": [{{"name": "a", {rest}}}]}}"#);
    let two = |rest: &str| one(&format!(r#""image": "x"}}, {{"name": "b", "image": "x", {rest}"#));
    for (text, at, says) in [
        (String::new(), "", "not JSON"),
        (r#"{"services": [}"#.to_owned(), "}", "not JSON"),
        ("[]".to_owned(), "[]", "\"services\" is wanted"),
        ("{}".to_owned(), "{}", "missing"),
        (r#"{"service": []}"#.to_owned(), "\"service\"", "did you mean \"services\"?"),
        (one(r#""image": "x", "comand": "y""#), "\"comand\"", "did you mean \"command\"?"),
        (one(r#""image": "x", "environment": {}"#), "\"environment\"", "write \"env\""),
        (one(r#""image": "x", "build": ".""#), "\"build\"", "[apps]"),
        (one(r#""image": "x", "image": "y""#), "\"image\"", "twice"),
        (one(r#""image": "Not An Image""#), "\"Not An Image\"", "not an image"),
        (one(r#""image": "x:${TAG}""#), "\"x:${TAG}\"", "not an image"),
        (one(r#""image": "oci:/var/x""#), "\"oci:/var/x\"", "on this machine"),
        (one(r#""image": "x", "use": "host""#), "\"host\"", "not both"),
        (one(r#""use": "docker""#), "\"docker\"", "there are \"host\""),
        (one(r#""use": "host""#), "\"a\"", "say its \"command\""),
        (one(r#""wait": true"#), "\"a\"", "neither"),
        (r#"{"services": [{"image": "x"}]}"#.to_owned(), "{\"image\": \"x\"}", "missing"),
        (r#"{"services": [{"name": "A_b", "image": "x"}]}"#.to_owned(), "\"A_b\"", "lower-case"),
        (
            r#"{"services": [{"name": "localhost", "image": "x"}]}"#.to_owned(),
            "\"localhost\"",
            "another name",
        ),
        (r#"{"services": {"a": {"name": "b", "image": "x"}}}"#.to_owned(), "\"b\"", "already"),
        (one(r#""image": "x", "memory": 512"#), "512", "512m"),
        (one(r#""image": "x", "memory": "lots""#), "\"lots\"", "512m"),
        (one(r#""image": "x", "ports": ["127.0.0.1:80:80"]"#), "\"127.0.0.1:80:80\"", "address"),
        (one(r#""image": "x", "ports": [0]"#), "0", "not a port"),
        (one(r#""image": "x", "ports": ["80-90"]"#), "\"80-90\"", "range"),
        (one(r#""image": "x", "volumes": ["/etc:/etc"]"#), "\"/etc:/etc\"", "on this machine"),
        (one(r#""image": "x", "volumes": ["../x:/y"]"#), "\"../x:/y\"", "out of the repository"),
        (one(r#""image": "x", "volumes": ["x:/"]"#), "\"x:/\"", "absolute path"),
        (one(r#""image": "x", "env": ["HOME"]"#), "\"HOME\"", "no value"),
        (one(r#""image": "x", "env": {"A B": 1}"#), "\"A B\"", "variable"),
        (one(r#""image": "x", "command": []"#), "[]", "empty"),
        (one(r#""image": "x", "command": 5"#), "5", "this is a number"),
        (one(r#""image": "x", "healthcheck": {"test": ["ls"]}"#), "[\"ls\"]", "CMD-SHELL"),
        (one(r#""image": "x", "healthcheck": {"tests": "ls"}"#), "\"tests\"", "\"test\"?"),
        (one(r#""image": "x", "healthcheck": {"interval": "soon"}"#), "\"soon\"", "length of time"),
        (one(r#""image": "x", "healthcheck": {"retries": 0}"#), "0", "from 1"),
        (one(r#""image": "x", "restart": "unless-stopped""#), "\"unless-stopped\"", "always"),
        (one(r#""image": "x", "restart": "always:1000""#), "\"always:1000\"", "attempts"),
        (one(r#""image": "x", "seed": {"sql": []}"#), "[]", "no file"),
        (
            one(r#""image": "x", "seed": {"sql": "a.sql", "command": "x"}"#),
            "{\"sql\": \"a.sql\", \"command\": \"x\"}",
            "one of",
        ),
        (one(r#""image": "x", "inject": {"A": "{hots}"}"#), "\"{hots}\"", "{host}"),
        (one(r#""image": "x", "server": "s""#), "\"s\"", "isolation"),
        (one(r#""isolation": "database", "preset": "postgres""#), "{", "which \"server\""),
        (one(r#""isolation": "database", "server": "s""#), "\"a\"", "preset"),
        (one(r#""isolation": "schema", "server": "s", "preset": "mysql""#), "\"schema\"", "mysql cannot"),
        (
            one(r#""isolation": "schema", "server": "s", "preset": "postgres", "image": "x""#),
            "\"x\"",
            "leave it out",
        ),
        (one(r#""isolation": "databse", "server": "s""#), "\"databse\"", "did you mean \"database\"?"),
        (one(r#""image": "x", "user": "a b""#), "\"a b\"", "user:group"),
        (one(r#""image": "x", "user": "\u0000""#), "\"\\u0000\"", "control"),
        (one(r#""image": "x", "wait": "yes""#), "\"yes\"", "true or false"),
        (two(r#""name": "a""#), "\"name\"", "twice"),
        (two(r#""depends_on": ["c"]"#), "\"c\"", "no service called c"),
        (two(r#""depends_on": ["b"]"#), "\"b\"", "b → b"),
        (two(r#""depends_on": {"a": {"condition": "healthy"}}"#), "\"healthy\"", "service_healthy"),
        (
            one(
                r#""image": "x", "healthcheck": {"disable": true}}, {"name": "b", "image": "x", "depends_on": {"a": {"condition": "service_healthy"}}"#,
            ),
            "\"a\"",
            "no health check",
        ),
        (one(r#""image": "x"}, {"name": "a", "image": "x""#), "\"a\"", "two services called a"),
        (
            one(r#""image": "x", "ports": ["1:2"]}, {"name": "b", "image": "x", "ports": ["1:3"]"#),
            "[\"1:3\"]",
            "by both a and b",
        ),
        (
            one(r#""image": "redis"}, {"name": "b", "image": "redis""#),
            "\"b\"",
            "REDIS_URL is set by both a and b",
        ),
    ] {
        let error = Services::parse(&text).expect_err(&text);
        let place = &text[error.span.clone().unwrap()];
        assert!(
            place.starts_with(at) && (place == at || at == "{"),
            "{error} at {place:?}, not {at:?}\n{text}"
        );
        assert!(error.message.contains(says), "{:?} says nothing of {says:?}\n{text}", error.message);
    }
}

#[test]
fn circles_are_told_as_circles() {
    let text = r#"{"services": {
        "z": {"image": "x", "depends_on": ["a"]}, "a": {"image": "x", "depends_on": ["b"]},
        "b": {"image": "x", "depends_on": ["c"]}, "c": {"image": "x", "depends_on": ["a"]}}}"#;
    let error = Services::parse(text).unwrap_err();
    assert_eq!(error.message, "these wait for each other: a → b → c → a");
    assert_eq!(error.line_column(text), Some((2, 51)));
}

#[test]
fn limits_hold() {
    let many: Vec<String> =
        (0..=MAX_SERVICES).map(|n| format!(r#"{{"name": "s{n}", "image": "x"}}"#)).collect();
    let error = Services::parse(&format!(r#"{{"services": [{}]}}"#, many.join(","))).unwrap_err();
    assert!(error.message.contains("at most 32"), "{error}");
    let long = format!(r#"{{"services": [], "$schema": "{}"}}"#, "x".repeat(MAX_TEXT));
    assert!(Services::parse(&long).unwrap_err().message.contains("longer than"));
    let deep = format!(r#"{{"services": {}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(Services::parse(&deep).is_err());
}

#[test]
fn services_and_apps_share_their_names_and_ports() {
    let config = "[apps.web]\ncommand = \"x\"\nport = 3000\n[ports]\nvariables = { PORT = 0 }\n";
    let config = ProjectConfig::parse(config).unwrap();
    for (service, says) in [
        (r#"{"name": "web", "image": "x"}"#, "an app"),
        (r#"{"name": "db", "image": "x", "ports": ["3000:80"]}"#, "localhost:3000"),
        (r#"{"name": "db", "image": "x", "inject": {"PORT": "{port}"}}"#, "[ports]"),
    ] {
        let text = format!(r#"{{"services": [{service}]}}"#);
        let error = config.check_services(&parse(&text), &text).unwrap_err();
        assert!(error.message.contains(says) && error.span.is_some(), "{error:?}");
    }
    assert!(config.check_services(&parse(WHOLE), WHOLE).is_ok());
}

/// JSON that is near enough to a file of services to come far.
fn near_services() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "redis", "postgres", "A", "localhost", ""]);
    let scalar = prop_oneof![
        Just(serde_json::json!(null)),
        any::<bool>().prop_map(|b| b.into()),
        any::<i32>().prop_map(|n| n.into()),
        prop::sample::select(vec![
            "x",
            "host",
            "5433:5432",
            "1m30s",
            "512m",
            "a",
            "redis",
            "./a:/b:ro",
            "A=1",
            "é\u{1F600}",
            "{host}",
            "database",
            "service_healthy",
            "a.sql",
            "oci:x",
            "",
        ])
        .prop_map(|t| t.into()),
    ];
    let keys: Vec<&str> = SERVICE_KEYS
        .iter()
        .map(|k| k.0)
        .chain(["test", "interval", "condition", "sql", "services", "b", "unknown"])
        .collect();
    let key = prop::sample::select(keys);
    let value = scalar.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            prop::collection::hash_map(key.clone(), inner, 0..5).prop_map(|map| {
                serde_json::Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    });
    let service =
        (name, prop::collection::hash_map(prop::sample::select(SERVICE_KEYS).prop_map(|k| k.0), value, 0..4))
            .prop_map(|(name, keys)| {
                let mut object = serde_json::json!({"name": name, "image": "x"});
                object.as_object_mut().unwrap().extend(keys.into_iter().map(|(k, v)| (k.to_owned(), v)));
                object
            });
    prop::collection::vec(service, 0..5).prop_map(|list| serde_json::json!({"services": list}).to_string())
}

/// A file without mistakes but, perhaps, circles.
fn graph() -> impl Strategy<Value = (usize, Vec<(usize, usize)>)> {
    (1usize..12).prop_flat_map(|n| (Just(n), prop::collection::vec((0..n, 0..n), 0..n * 2)))
}

/// Whether the schema that editors are given takes a file.
fn schema_takes(text: &str) -> Result<(), String> {
    static SCHEMA: LazyLock<(boon::Schemas, boon::SchemaIndex)> = LazyLock::new(|| {
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("services.schema.json", json_schema()).unwrap();
        let mut schemas = boon::Schemas::new();
        let index = compiler.compile("services.schema.json", &mut schemas).unwrap();
        (schemas, index)
    });
    let (schemas, schema) = &*SCHEMA;
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    schemas.validate(&value, *schema).map_err(|e| format!("{e:#}"))
}

#[test]
fn the_schema_knows_every_key() {
    schema_takes(WHOLE).unwrap();
    let written = serde_json::to_string(&parse(WHOLE)).unwrap();
    schema_takes(&written).unwrap();
    for bad in [
        r#"{"services": [{"name": "a", "image": "x", "comand": "y"}]}"#,
        r#"{"services": [{"name": "a"}]}"#,
        r#"{"services": [{"name": "a", "image": "x", "use": "host"}]}"#,
        r#"{"services": [{"image": "x"}]}"#,
        r#"{"services": {"A": {"image": "x"}}}"#,
        r#"{"services": {"a": {"image": "x", "restart": "sometimes"}}}"#,
        r#"{"services": {"a": {"image": "x", "seed": {"sql": "a", "command": "b"}}}}"#,
    ] {
        assert!(schema_takes(bad).is_err(), "{bad}");
    }
    // No key without a form.
    let schema = json_schema();
    let properties = &schema["properties"]["services"]["oneOf"][0]["items"]["properties"];
    for (key, ..) in SERVICE_KEYS {
        assert!(properties[key].as_object().is_some_and(|form| form.len() > 1), "{key}");
    }
}

fn spans_are_in_range(text: &str) -> Result<(), TestCaseError> {
    match Services::parse(text) {
        Ok(services) => {
            prop_assert_eq!(schema_takes(text), Ok(()));
            let written = serde_json::to_string(&services).unwrap();
            prop_assert_eq!(Services::parse(&written), Ok(services));
        }
        Err(error) => {
            if let Some(span) = error.span.clone() {
                prop_assert!(text.get(span).is_some(), "{:?}", error);
                prop_assert!(error.line_column(text).is_some());
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn nothing_panics_and_places_are_in_the_text(text in near_services()) {
        spans_are_in_range(&text)?;
    }

    #[test]
    fn damaged_files_are_pointed_at(cut in 0usize..WHOLE.len(), len in 0usize..20, put in "[\\[\\]{}\",:a0é]{0,6}") {
        let end = (cut + len).min(WHOLE.len());
        spans_are_in_range(&format!("{}{put}{}", &WHOLE[..cut], &WHOLE[end..]))?;
    }

    #[test]
    fn order_respects_dependencies((n, edges) in graph()) {
        let services: Vec<_> = (0..n)
            .map(|i| {
                let needs: Vec<String> = edges.iter().filter(|(a, _)| *a == i).map(|(_, b)| format!("s{b}")).collect();
                serde_json::json!({"name": format!("s{i}"), "image": "x", "depends_on": needs})
            })
            .collect();
        match Services::parse(&serde_json::json!({"services": services}).to_string()) {
            Ok(services) => {
                let order: Vec<String> = services.order().iter().map(|s| s.name.to_string()).collect();
                prop_assert_eq!(order.len(), n);
                for (a, b) in edges {
                    let at = |i: usize| order.iter().position(|name| *name == format!("s{i}"));
                    prop_assert!(at(b) < at(a));
                }
            }
            Err(error) => {
                // The circle that is told is one.
                let ring = error.message.strip_prefix("these wait for each other: ").unwrap().split(" → ");
                let ring: Vec<usize> = ring.map(|s| s[1..].parse().unwrap()).collect();
                prop_assert_eq!(ring.first(), ring.last());
                prop_assert!(ring.windows(2).all(|w| edges.contains(&(w[0], w[1]))), "{:?}", ring);
            }
        }
    }
}
