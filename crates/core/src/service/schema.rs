//! The keys of a service, once: what `read` takes, what the reference page lists, and the JSON schema for editors, which
//! takes at least all that `read` takes. By hand, because `services.json` is wider than the types it becomes.

use serde_json::{Map, Value, json};

use super::{MAX_ITEMS, MAX_SERVICES, MAX_VARIABLES, preset::Preset};

/// A key: name, form, meaning.
pub type Key = (&'static str, &'static str, &'static str);

/// The keys of a service.
pub const SERVICE_KEYS: &[Key] = &[
    ("name", "name", "The name it is found by: lower-case letters, digits, inner hyphens, a letter first"),
    (
        "image",
        "text",
        "A container image: `postgres:16`, `host:5000/team/db@sha256:…`, `oci:DIRECTORY`, `archive:FILE`",
    ),
    ("use", "`host`", "Instead of an image: the program found on this machine's PATH"),
    ("preset", "name", "What kind of service it is, where its name or image does not say"),
    ("command", "text or list", "What is run; a text is given to `sh -c`"),
    ("entrypoint", "text or list", "What the command is given to, instead of the image's"),
    ("env", "object or list of `K=V`", "Its variables"),
    (
        "ports",
        "list",
        "Ports it listens at: `5432`, or `\"5433:5432\"` to be found on `localhost:5433` inside too",
    ),
    ("volumes", "list", "`\"name:/path\"` or `\"./directory:/path:ro\"`"),
    ("depends_on", "list or object", "Which others come first, and what must have happened to them"),
    ("healthcheck", "object", "How it is found to be ready, as in compose files"),
    ("memory", "size, as in `512m`", "Memory of its processes"),
    ("user", "text", "The user it runs as"),
    ("working_dir", "text", "The directory it starts in"),
    ("restart", "`no`, `on-failure`, `always`", "When it is started again; `:N` limits how often (5)"),
    (
        "seed",
        "object or text",
        "What it holds at first: `{\"sql\": …}`, `{\"directory\": …}` or `{\"command\": …}`",
    ),
    ("isolation", "`server`, `database`, `schema`", "What each environment has for itself"),
    ("server", "name", "With `database` or `schema`: which of your own `[servers]`"),
    ("inject", "object", "Variables that every process of the environment is given, as templates"),
    ("wait", "true or false", "Whether setups and agents wait until it is ready (true)"),
];

/// The JSON schema of `services.json` (draft 7, which every editor knows).
pub fn json_schema() -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "services.json",
        "description": "The services that every environment of a project has for itself: see docs/services.md",
        "type": "object",
        "additionalProperties": false,
        "required": ["services"],
        "properties": {
            "$schema": {"type": "string"},
            "services": {
                "description": "A list of services, or an object of services by name",
                "oneOf": [
                    {"type": "array", "maxItems": MAX_SERVICES, "items": service(true)},
                    {
                        "type": "object",
                        "maxProperties": MAX_SERVICES,
                        "propertyNames": {"pattern": NAME},
                        "additionalProperties": service(false)
                    }
                ]
            }
        }
    })
}

const NAME: &str = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$";
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

fn service(in_list: bool) -> Value {
    let mut properties = Map::new();
    for (name, _, meaning) in SERVICE_KEYS {
        let mut value = form(name);
        if let Some(object) = value.as_object_mut() {
            object.insert("description".to_owned(), Value::from(meaning.replace('`', "")));
        }
        properties.insert((*name).to_owned(), value);
    }
    let mut schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "anyOf": [
            {"required": ["image"], "not": {"required": ["use"]}},
            {"required": ["use"], "not": {"required": ["image"]}},
            {"required": ["isolation", "server"]}
        ]
    });
    if let (true, Some(object)) = (in_list, schema.as_object_mut()) {
        object.insert("required".to_owned(), json!(["name"]));
    }
    schema
}

fn form(key: &str) -> Value {
    let scalar = json!(["string", "number", "boolean"]);
    let time =
        json!({"type": "string", "pattern": "^([0-9]+ *(ms|s|m|min|h|d) *)+$", "examples": ["10s", "1m30s"]});
    let words = json!({"type": "array", "maxItems": MAX_VARIABLES, "items": {"type": scalar}});
    let command =
        json!({"oneOf": [{"type": "string", "minLength": 1}, merged(&words, &json!({"minItems": 1}))]});
    let list = |items: Value| json!({"type": "array", "maxItems": MAX_ITEMS, "items": items});
    match key {
        "name" => json!({"type": "string", "pattern": NAME, "maxLength": 63}),
        "image" => {
            json!({"type": "string", "minLength": 1, "examples": ["postgres:16", "oci:images/db", "archive:images/db.tar"]})
        }
        "use" => json!({"const": "host"}),
        "preset" => json!({"enum": Preset::ALL.map(|preset| preset.facts().name)}),
        "command" | "entrypoint" => command,
        "env" => json!({"oneOf": [
            {
                "type": "object",
                "maxProperties": MAX_VARIABLES,
                "propertyNames": {"pattern": VARIABLE},
                "additionalProperties": {"type": scalar}
            },
            {"type": "array", "maxItems": MAX_VARIABLES, "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*="}}
        ]}),
        "ports" => list(json!({"oneOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": "^([0-9]{1,5}:)?[0-9]{1,5}(/tcp)?$"}
        ]})),
        "volumes" => list(json!({"type": "string", "pattern": "^[^:]+:/[^:]+(:(ro|rw))?$"})),
        "depends_on" => json!({"oneOf": [
            list(json!({"type": "string", "pattern": NAME})),
            {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": {
                "type": "object",
                "additionalProperties": false,
                "properties": {"condition": {
                    "enum": ["service_started", "service_healthy", "service_completed_successfully"]
                }}
            }}
        ]}),
        "healthcheck" => json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "test": {"oneOf": [
                    {"type": "string", "minLength": 1},
                    merged(&words, &json!({"minItems": 1, "examples": [["CMD", "pg_isready"], ["CMD-SHELL", "pg_isready"], ["NONE"]]}))
                ]},
                "interval": time,
                "timeout": time,
                "retries": {"type": "integer", "minimum": 1, "maximum": 1000},
                "start_period": time,
                "start_interval": time,
                "disable": {"type": "boolean"}
            }
        }),
        "memory" => {
            json!({"type": "string", "pattern": "^ *[0-9]+ *[kKmMgGtT]([iI]?[bB])? *$", "examples": ["512m", "1g"]})
        }
        "user" => json!({"type": ["string", "integer"]}),
        "working_dir" => json!({"type": "string", "pattern": "^/"}),
        "restart" => json!({"type": "string", "pattern": "^(no|(on-failure|always)(:[0-9]+)?)$"}),
        "seed" => json!({"oneOf": [
            {"type": "string", "minLength": 1},
            {
                "type": "object",
                "additionalProperties": false,
                "oneOf": [{"required": ["sql"]}, {"required": ["directory"]}, {"required": ["command"]}],
                "dependentRequired": {"key": ["command"]},
                "properties": {
                    "key": list(json!({"type": "string"})),
                    "sql": {"oneOf": [{"type": "string"}, merged(&list(json!({"type": "string"})), &json!({"minItems": 1}))]},
                    "directory": {"type": "string"},
                    "command": {"type": "string", "minLength": 1}
                }
            }
        ]}),
        "isolation" => json!({"enum": ["server", "database", "schema"], "default": "server"}),
        "server" => json!({"type": "string", "pattern": NAME}),
        "inject" => json!({
            "type": "object",
            "maxProperties": MAX_ITEMS,
            "propertyNames": {"pattern": VARIABLE},
            "additionalProperties": {"type": scalar},
            "examples": [{"DATABASE_URL": "postgres://{user}:{password}@{host}:{port}/{database}"}]
        }),
        "wait" => json!({"type": "boolean", "default": true}),
        _ => json!({}),
    }
}

fn merged(one: &Value, more: &Value) -> Value {
    let mut value = one.clone();
    if let (Some(object), Some(more)) = (value.as_object_mut(), more.as_object()) {
        object.extend(more.clone());
    }
    value
}
