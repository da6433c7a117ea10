//! One service worked out for environments of this machine: command line, address, file system, probe. Made before the
//! lease, stored with it, so a service that is started again is started as it was the first time.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use offshoot_core::{
    event::ServiceView,
    service::{DataIsolation, Field, Service, Services, Source, Values, VolumeSource},
};
use offshoot_image::{Images, Progress};
use offshoot_sandbox::{ExecRoot, Mount};
use serde::{Deserialize, Serialize};

use super::{
    image,
    probe::Probe,
    recipe::{self, Recipe},
};
use crate::{machine::Machine, tools::Tools};

/// Where services' files are inside.
const INSIDE: &str = "/run/offshoot/services";
/// Where a service with its own root is shown the workspace.
pub(super) const WORKSPACE: &str = "/run/offshoot/workspace";

/// A service as it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// What was written.
    pub service: Service,
    /// Its own loopback address inside; its name leads there.
    pub address: Ipv4Addr,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// The directory it starts in; the root's if none.
    pub cwd: Option<String>,
    /// Its own root, if it comes from an image.
    pub root: Option<ExecRoot>,
    /// Layers of its own root, top first.
    pub root_layers: Vec<PathBuf>,
    /// The digest of its image, if it comes from one.
    pub image: Option<String>,
    /// The ports it listens at.
    pub ports: Vec<u16>,
    /// How it is found to be ready.
    pub probe: Probe,
    /// The signal that asks it to end.
    pub stop: i32,
    /// How it reads a file of SQL or the like: given to its `sh -c` with the path as `$1`.
    pub load: Option<String>,
    /// Directories inside in which it keeps its data.
    pub data: Vec<PathBuf>,
    /// What else it is shown: a path inside, where it appears, whether it may be written.
    pub shown: Vec<(PathBuf, PathBuf, bool)>,
    /// The layer its data starts from.
    pub data_layer: Option<String>,
    /// Changes when what runs changes.
    pub fingerprint: String,
    /// The workspace of the repository that it belongs to, if that is not the main one.
    #[serde(default)]
    pub workspace: Option<PathBuf>,
}

/// Why a service cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Its program is not on this machine.
    #[error("the service {service} needs the program {program}, which is not on this machine")]
    NoProgram {
        /// The service.
        service: String,
        /// The program.
        program: String,
    },
    /// Its image could not be had.
    #[error("the image of the service {service} could not be had")]
    Image {
        /// The service.
        service: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where services come from.
pub struct Sources<'a> {
    /// The person's tools.
    pub tools: &'a Tools,
    /// The repository on the host: images in files are below it.
    pub repository: &'a Path,
    /// Images.
    pub images: &'a Images,
    /// Hears what takes so long.
    pub progress: Progress<'a>,
    /// How many services of other repositories the environment has before these: addresses are counted on.
    pub before: usize,
    /// Ports at which one of those is found on `localhost`.
    pub taken: &'a [u16],
    /// Where the repository's workspace is, if it is not the main one.
    pub workspace: Option<&'a Path>,
}

/// All services of one repository in an environment.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    /// In the order in which they are started.
    pub plans: Vec<Plan>,
    /// Variables that every process inside is given.
    pub env: BTreeMap<String, String>,
}

impl Plans {
    /// Works out the services that have a server of their own. Images that are not here are got.
    pub async fn make(services: &Services, from: &Sources<'_>) -> Result<Self, PlanError> {
        let mut plans = Self::default();
        let mut local = from.taken.to_vec();
        local.extend(services.services.iter().flat_map(led).map(|(local, _)| local));
        let own = |service: &&Service| service.isolation == DataIsolation::Server;
        for (at, service) in services.order().into_iter().filter(own).enumerate() {
            // 127.0.1.1 is what distributions give the machine's own name.
            let address = Ipv4Addr::new(127, 0, 1, u8::try_from(from.before + at + 2).unwrap_or(u8::MAX));
            let free = service.listens().iter().all(|port| !local.contains(port));
            local.extend(service.listens());
            let at = Place {
                service,
                address,
                local: free,
                dir: PathBuf::from(INSIDE).join(service.name.as_str()),
            };
            let recipe = match &service.source {
                None => continue,
                Some(Source::Use(_)) => recipe::of_host(&at, from.tools)?,
                Some(Source::Image(name)) => {
                    image::of_image(&at, name, from.repository, from.images, from.progress).await?
                }
            };
            plans.env.extend(injected(service, address));
            let mut plan = plan(&at, recipe);
            if let Some(workspace) = from.workspace {
                plan.workspace = Some(workspace.to_owned());
                if plan.root.is_none() && plan.cwd.is_none() {
                    plan.cwd = Some(workspace.to_string_lossy().into_owned());
                }
            }
            plans.plans.push(plan);
        }
        plans.named_volumes();
        Ok(plans)
    }

    /// Volumes with a name: the first service that names one keeps it as its data, the others are shown it.
    fn named_volumes(&mut self) {
        let mut owners: BTreeMap<String, PathBuf> = BTreeMap::new();
        for plan in &mut self.plans {
            let Some(root) = plan.root.as_ref().map(|root| root.path.clone()) else { continue };
            for volume in &plan.service.volumes {
                let target = root.join(volume.target.trim_start_matches('/'));
                match &volume.source {
                    VolumeSource::Named(name) => match owners.get(name) {
                        Some(owner) => plan.shown.push((owner.clone(), target, !volume.read_only)),
                        None => {
                            if !plan.data.contains(&target) {
                                plan.data.push(target.clone());
                            }
                            owners.insert(name.clone(), target);
                        }
                    },
                    VolumeSource::Workspace(path) => {
                        let source = PathBuf::from(WORKSPACE).join(path.as_str());
                        plan.shown.push((source, target, !volume.read_only));
                    }
                }
            }
        }
    }

    /// Lines for `/etc/hosts`.
    pub fn hosts(plans: &[Plan]) -> Vec<String> {
        plans.iter().map(|plan| format!("{} {}", plan.address, plan.service.name)).collect()
    }
}

/// Where a service is in its environment.
pub(super) struct Place<'a> {
    pub service: &'a Service,
    pub address: Ipv4Addr,
    /// Whether it is found on `localhost` too: the first one that listens at a port.
    pub local: bool,
    /// Its files inside.
    pub dir: PathBuf,
}

impl Place<'_> {
    /// The addresses it listens at.
    pub fn addresses(&self) -> Vec<String> {
        let local: &[&str] = if self.local { &["127.0.0.1", "::1"] } else { &[] };
        std::iter::once(self.address.to_string()).chain(local.iter().map(|a| (*a).to_owned())).collect()
    }
}

fn plan(at: &Place<'_>, recipe: Recipe) -> Plan {
    let service = at.service;
    Plan {
        address: at.address,
        argv: recipe.argv,
        env: recipe.env,
        cwd: recipe.cwd,
        root: recipe.root,
        root_layers: recipe.root_layers,
        image: recipe.image,
        ports: recipe.ports,
        shown: Vec::new(),
        probe: Probe::of(service, recipe.probe),
        stop: recipe.stop,
        load: recipe.load,
        data: recipe.data,
        data_layer: None,
        fingerprint: recipe.fingerprint,
        workspace: None,
        service: service.clone(),
    }
}

fn led(service: &Service) -> impl Iterator<Item = (u16, u16)> {
    let own = service.isolation == DataIsolation::Server;
    let ports = service.ports.iter().filter(move |_| own);
    ports.filter_map(|port| Some((port.local?, port.container))).filter(|(local, port)| local != port)
}

fn injected(service: &Service, address: Ipv4Addr) -> BTreeMap<String, String> {
    told(service, service.name.to_string(), address.to_string(), service.port().unwrap_or_default())
}

/// What is told of a service that is found there.
fn told(service: &Service, host: String, address: String, port: u16) -> BTreeMap<String, String> {
    let credentials = service.credentials();
    let values = Values {
        host,
        address,
        port,
        user: credentials.user,
        password: credentials.password,
        database: credentials.database,
        schema: String::new(),
    };
    debug_assert!(!service.tells(Field::Schema) || service.isolation == DataIsolation::Schema);
    service.injected().iter().map(|(name, template)| (name.clone(), template.render(&values))).collect()
}

impl Plan {
    /// Variables of whoever finds it under its name.
    pub fn injected_inside(&self) -> BTreeMap<String, String> {
        injected(&self.service, self.address)
    }

    /// Variables of whoever finds it at another place than inside.
    pub fn injected(&self, address: &str, port: u16) -> BTreeMap<String, String> {
        told(&self.service, address.to_owned(), address.to_owned(), port)
    }

    /// What is told of it.
    pub fn view(&self) -> ServiceView {
        let runs = match &self.service.source {
            Some(Source::Image(image)) => image.to_string(),
            _ => self.fingerprint.split(' ').next().unwrap_or_default().to_owned(),
        };
        ServiceView {
            name: self.service.name.to_string(),
            address: self.address.to_string(),
            ports: self.ports.clone(),
            runs,
        }
    }

    /// Ports of `localhost` inside that lead to others of its own: `"5433:5432"`.
    pub fn led(&self) -> impl Iterator<Item = (SocketAddrV4, u16)> {
        led(&self.service).map(|(local, port)| (SocketAddrV4::new(Ipv4Addr::LOCALHOST, local), port))
    }

    /// Whether its first start, or its seed, is done once for all environments. A project's own command is just run.
    pub(super) fn begins_with_data(&self) -> bool {
        let known = self.root.is_some() || self.service.command.is_none();
        !self.data.is_empty() && (known || self.service.seed.is_some())
    }

    fn dir(&self, environment: &Path) -> PathBuf {
        environment.join("services").join(self.service.name.as_str())
    }

    /// The writable layer of one of its data directories, below the environment's directory on the host.
    pub(super) fn data_upper(&self, environment: &Path, at: usize) -> PathBuf {
        self.dir(environment).join(format!("data-{at}"))
    }

    /// Makes the directories on the host that it needs below the environment's own.
    pub fn make_dirs(&self, machine: &Machine, environment: &Path) -> io::Result<()> {
        let dir = self.dir(environment);
        machine.make_dir(&dir)?;
        for at in 0..self.data.len() {
            let upper = self.data_upper(environment, at);
            machine.make_dir(&upper)?;
            // A server refuses to keep its data where others may look.
            fs::set_permissions(&upper, fs::Permissions::from_mode(0o700))?;
            machine.make_dir(&dir.join(format!("data-{at}-work")))?;
        }
        if self.root.is_some() {
            machine.make_dir(&dir.join("root"))?;
            machine.make_dir(&dir.join("root-work"))?;
        }
        Ok(())
    }

    /// What is put together for it inside. `data` is the layer its data starts from.
    pub fn mounts(&self, environment: &Path, data: Option<&Path>, workspace: &Path) -> Vec<Mount> {
        let workspace = self.workspace.as_deref().unwrap_or(workspace);
        let dir = self.dir(environment);
        let inside = Path::new(INSIDE).join(self.service.name.as_str());
        let share = |source: &Path, target: PathBuf, writable| Mount::Share {
            source: source.to_owned(),
            target,
            writable,
        };
        // Sockets, and what must be written once.
        let mut mounts = vec![Mount::Tmpfs { target: inside, bytes: 16 << 20, mode: 0o755 }];
        let root = self.root.as_ref().map(|root| root.path.as_path());
        if let Some(root) = root {
            mounts.push(Mount::Overlay {
                target: root.to_owned(),
                lowers: self.root_layers.clone(),
                upper: dir.join("root"),
                work: dir.join("root-work"),
                root: true,
            });
            for (path, writable) in
                [("/proc", true), ("/dev", true), ("/etc/hosts", false), ("/etc/resolv.conf", false)]
            {
                mounts.push(share(Path::new(path), root.join(path.trim_start_matches('/')), writable));
            }
            mounts.push(Mount::Dir { target: root.join("tmp"), mode: 0o1777 });
            mounts.push(share(workspace, root.join(WORKSPACE.trim_start_matches('/')), false));
        }
        for (at, target) in self.data.iter().enumerate() {
            let layer = data.map(|layer| layer.join(format!("data-{at}")));
            // A volume begins with what its image has there.
            let image = root
                .and_then(|root| target.strip_prefix(root).ok())
                .map_or_else(Vec::new, |path| image::below(&self.root_layers, path));
            mounts.push(Mount::Overlay {
                target: target.clone(),
                lowers: layer.into_iter().chain(image).collect(),
                upper: self.data_upper(environment, at),
                work: dir.join(format!("data-{at}-work")),
                root: false,
            });
        }
        for (source, target, writable) in &self.shown {
            // A part of the workspace is found where the workspace is.
            let source = match source.strip_prefix(WORKSPACE) {
                Ok(path) => workspace.join(path),
                Err(_) => source.clone(),
            };
            mounts.push(share(&source, target.clone(), *writable));
        }
        mounts
    }
}
