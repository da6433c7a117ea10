//! The whole suite once more as an ordinary user, when it was started by root.

use std::{os::unix::fs::PermissionsExt, process::Command};

use crate::{
    probe::{COPIED_PROBE, VARIABLE, probe},
    stage::{COPIED_SHIM, shim},
};

/// Owned by nobody, and not the number that root's sandboxes run as.
const ORDINARY: &str = "64321";

#[test]
fn the_suite_passes_as_an_ordinary_user_too() {
    let root = rustix::process::geteuid().is_root();
    if !root {
        return;
    }
    // The build directory may be one that others cannot enter.
    let dir = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let (suite, copied) = (dir.path().join("suite"), dir.path().join("offshoot-shim"));
    std::fs::copy(std::env::current_exe().unwrap(), &suite).unwrap();
    let attacker = dir.path().join("offshoot-probe");
    std::fs::copy(shim(), &copied).unwrap();
    std::fs::copy(probe(), &attacker).unwrap();
    let (name, value) = VARIABLE.split_once('=').unwrap();
    // As somebody starts it who will leave: what is ignored outside is not ignored inside.
    let output = Command::new("nohup")
        .args(["setpriv", "--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups", "--"])
        .arg(&suite)
        .arg("--test-threads=2")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env(COPIED_SHIM, &copied)
        .env(COPIED_PROBE, &attacker)
        .env(name, value)
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
