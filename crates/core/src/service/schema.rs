//! The keys of a service, once: what `read` takes, what the reference page lists, what the JSON schema says.

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
