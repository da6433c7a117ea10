//! The JSON documents of an image: index, manifest, configuration, and the list in what `docker save` writes.
//!
//! They are read leniently where engines write differently (a missing list, `null`), and refused where two readers
//! could see two things: a document that is index and manifest at once, a configuration with another number of layers.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{digest::Digest, limits::Limits};

/// What a registry is asked for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not the JSON that it should be: the registry answered with something else, or the image is broken.
    #[error("the {what} is not what the specification says")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// It is of a kind that is not understood: an artifact rather than an image, or an image in the format that Docker
    /// gave up in 2017. Push the image again with a present engine.
    #[error("it is no image but {0:?}")]
    Kind(String),
    /// The document can be read in two ways, so it is read in none.
    #[error("the {what} contradicts itself: {why}")]
    Ambiguous {
        /// Which document.
        what: &'static str,
        /// How.
        why: &'static str,
    },
    /// There is none for this machine. Take another tag, or build it for this architecture.
    #[error("there is none for {wanted}, only for {}", .found.join(", "))]
    Platform {
        /// This machine, as `linux/amd64`.
        wanted: String,
        /// What there is, 20 at most.
        found: Vec<String>,
    },
    /// More layers or indexes than [`Limits`] allow.
    #[error("there are too many {0}")]
    TooMany(&'static str),
    /// A layer is encrypted, or in a form that nobody has defined.
    #[error("a layer is of a kind that is not understood: {0:?}")]
    Layer(String),
}

/// A reference to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    pub platform: Option<Platform>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

/// Either of the two that a name can lead to.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest { config: Descriptor, layers: Vec<Descriptor> },
}

impl Document {
    /// `media_type` is what the answer's head says, which the document overrules.
    pub fn parse(bytes: &[u8], media_type: Option<&str>, limits: &Limits) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Both {
            #[serde(rename = "schemaVersion")]
            schema_version: u32,
            #[serde(rename = "mediaType")]
            media_type: Option<String>,
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let json = |source| DocumentError::Json { what: "manifest", source };
        // A document of another kind may have another shape; its kind is the better message.
        #[derive(Deserialize)]
        struct Any {
            #[serde(rename = "schemaVersion")]
            schema_version: Option<u32>,
        }
        if serde_json::from_slice::<Any>(bytes).is_ok_and(|any| any.schema_version == Some(1)) {
            return Err(DocumentError::Kind("an image manifest, version 1".to_owned()));
        }
        let both: Both = serde_json::from_slice(bytes).map_err(json)?;
        let kind = both.media_type.as_deref().or(media_type).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if both.schema_version != 2 {
            return Err(DocumentError::Kind(format!("schema version {}", both.schema_version)));
        }
        let ambiguous = |why| DocumentError::Ambiguous { what: "manifest", why };
        match kind {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => {
                if both.layers.is_some() || both.config.is_some() {
                    return Err(ambiguous("an index with layers"));
                }
                Ok(Self::Index(both.manifests.unwrap_or_default()))
            }
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => {
                if both.manifests.is_some() {
                    return Err(ambiguous("a manifest with manifests"));
                }
                Self::manifest(both.config, both.layers, limits)
            }
            // A layout's index.json often has none, and so has the answer of a plain file server.
            "" | "application/json" | "application/octet-stream" | "text/plain" => {
                match (both.manifests, both.config) {
                    (Some(_), Some(_)) => Err(ambiguous("index and manifest at once")),
                    (Some(manifests), None) if both.layers.is_none() => Ok(Self::Index(manifests)),
                    (None, config) => Self::manifest(config, both.layers, limits),
                    _ => Err(ambiguous("an index with layers")),
                }
            }
            other => Err(DocumentError::Kind(other.chars().take(200).collect())),
        }
    }

    fn manifest(
        config: Option<Descriptor>,
        layers: Option<Vec<Descriptor>>,
        limits: &Limits,
    ) -> Result<Self, DocumentError> {
        let Some(config) = config else {
            return Err(DocumentError::Ambiguous { what: "manifest", why: "it has no configuration" });
        };
        let image =
            ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
        if !image.contains(&config.media_type.as_str()) {
            return Err(DocumentError::Kind(config.media_type.chars().take(200).collect()));
        }
        let layers = layers.unwrap_or_default();
        if layers.len() > limits.layers {
            return Err(DocumentError::TooMany("layers"));
        }
        for layer in &layers {
            let known = layer.media_type.ends_with(".tar")
                || layer.media_type.ends_with(".tar+gzip")
                || layer.media_type.ends_with(".tar+zstd")
                || layer.media_type.ends_with(".tar.gzip")
                || layer.media_type.ends_with(".tar.zstd");
            if !known {
                return Err(DocumentError::Layer(layer.media_type.chars().take(200).collect()));
            }
        }
        Ok(Self::Manifest { config, layers })
    }
}

/// The architecture of this machine in Go's words, and its variant where there are several.
fn here() -> (&'static str, Option<&'static str>) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", Some("v8")),
        "arm" => ("arm", Some("v7")),
        "x86" => ("386", None),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    }
}

/// The one of an index that runs here. The first that fits: that is the order its author prefers.
pub(crate) fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, DocumentError> {
    let (architecture, variant) = here();
    let fits = |platform: &Platform, exact: bool| {
        let known = platform.variant.as_deref().filter(|it| !it.is_empty());
        let same = match (known, variant) {
            (None, _) => true,
            (Some(it), Some(own)) => it == own || (!exact && it < own),
            // v2 and v3 of amd64 need a processor that this may not be; v1 is every one.
            (Some(it), None) => it == "v1",
        };
        platform.os == "linux" && platform.architecture == architecture && same
    };
    let find = |exact| manifests.iter().find(|it| it.platform.as_ref().is_some_and(|it| fits(it, exact)));
    if let Some(found) = find(true).or_else(|| find(false)) {
        return Ok(found);
    }
    // One alone that does not say what it is for: what single-platform tools write.
    if let [only] = manifests
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let name = |platform: &Platform| {
        format!("{}/{}", platform.os, platform.architecture)
            .chars()
            .filter(|it| !it.is_control())
            .take(60)
            .collect()
    };
    let found = manifests.iter().filter_map(|it| it.platform.as_ref()).take(20).map(name).collect();
    Err(DocumentError::Platform { wanted: format!("linux/{architecture}"), found })
}

/// What an image says of how it wants to be run. Nothing of it is checked: it is a stranger's word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or program and arguments where there is no entry point.
    pub cmd: Vec<String>,
    /// User to run as, by name or number, perhaps with `:group`; empty for root.
    pub user: String,
    /// Where to start; empty for `/`.
    pub working_dir: String,
    /// As `5432/tcp`.
    pub exposed_ports: Vec<String>,
    /// Directories that are meant to be data.
    pub volumes: Vec<String>,
    /// As `SIGTERM` or a number.
    pub stop_signal: Option<String>,
    /// How to tell whether it works; an extension of Docker's.
    pub healthcheck: Option<Healthcheck>,
}

/// Docker's health check. Times are nanoseconds, 0 for the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", program, …]` or `["CMD-SHELL", line]`.
    #[serde(rename = "Test", default, deserialize_with = "null_is_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(rename = "Interval", default)]
    pub interval: i64,
    /// For one check.
    #[serde(rename = "Timeout", default)]
    pub timeout: i64,
    /// How long failures do not count.
    #[serde(rename = "StartPeriod", default)]
    pub start_period: i64,
    /// How many failures in a row make it unhealthy.
    #[serde(rename = "Retries", default)]
    pub retries: i64,
}

/// A configuration and the digests of the unpacked layers, the lowest first.
pub(crate) fn config(bytes: &[u8], layers: usize) -> Result<(ImageConfig, Vec<Digest>), DocumentError> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        #[serde(deserialize_with = "null_is_empty")]
        env: Vec<String>,
        #[serde(deserialize_with = "null_is_empty")]
        entrypoint: Vec<String>,
        #[serde(deserialize_with = "null_is_empty")]
        cmd: Vec<String>,
        #[serde(deserialize_with = "null_is_empty")]
        user: String,
        #[serde(deserialize_with = "null_is_empty")]
        working_dir: String,
        #[serde(deserialize_with = "null_is_empty")]
        exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
        #[serde(deserialize_with = "null_is_empty")]
        volumes: BTreeMap<String, serde::de::IgnoredAny>,
        stop_signal: Option<String>,
        healthcheck: Option<Healthcheck>,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default, deserialize_with = "null_is_empty")]
        diff_ids: Vec<Digest>,
    }
    #[derive(Deserialize)]
    struct Outer {
        #[serde(default, deserialize_with = "null_is_empty")]
        config: Inner,
        rootfs: RootFs,
    }
    let outer: Outer = serde_json::from_slice(bytes)
        .map_err(|source| DocumentError::Json { what: "configuration", source })?;
    if outer.rootfs.diff_ids.len() != layers {
        return Err(DocumentError::Ambiguous {
            what: "configuration",
            why: "it has another number of layers than the manifest",
        });
    }
    let Inner { env, entrypoint, cmd, user, working_dir, exposed_ports, volumes, stop_signal, healthcheck } =
        outer.config;
    let config = ImageConfig {
        env,
        entrypoint,
        cmd,
        user,
        working_dir,
        exposed_ports: exposed_ports.into_keys().collect(),
        volumes: volumes.into_keys().collect(),
        stop_signal: stop_signal.filter(|it| !it.is_empty()),
        healthcheck,
    };
    Ok((config, outer.rootfs.diff_ids))
}

/// One image in what `docker save` wrote: its `manifest.json` is a list of these.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Saved {
    pub config: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<String>,
}

pub(crate) fn saved(bytes: &[u8]) -> Result<Vec<Saved>, DocumentError> {
    serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { what: "manifest.json", source })
}

/// Go writes an empty list as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str, platform: &str) -> String {
        let digest = Digest::of(platform.as_bytes());
        let platform = match platform.split_once('/') {
            Some((os, architecture)) => {
                let (architecture, variant) = architecture.split_once('/').unwrap_or((architecture, ""));
                format!(
                    r#","platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}"#
                )
            }
            None => String::new(),
        };
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1{platform}}}"#)
    }

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    fn parse(text: &str) -> Result<Document, DocumentError> {
        Document::parse(text.as_bytes(), None, &Limits::default())
    }

    #[test]
    fn the_one_for_this_machine_is_chosen() {
        let (architecture, _) = here();
        let all = |them: &[&str]| {
            let them: Vec<_> = them.iter().map(|it| descriptor(MANIFEST, it)).collect();
            match parse(&format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, them.join(","))).unwrap() {
                Document::Index(them) => them,
                Document::Manifest { .. } => panic!(),
            }
        };
        let own = format!("linux/{architecture}");
        let digest = Digest::of(own.as_bytes());
        assert_eq!(choose(&all(&["linux/other", "windows/amd64", &own])).unwrap().digest, digest);
        assert!(choose(&all(&["unknown"])).is_ok());
        assert!(choose(&all(&["linux/other", "unknown"])).is_err());
        assert!(choose(&[]).is_err());
        let error = choose(&all(&["linux/other"])).unwrap_err().to_string();
        assert_eq!(error, format!("there is none for {own}, only for linux/other"));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let config = descriptor("application/vnd.oci.image.config.v1+json", "");
        let index = r#""mediaType":"application/vnd.oci.image.index.v1+json""#;
        let manifest = format!(r#""mediaType":"{MANIFEST}""#);
        for wrong in [
            format!(r#"{{"schemaVersion":2,"manifests":[],"config":{config},"layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,{index},"manifests":[],"layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,{manifest},"manifests":[],"config":{config},"layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,{manifest},"layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,"mediaType":"application/x","config":{config},"layers":[]}}"#),
            format!(
                r#"{{"schemaVersion":2,{manifest},"config":{},"layers":[]}}"#,
                descriptor("application/x", "")
            ),
            format!(
                r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
                descriptor("application/x", "")
            ),
            r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
            r#"{"schemaVersion":2}"#.to_owned(),
            "[]".to_owned(),
            "<html>".to_owned(),
        ] {
            assert!(parse(&wrong).is_err(), "{wrong}");
        }
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "");
        let many = |count| {
            let layers = vec![layer.clone(); count].join(",");
            parse(&format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#))
        };
        assert!(many(127).is_ok());
        assert!(matches!(many(128), Err(DocumentError::TooMany("layers"))));
    }

    #[test]
    fn configurations_of_all_engines_are_read() {
        let diff = Digest::of(b"x");
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["A=b"],"Entrypoint":null,"Cmd":["x"],
            "ExposedPorts":{{"5432/tcp":{{}}}},"Volumes":null,"StopSignal":"SIGINT","User":"postgres","Labels":null,
            "Healthcheck":{{"Test":["CMD-SHELL","true"],"Interval":5000000000}}}},
            "rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
        );
        let (config, layers) = super::config(text.as_bytes(), 1).unwrap();
        assert_eq!(layers, [diff]);
        assert_eq!((config.user.as_str(), config.cmd.len(), config.entrypoint.len()), ("postgres", 1, 0));
        assert_eq!(config.exposed_ports, ["5432/tcp"]);
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(config.healthcheck.unwrap().interval, 5_000_000_000);
        assert!(super::config(text.as_bytes(), 2).is_err());
        let bare = r#"{"config":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
        assert_eq!(super::config(bare.as_bytes(), 0).unwrap().0, ImageConfig::default());
    }
}
