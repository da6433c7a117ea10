//! Where everything of one user is kept: the state directory with socket, lock, log and token in it, and the user's
//! `config.toml`. Used by the daemon and by every client, so that both mean the same place.
//!
//! Invariant: nobody but its owner can write the state directory.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use offshoot_core::problem::{Problem, ProblemKind};
use rustix::process::geteuid;

/// The places of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Everything the daemon keeps.
    pub state_dir: PathBuf,
    /// The user's configuration; need not exist.
    pub user_config: PathBuf,
}

/// Why there is no usable place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Neither the variables nor HOME say where.
    #[error("HOME is not set, so there is no place for Offshoot's state")]
    NoHome,
    /// A variable holds a relative path.
    #[error("{variable} is not an absolute path: {path}")]
    Relative {
        /// Which variable.
        variable: &'static str,
        /// What it holds.
        path: PathBuf,
    },
    /// The directory cannot be made or looked at.
    #[error("cannot use the state directory {path}: {source}")]
    Unusable {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It belongs to somebody else or others can write it.
    #[error("the state directory {path} {why}")]
    Unsafe {
        /// Which directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl From<PlaceError> for Problem {
    fn from(error: PlaceError) -> Self {
        let (code, hint) = match &error {
            PlaceError::NoHome => ("no_home", "set HOME or OFFSHOOT_STATE_DIR".to_owned()),
            PlaceError::Relative { variable, .. } => {
                ("path_relative", format!("give {variable} an absolute path"))
            }
            PlaceError::Unusable { .. } => (
                "state_dir_unusable",
                "set OFFSHOOT_STATE_DIR to a directory on a local disk with room".to_owned(),
            ),
            PlaceError::Unsafe { path, .. } => {
                ("state_dir_unsafe", format!("chmod go-w {} or set OFFSHOOT_STATE_DIR", path.display()))
            }
        };
        Self::new(ProblemKind::Unavailable, code, error.to_string()).hint(hint)
    }
}

impl Place {
    /// The caller's place, by environment variables: `OFFSHOOT_STATE_DIR`, else `/var/lib/offshoot` for root, else
    /// `$XDG_STATE_HOME/offshoot` or `~/.local/state/offshoot`; `OFFSHOOT_CONFIG`, else `$XDG_CONFIG_HOME/offshoot/config.toml`
    /// or `~/.config/offshoot/config.toml`.
    pub fn of_caller() -> Result<Self, PlaceError> {
        Self::from_variables(
            |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from),
            geteuid().is_root(),
        )
    }

    fn from_variables(
        variable: impl Fn(&'static str) -> Option<PathBuf>,
        root: bool,
    ) -> Result<Self, PlaceError> {
        let absolute = |name: &'static str| match variable(name) {
            Some(path) if path.is_relative() => Err(PlaceError::Relative { variable: name, path }),
            other => Ok(other),
        };
        let home = || absolute("HOME")?.ok_or(PlaceError::NoHome);
        let state_dir = match absolute("OFFSHOOT_STATE_DIR")? {
            Some(dir) => dir,
            None if root => PathBuf::from("/var/lib/offshoot"),
            None => match absolute("XDG_STATE_HOME")? {
                Some(dir) => dir.join("offshoot"),
                None => home()?.join(".local/state/offshoot"),
            },
        };
        let user_config = match absolute("OFFSHOOT_CONFIG")? {
            Some(file) => file,
            None => match absolute("XDG_CONFIG_HOME")? {
                Some(dir) => dir.join("offshoot/config.toml"),
                None => home()?.join(".config/offshoot/config.toml"),
            },
        };
        Ok(Self { state_dir, user_config })
    }

    /// Makes the state directory if need be, and refuses one that others can write.
    pub fn prepare(&self) -> Result<(), PlaceError> {
        let path = || self.state_dir.clone();
        if let Some(parent) = self.state_dir.parent() {
            fs::create_dir_all(parent).map_err(|source| PlaceError::Unusable { path: path(), source })?;
        }
        match fs::DirBuilder::new().mode(0o700).create(&self.state_dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(PlaceError::Unusable { path: path(), source }),
        }
        let meta =
            fs::metadata(&self.state_dir).map_err(|source| PlaceError::Unusable { path: path(), source })?;
        if !meta.is_dir() {
            return Err(PlaceError::Unsafe { path: path(), why: "is not a directory" });
        }
        if meta.uid() != geteuid().as_raw() {
            return Err(PlaceError::Unsafe { path: path(), why: "belongs to another user" });
        }
        if meta.mode() & 0o022 != 0 {
            return Err(PlaceError::Unsafe { path: path(), why: "can be written by others" });
        }
        Ok(())
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.state_dir.join("daemon.sock")
    }

    /// Held by the daemon as long as it lives; its process id is inside.
    pub fn lock(&self) -> PathBuf {
        self.state_dir.join("daemon.lock")
    }

    /// Held by a client while it starts a daemon.
    pub fn start_lock(&self) -> PathBuf {
        self.state_dir.join("start.lock")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.state_dir.join("daemon.log")
    }

    /// The token for the API over TCP.
    pub fn token(&self) -> PathBuf {
        self.state_dir.join("api-token")
    }

    /// What is kept of the dashboard: who is let in, and where it listens.
    pub fn dashboard(&self) -> PathBuf {
        self.state_dir.join("dashboard.json")
    }
}

/// Opens the directory of a socket, and gives the address to bind or connect to: a path in a Unix address has at most 107
/// bytes (unix(7)), so a longer one goes by way of the directory's descriptor, which must be kept until then.
pub fn short_address(socket: &Path) -> io::Result<(Option<fs::File>, PathBuf)> {
    use std::os::{fd::AsRawFd, unix::ffi::OsStrExt};
    if socket.as_os_str().as_bytes().len() <= 107 {
        return Ok((None, socket.to_owned()));
    }
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = fs::File::open(dir)?;
    let address = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok((Some(dir), address))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn place(variables: &[(&'static str, &str)], root: bool) -> Result<Place, PlaceError> {
        Place::from_variables(
            |name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v)),
            root,
        )
    }

    #[test]
    fn variables_say_where() {
        let home = place(&[("HOME", "/home/u")], false).unwrap();
        assert_eq!(home.state_dir, Path::new("/home/u/.local/state/offshoot"));
        assert_eq!(home.user_config, Path::new("/home/u/.config/offshoot/config.toml"));
        assert_eq!(place(&[("HOME", "/root")], true).unwrap().state_dir, Path::new("/var/lib/offshoot"));
        let xdg = place(&[("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c")], false).unwrap();
        assert_eq!(xdg.socket(), Path::new("/s/offshoot/daemon.sock"));
        assert_eq!(xdg.user_config, Path::new("/c/offshoot/config.toml"));
        let own = place(&[("OFFSHOOT_STATE_DIR", "/x"), ("OFFSHOOT_CONFIG", "/y.toml")], true).unwrap();
        assert_eq!((own.state_dir, own.user_config), (PathBuf::from("/x"), PathBuf::from("/y.toml")));
        assert!(matches!(place(&[], false), Err(PlaceError::NoHome)));
        assert!(matches!(place(&[("OFFSHOOT_STATE_DIR", "x")], false), Err(PlaceError::Relative { .. })));
    }

    #[test]
    fn a_directory_that_others_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { state_dir: dir.path().join("a/state"), user_config: dir.path().join("c") };
        place.prepare().unwrap();
        place.prepare().unwrap();
        assert_eq!(fs::metadata(&place.state_dir).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&place.state_dir, fs::Permissions::from_mode(0o770)).unwrap();
        let problem = Problem::from(place.prepare().unwrap_err());
        assert_eq!(problem.code, "state_dir_unsafe");
        assert!(problem.hint.unwrap().contains("chmod go-w"));
    }
}
