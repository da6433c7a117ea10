//! Takes the dashboard, as `web/dist` holds it, into the binary: each file, and what gzip makes of it where that is
//! worth it. Without one the binary is built all the same, and says so on its page.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// What is text, and gains by compression. Pictures and fonts are compressed already.
const TEXT: &[&str] = &["css", "html", "js", "json", "svg", "txt", "webmanifest", "wasm"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    let web = root.join("../../web");
    let dist = web.join("dist");
    println!("cargo:rerun-if-changed=build.rs");
    // An empty directory can be watched; one that is not there would have this run each time.
    if web.is_dir() && (dist.is_dir() || fs::create_dir(&dist).is_ok()) {
        println!("cargo:rerun-if-changed={}", dist.display());
    }
    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        collect(&dist, &dist, &mut files)?;
        files.sort();
    }
    let mut table = fs::File::create(out.join("assets.rs"))?;
    writeln!(table, "&[")?;
    for (number, path) in files.iter().enumerate() {
        let content = fs::read(dist.join(path))?;
        let plain = out.join(format!("{number}.plain"));
        fs::write(&plain, &content)?;
        let tag: String =
            Sha256::digest(&content).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let extension = Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default();
        let mut zipped = "None".to_owned();
        if TEXT.contains(&extension) {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&content)?;
            let smaller = encoder.finish()?;
            if smaller.len() < content.len() {
                let file = out.join(format!("{number}.gz"));
                fs::write(&file, smaller)?;
                zipped = format!("Some(include_bytes!({file:?}))");
            }
        }
        writeln!(
            table,
            "Asset {{ path: {path:?}, tag: \"\\\"{tag}\\\"\", plain: include_bytes!({plain:?}), gzip: {zipped} }},"
        )?;
    }
    writeln!(table, "]")
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
            // Maps are for whoever develops the page; hidden files are nobody's.
            && kind.is_file()
            && !name.ends_with(".map")
            && !name.split('/').any(|part| part.starts_with('.'))
        {
            files.push(name.to_owned());
        }
    }
    Ok(())
}
