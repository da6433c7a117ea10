//! One service out of JSON. Each mistake is told at its place, with what is meant where that can be guessed.
//! What must hold between services is `check`'s.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use super::{
    MAX_ITEMS, MAX_SERVICES, MAX_TEXT, MAX_VARIABLES,
    json::{Kind, Member, Node},
    parts::{inside, is_variable},
    preset::Preset,
    schema::SERVICE_KEYS,
    types::{
        Command, Condition, DataIsolation, Dependency, Healthcheck, Program, Seed, Service, Services, Source,
        Test,
    },
};
use crate::{config::ConfigError, name::Label, time::Span};

/// A service with the places that `check` may have to point at.
pub(super) struct Placed<'a> {
    pub service: Service,
    pub name: Node<'a>,
    pub whole: Node<'a>,
    /// Each dependency's place.
    pub depends_on: BTreeMap<Label, Node<'a>>,
    pub ports: Option<Node<'a>>,
    pub inject: Option<Node<'a>>,
}

/// Keys of compose files that have another word or no meaning here.
const FOREIGN: &[(&str, &str)] = &[
    ("environment", "write \"env\""),
    ("mem_limit", "write \"memory\""),
    ("deploy", "write \"memory\""),
    ("container_name", "a service is found by its \"name\""),
    ("hostname", "a service is found by its \"name\""),
    ("build", "what is built from this repository is an app: [apps] in offshoot.toml"),
    ("env_file", "list the variables in \"env\""),
    ("expose", "write \"ports\""),
    ("networks", "every environment has a network of its own"),
    ("network_mode", "every environment has a network of its own"),
    ("links", "services find each other by name"),
    ("privileged", "nothing in an environment is privileged"),
    ("cap_add", "nothing in an environment is privileged"),
];

impl Services {
    /// Reads the text of `services.json`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > MAX_TEXT {
            return Err(ConfigError { message: format!("longer than {MAX_TEXT} bytes"), span: None });
        }
        let root = Node::root(text)?;
        let mut services = None;
        for member in root.object("an object with \"services\"", MAX_ITEMS)? {
            match member.key.as_str() {
                "services" => services = Some(member.value),
                // So that editors find the schema.
                "$schema" => drop(member.value.text("an address")?),
                other => {
                    let hint = suggestion(other, ["services"].into_iter());
                    return Err(member.at.error(format!("there is no {other:?} here{hint}")));
                }
            }
        }
        let services = services.ok_or_else(|| root.error("\"services\" is missing"))?;
        let mut placed = Vec::new();
        if services.kind() == Kind::List {
            for node in services.list("a list of services", MAX_SERVICES)? {
                placed.push(service(node, None)?);
            }
        } else {
            for member in services.object("a list or an object of services", MAX_SERVICES)? {
                placed.push(service(member.value, Some(&member))?);
            }
        }
        super::check::check(&placed)?;
        Ok(Self { services: placed.into_iter().map(|p| p.service).collect() })
    }
}

/// ` (did you mean …?)`, if something is near enough.
fn suggestion<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    known
        .map(|k| (strsim::damerau_levenshtein(&word.to_ascii_lowercase(), k), k))
        .min()
        .filter(|(distance, k)| *distance <= 1 + k.len() / 4)
        .map(|(_, k)| format!("; did you mean {k:?}?"))
        .unwrap_or_default()
}

fn unknown<'k>(member: &Member<'_>, what: &str, known: impl Iterator<Item = &'k str>) -> ConfigError {
    let hint = FOREIGN
        .iter()
        .find(|(key, _)| *key == member.key)
        .map_or_else(|| suggestion(&member.key, known), |(_, hint)| format!("; {hint}"));
    member.at.error(format!("{what} has no {:?}{hint}", member.key))
}

/// A text that is read by its type.
fn part<T: FromStr<Err: Display>>(node: &Node<'_>, what: &str) -> Result<T, ConfigError> {
    node.scalar(what)?.parse().map_err(|error: T::Err| node.error(error.to_string()))
}

/// One of some words.
fn word<T: Copy>(node: &Node<'_>, words: &[(&str, T)]) -> Result<T, ConfigError> {
    let list = words.iter().map(|(w, _)| format!("{w:?}")).collect::<Vec<_>>().join(", ");
    let text = node.text(&format!("one of {list}"))?;
    words.iter().find(|(w, _)| *w == text).map(|(_, value)| *value).ok_or_else(|| {
        let hint = suggestion(&text, words.iter().map(|(w, _)| *w));
        let hint = if hint.is_empty() { format!("; there are {list}") } else { hint };
        node.error(format!("{text:?} is not known here{hint}"))
    })
}

fn command(node: &Node<'_>) -> Result<Command, ConfigError> {
    if node.kind() != Kind::List {
        let line = node.text("a command: a text or a list of texts")?;
        return if line.trim().is_empty() {
            Err(node.error("the command is empty"))
        } else {
            Ok(Command::Shell(line))
        };
    }
    let words = words(node)?;
    if words.first().is_none_or(String::is_empty) {
        return Err(node.error("the command is empty"));
    }
    Ok(Command::List(words))
}

fn words(node: &Node<'_>) -> Result<Vec<String>, ConfigError> {
    node.list("a list of texts", MAX_VARIABLES)?.iter().map(|word| word.scalar("a text")).collect()
}

fn parts<T: FromStr<Err: Display>>(node: &Node<'_>, what: &str) -> Result<Vec<T>, ConfigError> {
    node.list(what, MAX_ITEMS)?.iter().map(|item| part(item, "a text")).collect()
}

fn variables(node: &Node<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut env = BTreeMap::new();
    let mut put = |at: &Node<'_>, key: &str, value: String| {
        if !is_variable(key) {
            return Err(at.error(format!("{key:?} is not the name of a variable")));
        }
        if env.insert(key.to_owned(), value).is_some() {
            return Err(at.error(format!("{key:?} stands here twice")));
        }
        Ok(())
    };
    if node.kind() == Kind::List {
        for item in node.list("a list", MAX_VARIABLES)? {
            let text = item.text("a text as in \"NAME=value\"")?;
            let (key, value) = text.split_once('=').ok_or_else(|| {
                item.error(format!("{text:?} has no value; nothing of this machine's variables comes in"))
            })?;
            put(&item, key, value.to_owned())?;
        }
    } else {
        for member in node.object("an object or a list of \"NAME=value\"", MAX_VARIABLES)? {
            put(&member.at, &member.key, member.value.scalar("a text, a number, true or false")?)?;
        }
    }
    Ok(env)
}

fn healthcheck(node: &Node<'_>) -> Result<Healthcheck, ConfigError> {
    const KEYS: [&str; 7] =
        ["test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"];
    let mut check = Healthcheck::default();
    let mut disable = None;
    let span = |node: &Node<'_>| {
        let span: Span = part(node, "a time, as in \"10s\"")?;
        // The longest that anybody waits for a service; and none is asked without a pause.
        if span.0.is_zero() || span.0.as_secs() > 3600 {
            return Err(node.error("a time from 1ms to 1h is wanted"));
        }
        Ok(Some(span))
    };
    for member in node.object("a health check", MAX_ITEMS)? {
        let value = &member.value;
        match member.key.as_str() {
            "test" => check.test = Some(test(value)?),
            "interval" => check.interval = span(value)?,
            "timeout" => check.timeout = span(value)?,
            "retries" => check.retries = Some(value.number(1, 1000)?),
            // Nothing to wait for is the same as not saying so in compose files, and often written there.
            "start_period" if value.scalar("a time")? == "0s" => {
                check.start_period = Some(Span(std::time::Duration::ZERO));
            }
            "start_period" => check.start_period = span(value)?,
            "start_interval" => check.start_interval = span(value)?,
            "disable" => disable = value.bool()?.then_some(member.at),
            _ => return Err(unknown(&member, "a health check", KEYS.into_iter())),
        }
    }
    if let Some(at) = disable {
        if check.test.as_ref().is_some_and(|test| *test != Test::None) {
            return Err(at.error("either a test or \"disable\", not both"));
        }
        check.test = Some(Test::None);
    }
    Ok(check)
}

fn test(node: &Node<'_>) -> Result<Test, ConfigError> {
    if node.kind() != Kind::List {
        let line = node.text("a command: a text or a list")?;
        return if line.trim().is_empty() {
            Err(node.error("the test is empty"))
        } else {
            Ok(Test::Shell(line))
        };
    }
    let words = words(node)?;
    let shell = |rest: &str| !rest.trim().is_empty();
    Test::try_from(words).map_err(|m| node.error(m)).and_then(|test| match &test {
        Test::Shell(line) if !shell(line) => Err(node.error("the test is empty")),
        Test::Command(words) if words.first().is_some_and(String::is_empty) => {
            Err(node.error("the test is empty"))
        }
        _ => Ok(test),
    })
}

fn seed(node: &Node<'_>) -> Result<Seed, ConfigError> {
    if node.kind() == Kind::Text {
        let text = node.text("a path")?;
        let path = part(node, "a path")?;
        return Ok(match text.ends_with(".sql") {
            true => Seed::Sql { sql: vec![path] },
            false => Seed::Directory { directory: path },
        });
    }
    const KEYS: [&str; 4] = ["sql", "directory", "command", "key"];
    let members =
        node.object("a path, or an object with \"sql\", \"directory\" or \"command\"", MAX_ITEMS)?;
    let (keys, members): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.key == "key");
    let [member] = members.as_slice() else {
        return Err(node.error("exactly one of \"sql\", \"directory\" and \"command\" is wanted"));
    };
    if let (Some(key), true) = (keys.first(), member.key != "command") {
        return Err(key.value.error("only a command has a key: of others the content is known"));
    }
    let value = &member.value;
    match member.key.as_str() {
        "sql" if value.kind() == Kind::List => match parts(value, "a list of paths")? {
            paths if paths.is_empty() => Err(value.error("no file is named")),
            sql => Ok(Seed::Sql { sql }),
        },
        "sql" => Ok(Seed::Sql { sql: vec![part(value, "a path or a list of paths")?] }),
        "directory" => Ok(Seed::Directory { directory: part(value, "a path")? }),
        "command" => match value.text("a command")? {
            line if line.trim().is_empty() => Err(value.error("the command is empty")),
            command => {
                let key = keys.first().map(|key| parts(&key.value, "a list of paths")).transpose()?;
                Ok(Seed::Command { command, key: key.unwrap_or_default() })
            }
        },
        _ => Err(unknown(member, "a seed", KEYS.into_iter())),
    }
}

/// What is needed, and where each is said.
type Needs<'a> = (BTreeMap<Label, Dependency>, BTreeMap<Label, Node<'a>>);

fn depends_on<'a>(node: &Node<'a>) -> Result<Needs<'a>, ConfigError> {
    let (mut needs, mut places) = (BTreeMap::new(), BTreeMap::new());
    if node.kind() == Kind::List {
        for item in node.list("a list of names", MAX_ITEMS)? {
            let name: Label = part(&item, "the name of a service")?;
            places.insert(name.clone(), item);
            needs.insert(name, Dependency::default());
        }
        return Ok((needs, places));
    }
    for member in node.object("a list of names, or an object by name", MAX_ITEMS)? {
        let name: Label =
            member.key.parse().map_err(|e: crate::name::LabelError| member.at.error(e.to_string()))?;
        let mut dependency = Dependency::default();
        for inner in member.value.object("an object with \"condition\"", MAX_ITEMS)? {
            match inner.key.as_str() {
                "condition" => {
                    dependency.condition = word(
                        &inner.value,
                        &[
                            ("service_started", Condition::ServiceStarted),
                            ("service_healthy", Condition::ServiceHealthy),
                            ("service_completed_successfully", Condition::ServiceCompletedSuccessfully),
                        ],
                    )?;
                }
                _ => return Err(unknown(&inner, "a dependency", ["condition"].into_iter())),
            }
        }
        places.insert(name.clone(), member.at);
        needs.insert(name, dependency);
    }
    Ok((needs, places))
}

fn presets() -> Vec<(&'static str, Preset)> {
    Preset::ALL.into_iter().map(|preset| (preset.facts().name, preset)).collect()
}

fn service<'a>(node: Node<'a>, keyed: Option<&Member<'a>>) -> Result<Placed<'a>, ConfigError> {
    let members = node.object("a service", MAX_ITEMS)?;
    let find = |key: &str| members.iter().find(|m| m.key == key).map(|m| m.value);
    if let Some(member) = members.iter().find(|m| !SERVICE_KEYS.iter().any(|k| k.0 == m.key)) {
        return Err(unknown(member, "a service", SERVICE_KEYS.iter().map(|k| k.0)));
    }
    let (name, name_at): (Label, Node<'a>) = match (keyed, find("name")) {
        (Some(member), None) => (part(&member.at, "a name")?, member.at),
        (Some(member), Some(at)) if at.text("a name")? == member.key => (part(&at, "a name")?, at),
        (Some(member), Some(at)) => {
            return Err(at.error(format!("its name is {:?} already; leave this out", member.key)));
        }
        (None, Some(at)) => (at.text("a name").and_then(|_| part(&at, "a name"))?, at),
        (None, None) => return Err(node.error("\"name\" is missing")),
    };
    let source = match (find("image"), find("use")) {
        (Some(_), Some(host)) => {
            return Err(host.error(format!("{name} has an image; either \"image\" or \"use\", not both")));
        }
        (Some(image), None) => {
            image.text("an image, as in \"postgres:16\"")?;
            Some(Source::Image(part(&image, "an image")?))
        }
        (None, Some(host)) => Some(Source::Use(word(&host, &[("host", Program::Host)])?)),
        (None, None) => None,
    };
    let preset = match (find("preset"), &source) {
        (Some(at), _) => Some(word(&at, &presets())?),
        (None, Some(Source::Image(image))) => {
            image.repository_name().filter(|_| image.is_official()).and_then(Preset::named)
        }
        (None, _) => Preset::named(name.as_str()),
    };
    let (depends_on, depends_at) =
        find("depends_on").map(|n| depends_on(&n)).transpose()?.unwrap_or_default();
    let isolation = find("isolation").map(|n| {
        word(
            &n,
            &[
                ("server", DataIsolation::Server),
                ("database", DataIsolation::Database),
                ("schema", DataIsolation::Schema),
            ],
        )
    });
    let inject = |n: Node<'a>| -> Result<BTreeMap<_, _>, ConfigError> {
        let mut templates = BTreeMap::new();
        for member in n.object("an object of templates", MAX_ITEMS)? {
            if !is_variable(&member.key) {
                return Err(member.at.error(format!("{:?} is not the name of a variable", member.key)));
            }
            templates.insert(member.key, part(&member.value, "a template, as in \"redis://{host}:{port}\"")?);
        }
        Ok(templates)
    };
    let service = Service {
        preset,
        command: find("command").map(|n| command(&n)).transpose()?,
        entrypoint: find("entrypoint").map(|n| command(&n)).transpose()?,
        env: find("env").map(|n| variables(&n)).transpose()?.unwrap_or_default(),
        ports: find("ports").map(|n| parts(&n, "a list of ports")).transpose()?.unwrap_or_default(),
        volumes: find("volumes").map(|n| parts(&n, "a list of volumes")).transpose()?.unwrap_or_default(),
        depends_on,
        healthcheck: find("healthcheck").map(|n| healthcheck(&n)).transpose()?,
        memory: find("memory").map(|n| part(&n, "a size, as in \"512m\"")).transpose()?,
        user: find("user").map(|n| user(&n)).transpose()?,
        working_dir: find("working_dir")
            .map(|n| inside(&n.text("an absolute path")?).map_err(|e| n.error(e.to_string())))
            .transpose()?,
        restart: find("restart").map(|n| part(&n, "a text")).transpose()?.unwrap_or_default(),
        seed: find("seed").map(|n| seed(&n)).transpose()?,
        isolation: isolation.transpose()?.unwrap_or_default(),
        server: find("server").map(|n| part(&n, "the name of a server")).transpose()?,
        inject: find("inject").map(inject).transpose()?,
        wait: find("wait").map(|n| n.bool()).transpose()?.unwrap_or(true),
        name,
        source,
    };
    alone(&service, &node, &name_at, &find)?;
    Ok(Placed {
        service,
        name: name_at,
        whole: node,
        depends_on: depends_at,
        ports: find("ports"),
        inject: find("inject"),
    })
}

fn user(node: &Node<'_>) -> Result<String, ConfigError> {
    let text = node.scalar("a user")?;
    let sound = |part: &str| {
        (1..=64).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    let mut names = text.splitn(2, ':');
    if names.all(sound) { Ok(text) } else { Err(node.error(format!("{text:?} is not a user or user:group"))) }
}

/// What must hold within one service.
fn alone<'a>(
    service: &Service,
    node: &Node<'a>,
    name: &Node<'a>,
    find: &impl Fn(&str) -> Option<Node<'a>>,
) -> Result<(), ConfigError> {
    let called = &service.name;
    if service.isolation == DataIsolation::Server {
        if let Some(at) = find("server") {
            return Err(
                at.error("a shared server is named only with \"isolation\": \"database\" or \"schema\"")
            );
        }
        match &service.source {
            None => return Err(name.error(format!("{called} has neither \"image\" nor \"use\": \"host\""))),
            Some(Source::Use(_)) if service.preset.is_none() && service.command.is_none() => {
                return Err(name.error(format!(
                    "{called} is none of the known services; say its \"command\", or its \"preset\""
                )));
            }
            Some(Source::Use(_)) => {
                if let Some(at) = find("user").or_else(|| find("entrypoint")) {
                    return Err(at.error(
                        "only an image has this; a program of this machine runs as the environment does",
                    ));
                }
            }
            Some(Source::Image(_)) => {}
        }
        return Ok(());
    }
    if service.server.is_none() {
        return Err(node.error(format!("{called} does not say which \"server\" it is a part of")));
    }
    let own = [
        "image",
        "use",
        "command",
        "entrypoint",
        "env",
        "ports",
        "volumes",
        "healthcheck",
        "memory",
        "user",
        "working_dir",
        "restart",
    ];
    if let Some((key, at)) = own.iter().find_map(|key| find(key).map(|at| (key, at))) {
        return Err(at.error(format!(
            "{called} is a part of a shared server, which has its own {key:?}; leave it out"
        )));
    }
    match service.preset {
        None => {
            Err(name.error(format!("{called} does not say what kind of server it is; say its \"preset\"")))
        }
        Some(preset) if !preset.supports(service.isolation) => {
            let at = find("isolation").unwrap_or(*node);
            Err(at.error(format!("{} cannot be shared in this way", preset.facts().name)))
        }
        Some(_) => Ok(()),
    }
}
