//! `services.json` out of a compose file. Only what runs *beside* the project: a service that is built from the repository
//! is an app. What cannot be taken over is said; what is written has been read by the very reader of `services.json`.

use std::{collections::BTreeSet, fs, io::Read, ops::Range, path::Path};

use offshoot_core::{
    name::Label,
    service::{MAX_SERVICES, Services},
};
use serde_json::{Value, json};

use super::{
    convert::{self, Draft},
    detect, variables,
    yaml::{self, Yaml},
};

/// In the order in which Docker looks for them.
const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/// Most things that are said, apps that are proposed, and variables of one. A person reads them.
const MAX_NOTES: usize = 100;
const MAX_APPS: usize = 16;
const MAX_VARIABLES: usize = 24;
/// How often something may be taken out until the rest can be read.
const MAX_REPAIRS: usize = 200;

/// What came out of a compose file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Composed {
    /// The compose file's name.
    pub file: String,
    /// The text of `services.json`, if there is a service.
    pub text: Option<String>,
    /// The services in it.
    pub services: Vec<String>,
    /// What is built from the repository.
    pub apps: Vec<App>,
    /// What could not be taken over, a line each.
    pub notes: Vec<String>,
}

/// What an app could be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct App {
    pub name: String,
    pub command: Option<String>,
    pub port: Option<u16>,
    pub cwd: Option<String>,
    pub env: Vec<(String, String)>,
}

/// Reads the repository's compose file; `None` without one.
pub(crate) fn compose(root: &Path) -> Option<Composed> {
    let file = FILES.into_iter().find(|name| root.join(name).is_file())?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(yaml::MAX_TEXT).unwrap_or(u64::MAX);
    let read = fs::File::open(root.join(file)).and_then(|f| f.take(limit + 1).read_to_end(&mut bytes));
    let mut composed = match read {
        Err(error) => failed(format!("{file} cannot be read: {error}")),
        Ok(_) if bytes.len() > yaml::MAX_TEXT => failed(format!("{file} is longer than {limit} bytes")),
        Ok(_) => match std::str::from_utf8(&bytes) {
            Ok(text) => convert(text).unwrap_or_else(|why| failed(format!("{file}: {why}"))),
            Err(_) => failed(format!("{file} is not text")),
        },
    };
    for name in FILES.iter().map(|f| f.replace("compose.y", "compose.override.y")) {
        if root.join(&name).is_file() {
            composed.notes.push(format!("{name} is not read"));
        }
    }
    if composed.notes.len() > MAX_NOTES {
        let more = composed.notes.len() - MAX_NOTES;
        composed.notes.truncate(MAX_NOTES);
        composed.notes.push(format!("… and {more} more"));
    }
    composed.file = file.to_owned();
    Some(composed)
}

fn failed(why: String) -> Composed {
    Composed { notes: vec![why], ..Composed::default() }
}

fn convert(text: &str) -> Result<Composed, String> {
    let mut file = yaml::parse(text)?;
    variables::fill(&mut file);
    let mut notes: Vec<String> = Vec::new();
    for (key, _) in file.entries() {
        if key == "include" {
            notes.push("include: other files are not read".to_owned());
        }
    }
    let services = file.get("services").map(Yaml::entries).unwrap_or_default();
    if services.is_empty() {
        return Err("it has no services".to_owned());
    }
    let shared = shared_volumes(services);
    let (mut drafts, mut apps): (Vec<Draft>, Vec<App>) = (Vec::new(), Vec::new());
    for (called, from) in services {
        let mut said: Vec<String> = Vec::new();
        let mut say = |text: String| said.push(text);
        if from.get("profiles").is_some_and(|p| !p.items().is_empty()) {
            say("only started with a profile; left out".to_owned());
        } else if from.get("build").is_some() {
            apps.extend(app(called, from));
        } else if from.get("image").is_none() {
            say("it has no image; left out".to_owned());
        } else if let Some(draft) = convert::service(called, from, &shared, &mut say) {
            drafts.extend(sound(draft, &mut say));
        }
        notes.extend(said.into_iter().map(|text| format!("{called}: {text}")));
    }
    if drafts.len() > MAX_SERVICES {
        notes.push(format!("only the first {MAX_SERVICES} of {} services are taken", drafts.len()));
        drafts.truncate(MAX_SERVICES);
    }
    apps.truncate(MAX_APPS);
    name_apart(&mut drafts, &mut apps, &mut notes);
    together(&mut drafts, &mut notes);
    let text = repair(&mut drafts, &mut notes)?;
    Ok(Composed {
        file: String::new(),
        services: drafts.iter().map(|draft| draft.name.clone()).collect(),
        text: (!drafts.is_empty()).then_some(text),
        apps,
        notes,
    })
}

/// Named volumes that more than one service has.
fn shared_volumes(services: &[(String, Yaml)]) -> Vec<String> {
    let (mut once, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for (_, from) in services {
        let mounts = convert::mounts(from.get("volumes").unwrap_or(&Yaml::Null));
        let own: BTreeSet<String> = mounts.into_iter().flatten().map(|(source, ..)| source).collect();
        for source in own {
            if !once.insert(source.clone()) {
                shared.insert(source);
            }
        }
    }
    shared.into_iter().collect()
}

fn app(called: &str, from: &Yaml) -> Option<App> {
    let name = String::from(Label::from_foreign(called)?);
    let build = from.get("build")?;
    let context = build.get("context").and_then(Yaml::scalar).or_else(|| build.scalar()).unwrap_or_default();
    let context = context.trim_start_matches("./").trim_end_matches('/').to_owned();
    let command = from.get("command").and_then(|command| match command {
        Yaml::List(items) => {
            let words: Vec<String> = items.iter().filter_map(Yaml::scalar).collect();
            shlex::try_join(words.iter().map(String::as_str)).ok()
        }
        other => other.scalar(),
    });
    let ports = ["ports", "expose"].into_iter().filter_map(|key| from.get(key)).flat_map(Yaml::items);
    let port = ports.into_iter().find_map(|item| {
        let text = item.get("target").unwrap_or(item).scalar()?;
        text.trim_end_matches("/tcp").rsplit(':').next()?.parse().ok().filter(|port| *port != 0)
    });
    let mut env = from.get("environment").map(|e| convert::variables(e, &mut |_| ())).unwrap_or_default();
    env.retain(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty());
    env.truncate(MAX_VARIABLES);
    Some(App { name, command, port, cwd: Some(context).filter(|c| detect::plain(c) && c != "."), env })
}

/// The service by itself, without the keys that cannot be read; `None` if nothing is left of it.
fn sound(draft: Draft, say: &mut dyn FnMut(String)) -> Option<Draft> {
    let mut alone = vec![Draft { name: "alone".to_owned(), ..draft }];
    for _ in 0..MAX_REPAIRS {
        let (text, places) = written(&alone);
        let Err(error) = Services::parse(&text) else { return alone.pop() };
        let at = error.span.and_then(|span| places.iter().find(|(place, ..)| place.contains(&span.start)));
        let Some((_, _, piece)) = at else {
            say(format!("{}; left out", error.message));
            return None;
        };
        let removed = alone.first_mut().map(|draft| draft.pieces.remove(*piece))?;
        say(format!("{}: {}; left out", removed.0, error.message));
        if removed.0 == "image" {
            return None;
        }
    }
    None
}

/// Names that can be host names, each once.
fn name_apart(drafts: &mut [Draft], apps: &mut Vec<App>, notes: &mut Vec<String>) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for draft in drafts {
        let stem = Label::from_foreign(&draft.called).map_or_else(|| "service".to_owned(), String::from);
        let stem = stem.get(..stem.len().min(57)).unwrap_or_default().trim_end_matches('-').to_owned();
        let numbered = (2..).map(|n| format!("{stem}-{n}"));
        let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !taken.contains(name));
        draft.name = name.unwrap_or(stem);
        taken.insert(draft.name.clone());
        if draft.name != draft.called {
            notes.push(format!(
                "{}: called {} here, since its name is no host name",
                draft.called, draft.name
            ));
        }
    }
    apps.retain(|app| taken.insert(app.name.clone()));
}

/// What must hold between services.
fn together(drafts: &mut [Draft], notes: &mut Vec<String>) {
    let names: Vec<(String, String)> = drafts.iter().map(|d| (d.called.clone(), d.name.clone())).collect();
    let (mut variables, mut locals): (BTreeSet<String>, BTreeSet<String>) =
        (BTreeSet::new(), BTreeSet::new());
    for draft in drafts {
        let mut needs = serde_json::Map::new();
        for (called, condition) in std::mem::take(&mut draft.depends_on) {
            match names.iter().find(|(c, _)| *c == called) {
                Some((_, name)) => {
                    let condition = condition.unwrap_or_else(|| "service_started".to_owned());
                    needs.insert(name.clone(), json!({"condition": condition}));
                }
                None => notes.push(format!(
                    "{}: depends on {called}, which is no service here; left out",
                    draft.called
                )),
            }
        }
        let plain = needs.values().all(|need| need["condition"] == "service_started");
        if !needs.is_empty() {
            let names = json!(needs.keys().collect::<Vec<_>>());
            draft.pieces.push(("depends_on", if plain { names } else { Value::Object(needs) }));
        }
        for (key, value) in &mut draft.pieces {
            let ports = if *key == "ports" { value.as_array_mut() } else { None };
            for port in ports.into_iter().flatten() {
                let text = port.as_str().unwrap_or_default().to_owned();
                if let Some((local, container)) = text.split_once(':')
                    && !locals.insert(local.to_owned())
                {
                    notes.push(format!(
                        "{}: localhost:{local} is taken; found by its name only",
                        draft.called
                    ));
                    *port = Value::from(container);
                }
            }
        }
        let (text, _) =
            written(std::slice::from_ref(&Draft { pieces: without_needs(draft), ..named(draft) }));
        let injected = Services::parse(&text).ok().and_then(|s| s.services.first().map(|s| s.injected()));
        let injected: BTreeSet<String> = injected.unwrap_or_default().into_keys().collect();
        if let Some(variable) = injected.intersection(&variables).next() {
            notes.push(format!(
                "{}: sets no variables, since {variable} is another service's; say in \"inject\" which it should set",
                draft.called
            ));
            draft.pieces.push(("inject", json!({})));
        } else {
            variables.extend(injected);
        }
    }
}

fn named(draft: &Draft) -> Draft {
    Draft { name: draft.name.clone(), ..Draft::default() }
}

fn without_needs(draft: &Draft) -> Vec<(&'static str, Value)> {
    draft.pieces.iter().filter(|(key, _)| *key != "depends_on").cloned().collect()
}

/// The text of all, after taking out what still contradicts.
fn repair(drafts: &mut [Draft], notes: &mut Vec<String>) -> Result<String, String> {
    for _ in 0..MAX_REPAIRS {
        let (text, places) = written(drafts);
        let Err(error) = Services::parse(&text) else { return Ok(text) };
        let at =
            error.span.and_then(|span| places.into_iter().find(|(place, ..)| place.contains(&span.start)));
        // A circle is told at a name: whoever has it loses what it waits for.
        let place = at.map(|(_, draft, piece)| (draft, piece)).or_else(|| {
            let waits = |draft: &Draft| draft.pieces.iter().position(|(key, _)| *key == "depends_on");
            drafts.iter().enumerate().find_map(|(at, draft)| Some((at, waits(draft)?)))
        });
        let Some((at, piece)) = place else { return Err(error.message) };
        let Some(draft) = drafts.get_mut(at) else { return Err(error.message) };
        let (key, _) = draft.pieces.remove(piece);
        notes.push(format!("{}: {key}: {}; left out", draft.called, error.message));
    }
    Err("too much of it contradicts itself".to_owned())
}

/// Where a piece stands: its range, its draft, its number there.
type Place = (Range<usize>, usize, usize);

/// The text of `services.json`, and where each piece of each draft stands in it.
fn written(drafts: &[Draft]) -> (String, Vec<Place>) {
    let mut text = String::from("{\n  \"services\": [");
    let mut places = Vec::new();
    for (at, draft) in drafts.iter().enumerate() {
        text.push_str(if at == 0 { "\n    {" } else { ",\n    {" });
        text.push_str(&format!("\n      \"name\": {}", Value::from(draft.name.as_str())));
        for (piece, (key, value)) in draft.pieces.iter().enumerate() {
            text.push_str(",\n      ");
            let start = text.len();
            text.push_str(&format!("\"{key}\": "));
            lay_out(value, 6, &mut text);
            places.push((start..text.len(), at, piece));
        }
        text.push_str("\n    }");
    }
    text.push_str("\n  ]\n}\n");
    (text, places)
}

/// A value as a person would write it: on one line if it fits.
fn lay_out(value: &Value, indent: usize, text: &mut String) {
    let line = on_a_line(value);
    if line.len() <= 90 || !(value.is_array() || value.is_object()) {
        text.push_str(&line);
        return;
    }
    let pad = " ".repeat(indent + 2);
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    text.push(open);
    let items: Vec<(Option<&String>, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (Some(key), value)).collect(),
        Value::Array(items) => items.iter().map(|value| (None, value)).collect(),
        _ => Vec::new(),
    };
    for (at, (key, value)) in items.into_iter().enumerate() {
        text.push_str(if at == 0 { "\n" } else { ",\n" });
        text.push_str(&pad);
        if let Some(key) = key {
            text.push_str(&format!("{}: ", Value::from(key.as_str())));
        }
        lay_out(value, indent + 2, text);
    }
    text.push_str(&format!("\n{}{close}", " ".repeat(indent)));
}

fn on_a_line(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(on_a_line).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries =
                map.iter().map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), on_a_line(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
