//! Gives up rights: first the identity of whoever started the environment, at the end every capability, every way to
//! get one back, and the system calls on the deny list. Runs once, in init, so that all processes inherit it.

use rustix::{
    process::{DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid},
    thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets},
};

use super::{SetupError, Step};
use crate::{
    seccomp,
    spec::{SandboxSpec, Weakness},
};

/// Becomes the sandbox's identity, keeping capabilities over the new namespaces; dies with the shim from here on.
pub(super) fn become_identity(spec: &SandboxSpec, privileged: bool) -> Result<(), SetupError> {
    if privileged {
        if spec.weak(Weakness::IdentityMap) {
            // From a root that exists inside, the change would take the capabilities along.
            rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)
                .step(|| "keep capabilities".into())?;
        }
        rustix::thread::set_thread_groups(&[]).step(|| "drop groups".into())?;
        let (uid, gid) = (Uid::from_raw(spec.identity.uid), Gid::from_raw(spec.identity.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid).step(|| "change group".into())?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).step(|| "change user".into())?;
    }
    // After the change of user, which clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step(|| "tie to the shim".into())?;
    hide(spec)
}

/// Makes this process's memory and descriptors unreachable for everyone but the host's root.
pub(crate) fn hide(spec: &SandboxSpec) -> Result<(), SetupError> {
    let dumpable = if spec.weak(Weakness::Undumpable) {
        DumpableBehavior::Dumpable
    } else {
        DumpableBehavior::NotDumpable
    };
    rustix::process::set_dumpable_behavior(dumpable).step(|| "hide memory".into())
}

/// The limits that hold for each process, or for the user namespace.
pub(super) fn limit(spec: &SandboxSpec, soft_memory: bool) -> Result<(), SetupError> {
    let limits = &spec.limits;
    let set = |resource: Resource, value: u64| {
        let old = rustix::process::getrlimit(resource);
        let value = old.maximum.map_or(value, |hard| hard.min(value));
        rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
            .step(|| format!("limit {resource:?}"))
    };
    if !spec.weak(Weakness::ProcessLimit) {
        // Counted per user namespace, nested ones included (since Linux 5.14).
        set(Resource::Nproc, limits.processes)?;
        // Numbers below 300 are not used again after the first round; 301 is the least the kernel takes.
        // Per pid namespace since Linux 6.14; before, the file is not ours to write.
        let _ = std::fs::write("/proc/sys/kernel/pid_max", (limits.processes + 302).min(1 << 22).to_string());
    }
    if !spec.weak(Weakness::CoreLimit) {
        // Not 0: for a pipe to a crash handler on the host, the kernel reads 1 as "none" and 0 as no limit.
        set(Resource::Core, 1)?;
    }
    if !spec.weak(Weakness::FileLimit) {
        set(Resource::Fsize, limits.file_bytes)?;
    }
    set(Resource::Nofile, limits.open_files)?;
    if soft_memory && !spec.weak(Weakness::MemoryLimit) {
        // Nobody counts for all of them together at once: at least no single process goes beyond.
        set(Resource::Data, limits.memory_bytes)?;
    }
    Ok(())
}

/// Drops everything else. Nothing privileged works afterwards.
pub(super) fn drop_rights(spec: &SandboxSpec) -> Result<(), SetupError> {
    if !spec.weak(Weakness::NoNewPrivileges) {
        rustix::thread::set_no_new_privs(true).step(|| "set no_new_privs".into())?;
    }
    if spec.weak(Weakness::CloseOnExec) {
        let root = rustix::fs::open("/", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
        std::mem::forget(root.step(|| "open the root".into())?);
    }
    let keep = spec.weak(Weakness::DropCapabilities);
    if !keep {
        for capability in CapabilitySet::all() {
            // EINVAL: a capability this kernel does not have.
            let _ = rustix::thread::remove_capability_from_bounding_set(capability);
        }
    }
    if !spec.weak(Weakness::Seccomp) {
        seccomp::install().step(|| "install the system call filter".into())?;
    }
    let wanted = if keep { CapabilitySet::all() } else { CapabilitySet::empty() };
    let mut sets = CapabilitySets { effective: wanted, permitted: wanted, inheritable: wanted };
    if keep {
        let own = rustix::thread::capabilities(None).step(|| "read capabilities".into())?;
        sets = CapabilitySets { inheritable: own.permitted, ..own };
    }
    rustix::thread::set_capabilities(None, sets).step(|| "drop capabilities".into())?;
    if keep {
        for capability in sets.permitted {
            let _ = rustix::thread::configure_capability_in_ambient_set(capability, true);
        }
    }
    Ok(())
}
