//! The daemon's log: one file and its predecessor, each bounded. Standard error goes there too, so that a panic or a
//! library's last words are not lost.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Size at which the log starts anew: weeks of ordinary work, read in an editor without pain.
const MAX_LOG: u64 = 8 << 20;

struct Open {
    path: PathBuf,
    file: fs::File,
    written: u64,
}

/// Writes lines to the log file; when it is full, it becomes `daemon.log.1` and a new one begins.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<Open>>);

fn open(path: &Path) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    rustix::stdio::dup2_stderr(&file)?;
    Ok(file)
}

impl Open {
    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_extension("log.1"))?;
        self.file = open(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

impl Log {
    /// Opens the log, and sends standard error and all tracing there.
    pub(crate) fn begin(path: &Path) -> io::Result<()> {
        let file = open(path)?;
        let written = file.metadata()?.len();
        let mut state = Open { path: path.to_owned(), file, written };
        if written > MAX_LOG / 2 {
            state.rotate()?;
        }
        let filter = EnvFilter::try_from_env("OFFSHOOT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        let writer = Self(Arc::new(Mutex::new(state)));
        // A second subscriber in one process (tests) is refused; the first stays.
        let _ =
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer).try_init();
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        Ok(())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.written > MAX_LOG {
            state.rotate()?;
        }
        let n = state.file.write(bytes)?;
        state.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
