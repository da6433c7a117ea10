//! How much an image may cost before it is refused. The defaults are far above every image that people publish, and
//! low enough that refusing comes before the machine suffers.
//!
//! They are values rather than constants so that tests can reach them without terabytes.

use std::time::Duration;

/// Limits on images, archives and registries, all of them hostile.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a manifest or index. Registries accept 4 MiB, says the distribution specification.
    pub manifest_bytes: u64,
    /// Bytes of a configuration. It is a few kilobytes; the largest published ones, with long histories, reach 200.
    pub config_bytes: u64,
    /// Indexes inside an index. One inside another is seen in the wild, more is not; a loop ends here too.
    pub index_depth: u32,
    /// Layers of an image. Docker itself takes 127 at most, the kernel's overlay 500.
    pub layers: usize,
    /// Compressed bytes of one layer. Registries that say theirs allow 10 GB; models of 30 GB are pushed where one may.
    pub blob_bytes: u64,
    /// Unpacked bytes of one layer.
    pub layer_bytes: u64,
    /// A layer may always unpack to this many bytes …
    pub expansion_floor: u64,
    /// … and beyond that to this many times its compressed size. Programs and text come to 2 to 10; zeros come to 1030
    /// in gzip and more in zstd: that is a bomb.
    pub expansion: u64,
    /// Files, directories and links of one layer, parents that are implied included. A large image of a machine-learning
    /// framework has 400,000; each costs an inode.
    pub entries: u64,
    /// Bytes of a path inside. The kernel's own limit.
    pub path_bytes: usize,
    /// Directories of a path inside. Deep dependency trees reach 60; deleting a tree holds a descriptor for each.
    pub depth: usize,
    /// Bytes of an extended header of a tar entry. Go's reader, which made nearly all there are, takes 1 MiB.
    pub header_bytes: u64,
    /// Files in an archive that holds an image: five for each layer at most.
    pub archive_files: usize,
    /// How long connecting may take, name resolution included.
    pub connect: Duration,
    /// How long nothing may come: until the head of an answer, then between two pieces of its body. Registries that
    /// fetch from elsewhere first are silent for 10 s and more.
    pub stall: Duration,
    /// How long an answer may take to come in whole, however slow …
    pub grace: Duration,
    /// … and beyond that, the bytes it has to bring each second on average. Slower than any line that images are pulled
    /// over; faster than one who sends a byte a second to hold us.
    pub bytes_per_second: u64,
    /// How often a request is tried in all before its failure is told.
    pub tries: u32,
    /// How many layers are fetched at once: what Docker does, three, keeps two cores busy with unpacking.
    pub at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            config_bytes: 4 << 20,
            index_depth: 2,
            layers: 127,
            blob_bytes: 32 << 30,
            layer_bytes: 64 << 30,
            expansion_floor: 1 << 30,
            expansion: 100,
            entries: 2_000_000,
            path_bytes: 4096,
            depth: 256,
            header_bytes: 1 << 20,
            archive_files: 1024,
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            grace: Duration::from_secs(60),
            bytes_per_second: 16 << 10,
            tries: 4,
            at_once: 3,
        }
    }
}

impl Limits {
    /// What a blob of this size may unpack to.
    pub(crate) fn unpacked(&self, compressed: u64) -> u64 {
        compressed.saturating_mul(self.expansion).max(self.expansion_floor).min(self.layer_bytes)
    }
}
