//! One service of a compose file as keys of `services.json`, and what is said of the rest. What a key may hold is
//! `offshoot_core::service`'s to decide: here values only change their form.

use serde_json::{Map, Value, json};

use super::yaml::Yaml;

/// A service on its way: its keys in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Its name here.
    pub name: String,
    /// Its name in the compose file.
    pub called: String,
    pub pieces: Vec<(&'static str, Value)>,
    /// Names in the compose file, with conditions.
    pub depends_on: Vec<(String, Option<String>)>,
}

/// Keys that change nothing here.
const SILENT: &[&str] = &[
    "annotations",
    "attach",
    "init",
    "labels",
    "logging",
    "networks",
    "platform",
    "pull_policy",
    "stdin_open",
    "stop_grace_period",
    "tmpfs",
    "tty",
    "container_name",
];

/// Keys that are taken over, here or by `compose`.
const TAKEN: &[&str] = &[
    "image",
    "command",
    "entrypoint",
    "environment",
    "ports",
    "expose",
    "volumes",
    "depends_on",
    "healthcheck",
    "mem_limit",
    "deploy",
    "user",
    "working_dir",
    "restart",
];

/// Keys that cannot be, and why.
const REFUSED: &[(&str, &str)] = &[
    ("env_file", "is not read; list what is needed in \"env\""),
    ("extends", "is not followed"),
    ("privileged", "nothing in an environment is privileged"),
    ("cap_add", "nothing in an environment is privileged"),
    ("devices", "devices of this machine are not shown inside"),
    ("network_mode", "every environment has a network of its own"),
    ("extra_hosts", "other machines are reached by [egress] only"),
    ("hostname", "a service is found by its name"),
    ("links", "services find each other by name; other names are not given"),
    ("secrets", "files with secrets are not made"),
    ("configs", "files of configuration are not made; mount one as a volume"),
];

/// Images with another name that are a known service all the same: with its variables and its port.
const ALIKE: &[(&str, &str)] = &[
    ("postgis/postgis", "postgres"),
    ("pgvector/pgvector", "postgres"),
    ("timescale/timescaledb", "postgres"),
    ("supabase/postgres", "postgres"),
    ("redis/redis-stack-server", "redis"),
    ("redis/redis-stack", "redis"),
    ("valkey/valkey", "valkey"),
];

/// Takes over what can be; `say` is told of the rest. `shared` are the named volumes that several services have.
pub(super) fn service(
    called: &str,
    from: &Yaml,
    shared: &[String],
    say: &mut dyn FnMut(String),
) -> Option<Draft> {
    let image = match from.get("image") {
        Some(Yaml::Open(name)) => {
            say(format!("its image depends on {name}, which has no default; the service is left out"));
            return None;
        }
        other => other.and_then(Yaml::scalar)?,
    };
    let mut draft = Draft { called: called.to_owned(), ..Draft::default() };
    let repository = image.split('@').next().and_then(|i| i.split(':').next()).unwrap_or_default();
    let alike =
        ALIKE.iter().find(|(name, _)| repository.strip_prefix("docker.io/").unwrap_or(repository) == *name);
    draft.put("image", Some(Value::from(image.clone())));
    draft.put("preset", alike.map(|(_, preset)| Value::from(*preset)));
    for key in ["entrypoint", "command"] {
        draft.put(key, from.get(key).and_then(|value| command(key, value, say)));
    }
    draft.put("env", from.get("environment").and_then(|value| environment(value, say)));
    draft.put("ports", ports(from, say));
    draft.put("volumes", from.get("volumes").and_then(|value| volumes(value, shared, say)));
    draft.put("healthcheck", from.get("healthcheck").and_then(|value| healthcheck(value, say)));
    let memory =
        from.get("mem_limit").or_else(|| from.get("deploy")?.get("resources")?.get("limits")?.get("memory"));
    draft.put(
        "memory",
        memory.and_then(|value| plain("memory", value, say)).map(|text| Value::from(memory_of(&text))),
    );
    for key in ["user", "working_dir"] {
        draft.put(key, from.get(key).and_then(|value| plain(key, value, say)).map(Value::from));
    }
    let restart = from.get("restart").and_then(|value| plain("restart", value, say));
    draft.put(
        "restart",
        restart
            .filter(|r| r != "no" && r != "false")
            .map(|r| Value::from(if r == "unless-stopped" { "always".to_owned() } else { r })),
    );
    draft.depends_on = depends_on(from.get("depends_on").unwrap_or(&Yaml::Null));
    for (key, value) in from.entries() {
        if let Some((_, why)) = REFUSED.iter().find(|(k, _)| k == key) {
            say(format!("{key}: {why}"));
        } else if !SILENT.contains(&key.as_str())
            && !TAKEN.contains(&key.as_str())
            && !key.starts_with("x-")
            && *value != Yaml::Null
        {
            say(format!("{key} has no meaning here and is left out"));
        }
    }
    Some(draft)
}

impl Draft {
    fn put(&mut self, key: &'static str, value: Option<Value>) {
        if let Some(value) = value {
            self.pieces.push((key, value));
        }
    }
}

/// A single text, if it is one.
fn plain(key: &str, value: &Yaml, say: &mut dyn FnMut(String)) -> Option<String> {
    match value {
        Yaml::Open(name) => {
            say(format!("{key} depends on {name}, which has no default; left out"));
            None
        }
        other => other.scalar(),
    }
}

/// Compose splits a text into words itself; there is no shell.
fn command(key: &str, value: &Yaml, say: &mut dyn FnMut(String)) -> Option<Value> {
    if let Yaml::List(items) = value {
        let words: Option<Vec<String>> = items.iter().map(|item| plain(key, item, say)).collect();
        return words.filter(|words| !words.is_empty()).map(|words| json!(words));
    }
    let text = plain(key, value, say)?;
    match shlex::split(&text) {
        Some(words) if !words.is_empty() => Some(json!(words)),
        Some(_) => None,
        None => {
            say(format!("{key}: its quotes do not match; left out"));
            None
        }
    }
}

/// The variables that have a value here, in the order of the file.
pub(super) fn variables(value: &Yaml, say: &mut dyn FnMut(String)) -> Vec<(String, String)> {
    let pairs: Vec<(String, Yaml)> = match value {
        Yaml::Map(entries) => entries.clone(),
        other => other
            .items()
            .iter()
            .map(|item| match item {
                // Which of the variables it would have been is not known any more.
                Yaml::Open(name) => (name.clone(), item.clone()),
                item => {
                    let text = item.scalar().unwrap_or_default();
                    match text.split_once('=') {
                        Some((name, value)) => (name.to_owned(), Yaml::Text(value.to_owned())),
                        None => (text, Yaml::Null),
                    }
                }
            })
            .collect(),
    };
    let mut found = Vec::new();
    for (name, value) in pairs {
        match value {
            Yaml::Open(missing) if missing == name => {
                say(format!("the variable {name} has no value in the file; left out"));
            }
            Yaml::Open(missing) => {
                say(format!("the variable {name} depends on {missing}, which has no default; left out"))
            }
            Yaml::Null => say(format!("the variable {name} has no value in the file; left out")),
            other => match other.scalar() {
                Some(text) if text.starts_with("/run/secrets/") => {
                    say(format!(
                        "the variable {name} names a file with a secret, which is not made; left out"
                    ));
                }
                Some(text) => found.push((name, text)),
                None => say(format!("the variable {name} is not a text; left out")),
            },
        }
    }
    found
}

fn environment(value: &Yaml, say: &mut dyn FnMut(String)) -> Option<Value> {
    let env: Map<String, Value> =
        variables(value, say).into_iter().map(|(name, text)| (name, Value::from(text))).collect();
    (!env.is_empty()).then_some(Value::Object(env))
}

/// Container ports, with the port of this machine under which they were found: inside, that is `localhost`'s.
fn ports(from: &Yaml, say: &mut dyn FnMut(String)) -> Option<Value> {
    let mut ports: Vec<String> = Vec::new();
    for item in from.get("ports").unwrap_or(&Yaml::Null).items() {
        if let Some(port) = port(item, say) {
            ports.push(port);
        }
    }
    for item in from.get("expose").unwrap_or(&Yaml::Null).items() {
        let text = item.scalar().unwrap_or_default();
        let text = text.trim_end_matches("/tcp");
        if text.parse::<u16>().is_ok() && !ports.iter().any(|p| p.rsplit(':').next() == Some(text)) {
            ports.push(text.to_owned());
        }
    }
    ports.dedup();
    (!ports.is_empty()).then(|| json!(ports))
}

fn port(item: &Yaml, say: &mut dyn FnMut(String)) -> Option<String> {
    if item.get("target").is_some() {
        let text = |key| item.get(key).and_then(Yaml::scalar);
        let target = text("target")?;
        if text("protocol").is_some_and(|p| p != "tcp") {
            say(format!("port {target}: only TCP ports are listed"));
            return None;
        }
        return Some(text("published").map_or(target.clone(), |published| format!("{published}:{target}")));
    }
    if let Yaml::Open(name) = item {
        say(format!("a port depends on {name}, which has no default; left out"));
        return None;
    }
    let text = item.scalar()?;
    let ports = text.trim_end_matches("/tcp");
    // An address before them says who may come in from outside, which nobody can here.
    let parts: Vec<&str> = ports.rsplitn(3, ':').collect();
    match parts.as_slice() {
        [container] => Some((*container).to_owned()),
        [container, ""] => Some((*container).to_owned()),
        [container, local] | [container, local, _] => {
            Some(if local.is_empty() { (*container).to_owned() } else { format!("{local}:{container}") })
        }
        _ => None,
    }
}

/// The named volumes of a service and everything else it is shown, as `(source, target, read only)`.
pub(super) fn mounts(value: &Yaml) -> Vec<Result<(String, String, bool), String>> {
    let mut found = Vec::new();
    for item in value.items() {
        if let Yaml::Open(name) = item {
            found.push(Err(format!("a volume depends on {name}, which has no default; left out")));
            continue;
        }
        let text = |key| item.get(key).and_then(Yaml::scalar);
        if let Some(target) = text("target") {
            let read_only = item.get("read_only") == Some(&Yaml::Bool(true));
            match (text("type").as_deref(), text("source")) {
                (Some("tmpfs"), _) | (Some("volume"), None) => {}
                (Some("bind"), Some(source)) if !source.starts_with(['.', '/', '~']) => {
                    found.push(Ok((format!("./{source}"), target, read_only)));
                }
                (_, Some(source)) => found.push(Ok((source, target, read_only))),
                _ => found.push(Err(format!(
                    "the volume at {target} is of a kind that does not exist here; left out"
                ))),
            }
            continue;
        }
        let text = item.scalar().unwrap_or_default();
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            // What it writes there is its own anyway.
            [_] => {}
            [source, target] => found.push(Ok(((*source).to_owned(), (*target).to_owned(), false))),
            [source, target, how] => {
                found.push(Ok((
                    (*source).to_owned(),
                    (*target).to_owned(),
                    how.split(',').any(|word| word == "ro"),
                )));
            }
            _ => found.push(Err(format!("the volume {text} cannot be read; left out"))),
        }
    }
    found
}

fn volumes(value: &Yaml, shared: &[String], say: &mut dyn FnMut(String)) -> Option<Value> {
    let mut volumes: Vec<String> = Vec::new();
    for mount in mounts(value) {
        match mount {
            Err(why) => say(why),
            Ok((source, _, _)) if source.starts_with(['/', '~']) => {
                say(format!(
                    "the volume {source} is a place on this machine, which is not shown inside; left out"
                ));
            }
            // Where nobody else looks, what it writes is its own anyway.
            Ok((source, _, _)) if !source.starts_with('.') && !shared.contains(&source) => {}
            Ok((source, target, read_only)) => {
                volumes.push(format!("{source}:{target}{}", if read_only { ":ro" } else { "" }));
            }
        }
    }
    (!volumes.is_empty()).then(|| json!(volumes))
}

fn healthcheck(value: &Yaml, say: &mut dyn FnMut(String)) -> Option<Value> {
    let mut check = Map::new();
    for (key, value) in value.entries() {
        let put = match (key.as_str(), value) {
            (_, Yaml::Null) => None,
            ("test", Yaml::List(items)) => {
                let words: Option<Vec<String>> =
                    items.iter().map(|i| plain("healthcheck.test", i, say)).collect();
                words.map(|words| json!(words))
            }
            ("test", other) => plain("healthcheck.test", other, say).map(Value::from),
            ("disable", Yaml::Bool(true)) => Some(Value::from(true)),
            ("disable", _) => None,
            ("retries", other) => other.scalar().and_then(|n| n.parse::<u32>().ok()).map(Value::from),
            ("interval" | "timeout" | "start_period" | "start_interval", other) => {
                plain(&format!("healthcheck.{key}"), other, say)
                    .map(|text| Value::from(duration(&text).unwrap_or(text)))
            }
            _ => {
                say(format!("healthcheck.{key} has no meaning here and is left out"));
                None
            }
        };
        if let Some(value) = put {
            check.insert(key.clone(), value);
        }
    }
    (!check.is_empty()).then_some(Value::Object(check))
}

/// A time with a fraction, as in `1.5s`, in whole milliseconds.
fn duration(text: &str) -> Option<String> {
    let mut rest = text;
    let mut millis = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let each = match unit {
            "us" => 0.001,
            "ms" => 1.0,
            "s" => 1000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        millis += number.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)? * each;
        rest = next;
    }
    // Whole seconds read best as they were written.
    (text.contains(['.', 'u']) && millis < 1e9).then(|| format!("{}ms", millis.ceil()))
}

/// A size in whole megabytes: compose takes bytes without a unit, and fractions.
fn memory_of(text: &str) -> String {
    let lower = text.trim().to_ascii_lowercase();
    let unit = lower.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim();
    let number =
        lower.get(..lower.len().saturating_sub(unit.len())).unwrap_or_default().trim().parse::<f64>();
    let each = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1_048_576.0,
        "g" => 1_073_741_824.0,
        _ => return text.to_owned(),
    };
    match number {
        Ok(number) if number.is_finite() && number > 0.0 && number * each < 1e15 => {
            format!("{}m", (number * each / 1_048_576.0).ceil())
        }
        _ => text.to_owned(),
    }
}

fn depends_on(value: &Yaml) -> Vec<(String, Option<String>)> {
    match value {
        Yaml::Map(entries) => entries
            .iter()
            .map(|(name, how)| (name.clone(), how.get("condition").and_then(Yaml::scalar)))
            .collect(),
        other => other.items().iter().filter_map(Yaml::scalar).map(|name| (name, None)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_change() {
        for (text, want) in [
            ("1.5s", Some("1500ms")),
            ("10s", None),
            ("500us", Some("1ms")),
            ("x", None),
            ("1.5", None),
            ("1e400s", None),
            ("-1.5s", None),
        ] {
            assert_eq!(duration(text).as_deref(), want, "{text}");
        }
        for (text, want) in [
            ("512M", "512m"),
            ("1g", "1024m"),
            ("0.5GB", "512m"),
            ("1073741824", "1024m"),
            ("64mib", "64m"),
            ("1", "1m"),
            ("lots", "lots"),
            ("", ""),
        ] {
            assert_eq!(memory_of(text), want, "{text}");
        }
    }
}
