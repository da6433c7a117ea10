//! How much stands between an agent and the machine: the kinds of environment there are.
//!
//! Chosen by a person for each task, shown wherever the task is, never lowered by anybody else.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an environment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Own files, processes, network: what it could break is disposable.
    #[default]
    Sandbox,
    /// A git worktree of the user's repository. Its processes are the user's own, with all that these may do.
    Worktree,
}

impl Isolation {
    /// Its name, as options and files spell it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Worktree => "worktree",
        }
    }

    /// What a person has to know about it wherever it is shown.
    #[must_use]
    pub fn described(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Worktree => "worktree, no process isolation",
        }
    }

    /// Whether this is the default.
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        *self == Self::Sandbox
    }
}

/// Variables of the host that processes may need to find tools, screens and the user's own settings by. No keys.
const HOST: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "EDITOR",
    "VISUAL",
    "PAGER",
    // Networks and trust.
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    // Sessions: agents, keyrings and screens of the user's.
    "SSH_AUTH_SOCK",
    "GPG_AGENT_INFO",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    // Where version managers and package managers live.
    "CARGO_HOME",
    "RUSTUP_HOME",
    "GOPATH",
    "GOROOT",
    "NVM_DIR",
    "FNM_DIR",
    "VOLTA_HOME",
    "PNPM_HOME",
    "BUN_INSTALL",
    "DENO_DIR",
    "PYENV_ROOT",
    "RBENV_ROOT",
    "ASDF_DIR",
    "ASDF_DATA_DIR",
    "MISE_DATA_DIR",
    "SDKMAN_DIR",
    "JAVA_HOME",
    "ANDROID_HOME",
    "HOMEBREW_PREFIX",
    "UV_CACHE_DIR",
    "PIP_CACHE_DIR",
    "NPM_CONFIG_CACHE",
    // Where agents keep their own settings and log-ins.
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "GEMINI_CLI_HOME",
];
/// The same by how they begin.
const PREFIXES: &[&str] = &["LC_", "XDG_", "OFFSHOOT_"];

/// Whether a variable of the user's own is handed to environments without a boundary. None goes into a sandbox.
pub fn is_of_host(name: &str) -> bool {
    // A fault point is for the daemon that was told of it.
    (HOST.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        && name != "OFFSHOOT_FAULT"
}
