//! OCI images as immutable, shared layer directories; no container engine.
//!
//! What an image is made of is kept once on this machine, unpacked: each layer a directory that the kernel's overlay
//! takes as a lower one (mounted with `userxattr`). Running something in it is not done here.
//!
//! - [`mod@reference`]: what a person writes to name an image
//! - [`images`]: the images that are here, and getting those that are not; the entrance
//! - [`limits`]: how much a hostile image or registry may cost
//! - [`digest`]: SHA-256, as the specification writes it
//!
//! Inside: `document` (manifests and configurations), `tar` and `compression` (reading a layer), `unpack` (writing it),
//! `registry`, `network` and `credentials` (the distribution protocol), `archive` and `source` (images in files),
//! `fetch` (one layer, from its source to its directory), `store` (what lies where on disk).
//!
//! Everything that comes from a registry or an archive is hostile. Nothing of an image is run here.

pub mod digest;
pub mod images;
pub mod limits;
pub mod reference;

mod archive;
mod compression;
mod credentials;
mod document;
mod fetch;
mod network;
mod registry;
mod source;
mod store;
mod tar;
mod unpack;

pub use archive::ArchiveError;
pub use credentials::CredentialFiles;
pub use digest::Digest;
pub use document::{DocumentError, Healthcheck, ImageConfig};
pub use fetch::LayerError;
pub use images::{Image, ImageError, Images, Owner, Progress, Swept};
pub use limits::Limits;
pub use reference::Reference;
pub use registry::RegistryError;
pub use store::StoreError;
pub use tar::{Entry, Kind, Reader, TarError};
pub use unpack::{UnpackError, unpack};
