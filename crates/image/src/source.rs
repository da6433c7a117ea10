//! From a name to what the image is made of: manifest, configuration, and where the bytes of each layer are.
//!
//! Blocking; called on a thread for such things.

use std::{io::Read, path::Path, sync::Arc};

use crate::{
    archive::{ArchiveError, Files},
    digest::Digest,
    document::{self, Descriptor, Document, ImageConfig, choose},
    images::ImageError,
    limits::Limits,
    network::Cancel,
    reference::{Reference, Remote},
    registry::{Registry, RegistryError},
};

/// An image that is not here yet, or not whole.
pub(crate) struct Resolved {
    /// Of the manifest for this machine; of the configuration where an archive has no manifest.
    pub digest: Digest,
    pub config: ImageConfig,
    /// The lowest first.
    pub layers: Vec<Layer>,
}

/// Where a layer's bytes are.
#[derive(Clone)]
pub(crate) struct Layer {
    /// Of the unpacked tar.
    pub diff: Digest,
    /// Bytes as they come.
    pub size: u64,
    pub blob: Blob,
}

#[derive(Clone)]
pub(crate) enum Blob {
    Remote {
        registry: Arc<Registry>,
        digest: Digest,
    },
    /// Without a digest in what old versions of Docker saved.
    Local {
        files: Arc<Files>,
        name: String,
        digest: Option<Digest>,
    },
}

impl Resolved {
    /// Asks the registry, which is at most: a token, an index, a manifest, a configuration.
    pub fn remote(remote: &Remote, registry: Registry, limits: &Limits) -> Result<Self, ImageError> {
        let registry = Arc::new(registry);
        let mut name = match &remote.digest {
            Some(digest) => digest.to_string(),
            None => remote.tag.clone().unwrap_or_default(),
        };
        let mut depth = 0;
        let (digest, config, layers) = loop {
            let manifest = registry.manifest(&name)?;
            match Document::parse(&manifest.bytes, manifest.media_type.as_deref(), limits)? {
                Document::Manifest { config, layers } => break (manifest.digest, config, layers),
                Document::Index(manifests) => {
                    depth = deeper(depth, limits)?;
                    name = choose(&manifests)?.digest.to_string();
                }
            }
        };
        let limit = limits.config_bytes;
        let host = &remote.host;
        if config.size > limit {
            let what = "configuration";
            return Err(RegistryError::TooLong { host: host.clone(), what, limit }.into());
        }
        let mut bytes = Vec::new();
        let read = registry.blob(config.digest, config.size).take(config.size + 1).read_to_end(&mut bytes);
        read.map_err(|error| match error.downcast::<RegistryError>() {
            Ok(error) => error,
            Err(error) => RegistryError::Broken(host.clone(), error),
        })?;
        let found = Digest::of(&bytes);
        if found != config.digest {
            let (what, wanted) = ("the configuration", config.digest);
            return Err(RegistryError::Digest { what, wanted, found }.into());
        }
        let (config, diffs) = document::config(&bytes, layers.len())?;
        let layer = |(layer, diff): (Descriptor, Digest)| Layer {
            diff,
            size: layer.size,
            blob: Blob::Remote { registry: registry.clone(), digest: layer.digest },
        };
        Ok(Self { digest, config, layers: layers.into_iter().zip(diffs).map(layer).collect() })
    }

    /// Reads the archive's documents.
    pub fn local(reference: &Reference, scratch: &Path, limits: &Limits) -> Result<Self, ImageError> {
        let (path, name, layout_first) = match reference {
            Reference::Layout { path, name } => (path, name, true),
            Reference::Archive { path, name } => (path, name, false),
            Reference::Registry(_) => {
                return Err(ArchiveError::Which { path: "".into(), found: vec![] }.into());
            }
        };
        let files = Arc::new(Files::open(path, scratch, limits)?);
        let (layout, saved) = (files.has("index.json"), files.has("manifest.json"));
        match (layout, saved) {
            (true, false) => Self::layout(&files, name.as_deref(), limits),
            (true, true) if layout_first => Self::layout(&files, name.as_deref(), limits),
            (_, true) => Self::saved(&files, name.as_deref(), limits),
            (false, false) => {
                let what = "index.json and no manifest.json".to_owned();
                Err(ArchiveError::Missing { path: path.clone(), what }.into())
            }
        }
    }

    fn layout(files: &Arc<Files>, name: Option<&str>, limits: &Limits) -> Result<Self, ImageError> {
        let bytes = files.whole("index.json", limits.manifest_bytes)?;
        let Document::Index(manifests) = Document::parse(&bytes, None, limits)? else {
            let what = "list of manifests in its index.json".to_owned();
            return Err(ArchiveError::Missing { path: files.path().to_owned(), what }.into());
        };
        let names = |it: &Descriptor| {
            let keys = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
            keys.iter().filter_map(|key| it.annotations.get(*key).cloned()).collect::<Vec<_>>()
        };
        let wanted: Vec<_> = manifests
            .iter()
            .filter(|it| name.is_none_or(|name| names(it).iter().any(|it| it == name)))
            .cloned()
            .collect();
        let which = || {
            let found = manifests.iter().flat_map(names).take(20).collect();
            ArchiveError::Which { path: files.path().to_owned(), found }
        };
        let mut at = match &wanted[..] {
            [only] => only.clone(),
            [] => return Err(which().into()),
            // Several of one name are one image for several machines.
            several if several.iter().all(|it| names(it) == names(&several[0])) => choose(several)?.clone(),
            _ => return Err(which().into()),
        };
        let mut depth = 0;
        let blob = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
        let (config, layers) = loop {
            let bytes = files.checked(&blob(at.digest), at.digest, "a manifest", limits.manifest_bytes)?;
            match Document::parse(&bytes, Some(&at.media_type), limits)? {
                Document::Manifest { config, layers } => break (config, layers),
                Document::Index(manifests) => {
                    depth = deeper(depth, limits)?;
                    at = choose(&manifests)?.clone();
                }
            }
        };
        let bytes =
            files.checked(&blob(config.digest), config.digest, "the configuration", limits.config_bytes)?;
        let (config, diffs) = document::config(&bytes, layers.len())?;
        let layer = |(layer, diff): (Descriptor, Digest)| Layer {
            diff,
            size: layer.size,
            blob: Blob::Local { files: files.clone(), name: blob(layer.digest), digest: Some(layer.digest) },
        };
        Ok(Self { digest: at.digest, config, layers: layers.into_iter().zip(diffs).map(layer).collect() })
    }

    fn saved(files: &Arc<Files>, name: Option<&str>, limits: &Limits) -> Result<Self, ImageError> {
        let mut all = document::saved(&files.whole("manifest.json", limits.manifest_bytes)?)?;
        let tags =
            |all: &[document::Saved]| all.iter().flat_map(|it| it.repo_tags.clone()).take(20).collect();
        let which = |found| ArchiveError::Which { path: files.path().to_owned(), found };
        let found = tags(&all);
        if let Some(name) = name {
            // podman writes `docker.io/library/` before it, Docker does not.
            let same = |tag: &String| tag == name || tag.ends_with(&format!("/{name}"));
            all.retain(|it| it.repo_tags.iter().any(same));
        }
        let (Some(image), 0..=1) = (all.pop(), all.len() + 1) else { return Err(which(found).into()) };
        if image.layers.len() > limits.layers {
            return Err(document::DocumentError::TooMany("layers").into());
        }
        let bytes = files.whole(&image.config, limits.config_bytes)?;
        let digest = Digest::of(&bytes);
        // Its name says what it should be: `<hex>.json`, or a blob's.
        let stem = image.config.rsplit('/').next().unwrap_or_default();
        if let Ok(wanted) = Digest::from_hex(stem.strip_suffix(".json").unwrap_or(stem))
            && wanted != digest
        {
            let path = files.path().to_owned();
            return Err(
                ArchiveError::Digest { path, what: "the configuration", wanted, found: digest }.into()
            );
        }
        let (config, diffs) = document::config(&bytes, image.layers.len())?;
        let mut layers = Vec::new();
        for (name, diff) in image.layers.into_iter().zip(diffs) {
            let (_, size) = files.read(&name)?;
            layers.push(Layer { diff, size, blob: Blob::Local { files: files.clone(), name, digest: None } });
        }
        Ok(Self { digest, config, layers })
    }
}

fn deeper(depth: u32, limits: &Limits) -> Result<u32, document::DocumentError> {
    match depth + 1 {
        deeper if deeper > limits.index_depth => {
            Err(document::DocumentError::TooMany("indexes inside indexes"))
        }
        deeper => Ok(deeper),
    }
}

/// Whether something is not wanted any more, as the error that says so.
pub(crate) fn unless(cancel: &Cancel) -> Result<(), RegistryError> {
    if cancel.cancelled() { Err(RegistryError::Interrupted) } else { Ok(()) }
}
