//! The ways into environments from this machine: the port under which all apps are found by host name, and the ports of
//! their own that environments have.
//!
//! The gateway serves both; here is decided where each leads. Whoever comes in wakes the environment, or brings it up
//! again, but never makes one.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use offshoot_core::{
    api::PortView,
    config::{PortsConfig, ProjectConfig},
    id::{EnvironmentId, TaskId},
    lifecycle::{AppState, TaskState},
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_environment::{
    lease::{Lease, Terms},
    ports::{self, HostPort},
    service::plan::Plan,
    worktree::Runtime,
};
use offshoot_gateway::{
    Destinations, Dial, Forward, ForwardLimits, Later, Listed, Preview, PreviewLimits, PreviewName, Reason,
    Unavailable,
};
use offshoot_sandbox::ConnectionError;
use offshoot_store::TaskFilter;
use tokio::net::TcpStream;

use crate::{
    apps::present,
    declared,
    engine::{Engine, Inner, TaskRef},
    environments::Live,
};

/// Where apps are found if nobody says otherwise.
const PREVIEW: u16 = 7878;
/// Ports that are tried after the first: one for each daemon of this machine.
const TRIED: u16 = 100;
/// How long it is believed that a name means what it meant. A request asks for it, and pages make hundreds.
const BELIEVED: Duration = Duration::from_secs(1);
/// Names that are believed at a time.
const NAMES: usize = 1000;

/// What is open.
#[derive(Default)]
pub struct Doors {
    preview: Mutex<Option<Preview>>,
    forwards: Mutex<HashMap<EnvironmentId, Vec<Forward>>>,
    believed: Mutex<HashMap<PreviewName, (TaskId, EnvironmentId, Instant)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Doors {
    /// The port under which apps are found, if one was to be had.
    pub fn preview_port(&self) -> Option<u16> {
        Some(lock(&self.preview).as_ref()?.addresses().first()?.port())
    }

    fn believe(&self, name: &PreviewName, task: TaskId, environment: EnvironmentId) {
        let mut believed = lock(&self.believed);
        if believed.len() >= NAMES {
            believed.clear();
        }
        believed.insert(name.clone(), (task, environment, Instant::now()));
    }

    /// Closes the ports of an environment that goes.
    pub fn close(&self, environment: EnvironmentId) {
        lock(&self.forwards).remove(&environment);
        lock(&self.believed).retain(|_, (_, id, _)| *id != environment);
    }

    /// Closes everything.
    pub fn close_all(&self) {
        lock(&self.preview).take();
        lock(&self.forwards).clear();
    }
}

impl Engine {
    /// Opens the port under which apps are found. Without one the daemon works all the same.
    pub(crate) fn open_preview(&self) {
        let configured = self.user_config().ok().and_then(|user| user.preview.port);
        let first = configured.unwrap_or(PREVIEW);
        let Some(listeners) = (first..=first.saturating_add(TRIED)).find_map(listen) else {
            tracing::warn!(first, "no port for previews is free");
            return;
        };
        let door = Arc::new(Door(Arc::downgrade(&self.inner)));
        match Preview::serve(listeners, door, PreviewLimits::default()) {
            Ok(preview) => {
                let port = preview.addresses().first().map(std::net::SocketAddr::port);
                if configured.is_some() && port != configured {
                    tracing::warn!(?configured, ?port, "the port for previews is taken; another is used");
                }
                *lock(&self.inner.doors.preview) = Some(preview);
            }
            Err(error) => tracing::warn!(error = %chain(&error), "previews are not served"),
        }
    }

    /// Ports of this machine for a new environment, and the variables that hold some of them.
    pub(crate) fn reserve_ports(
        &self,
        environment: EnvironmentId,
        config: &PortsConfig,
        apps: &[(String, u16)],
        services: &[Plan],
        env: &mut BTreeMap<String, String>,
    ) -> Result<Vec<HostPort>, Problem> {
        let planned = plan(config, apps, services);
        let count = config.count().max(u16::try_from(planned.len()).unwrap_or(u16::MAX));
        if count == 0 {
            return Ok(Vec::new());
        }
        let reserved = ports::reserve(&self.inner.layout.ports(), environment, count)
            .map_err(|e| Problem::internal("could not take ports for the environment", &e))?;
        let Some(first) = reserved else {
            let none = "no block of ports of this machine is free for the environment";
            if config.count() == 0 {
                tracing::warn!("{none}");
                return Ok(Vec::new());
            }
            return Err(Problem::new(ProblemKind::Unavailable, "no_ports", none)
                .hint("`offshoot prune` and `offshoot discard` give ports back; [ports] asks for them"));
        };
        let mut led: Vec<HostPort> = (first..)
            .zip(planned)
            .map(|(host, (name, inside))| {
                let (address, port) = inside.unwrap_or((IpAddr::V4(Ipv4Addr::LOCALHOST), host));
                HostPort { name, host, address, port }
            })
            .collect();
        for (variable, index) in &config.variables {
            env.insert(variable.clone(), first.saturating_add(*index).to_string());
        }
        // The rest leads to the same number inside.
        let taken = u16::try_from(led.len()).unwrap_or(u16::MAX);
        led.extend((first.saturating_add(taken)..first.saturating_add(count)).map(|port| HostPort {
            name: port.to_string(),
            host: port,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
        }));
        Ok(led)
    }

    /// The same for one without a boundary, whose processes listen at ports of this machine themselves: the first of
    /// its ports, if it has some, and those of its apps.
    pub(crate) fn worktree_ports(
        &self,
        environment: EnvironmentId,
        config: &ProjectConfig,
        services: &[Plan],
    ) -> Result<(Option<u16>, Vec<HostPort>), Problem> {
        let apps = config.apps.iter().filter(|(_, app)| app.port.is_some());
        let apps: Vec<String> = apps.map(|(name, _)| name.to_string()).collect();
        // The first is PORT, for whatever is started by hand.
        let before = config.ports.count().max(1);
        let served = plan(&PortsConfig::default(), &[], services);
        let more = u16::try_from(apps.len() + served.len()).unwrap_or(u16::MAX);
        let count = before.saturating_add(more).max(ports::COUNT);
        let first = ports::reserve(&self.inner.layout.ports(), environment, count)
            .map_err(|e| Problem::internal("could not take ports for the environment", &e))?;
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let own = first.map(|first| first.saturating_add(before)..);
        let all = apps.into_iter().map(|name| (name, None)).chain(served);
        let led = own.into_iter().flatten().zip(all);
        let led = led.map(|(host, (name, inside))| {
            let (address, port) = inside.unwrap_or((address, host));
            HostPort { name, host, address, port }
        });
        Ok((first, led.collect()))
    }

    /// After a start: gives back ports of environments that are none.
    pub(crate) fn sweep_ports(&self, tasks: &[TaskRecord]) {
        let known: Vec<_> = tasks.iter().filter_map(present).map(|id| id.to_string()).collect();
        if let Err(error) =
            ports::sweep(&self.inner.layout.ports(), |id| known.iter().any(|known| known == id))
        {
            tracing::warn!(%error, "could not give ports back");
        }
    }

    /// An environment's lease: the one in use, or what is on disk.
    pub(crate) fn lease_of(&self, environment: EnvironmentId) -> Option<Lease> {
        let live = self.inner.environments.live(environment).map(|live| live.lease);
        live.or_else(|| Lease::open(&self.inner.layout, environment).ok())
    }

    /// The ports of a task's environment, as they are shown.
    pub(crate) fn port_views(&self, record: &TaskRecord) -> Vec<PortView> {
        let lease = present(record).and_then(|id| self.lease_of(id));
        let led = lease.map(|lease| lease.terms().ports.clone()).unwrap_or_default();
        let view = |leads: HostPort| PortView {
            name: leads.name,
            address: format!("127.0.0.1:{}", leads.host),
            port: leads.port,
        };
        led.into_iter().map(view).collect()
    }

    /// Opens the ports of a task's environment, if they are not open.
    pub(crate) fn open_ports(&self, task: TaskId, terms: &Terms) {
        // Without a boundary its processes listen there themselves, but for its services.
        let leads_inside = |leads: &HostPort| {
            terms.runtime == Runtime::Sandbox
                || terms.services.iter().any(|plan| plan.address == leads.address)
        };
        if !terms.ports.iter().any(leads_inside) {
            return;
        }
        let environment = terms.environment;
        let mut forwards = lock(&self.inner.doors.forwards);
        if forwards.contains_key(&environment) {
            return;
        }
        let mut open = Vec::new();
        for leads in terms.ports.iter().filter(|leads| leads_inside(leads)) {
            let way = Arc::new(Way {
                engine: Arc::downgrade(&self.inner),
                task,
                environment,
                address: leads.address,
                port: leads.port,
            });
            let served = TcpListener::bind((Ipv4Addr::LOCALHOST, leads.host))
                .map_err(|error| error.to_string())
                .and_then(|listener| {
                    Forward::serve(listener, way, ForwardLimits::default()).map_err(|error| chain(&error))
                });
            match served {
                Ok(forward) => open.push(forward),
                Err(error) => {
                    tracing::warn!(port = leads.host, %error, "a port of an environment is not served")
                }
            }
        }
        forwards.insert(environment, open);
    }

    /// The same after a start, for one that may have no processes.
    pub(crate) fn open_ports_again(&self, task: &TaskRecord) {
        let lease = present(task).and_then(|id| Lease::open(&self.inner.layout, id).ok());
        if let Some(lease) = lease {
            self.open_ports(task.id, lease.terms());
        }
    }

    /// The environment with processes, for somebody who comes in. It counts as used.
    async fn come_in(&self, task: TaskId, environment: EnvironmentId) -> Result<Live, Unavailable> {
        let live = self.ready_as(task, Some(environment)).await.map_err(|problem| {
            let reason = if problem.code == "environment_gone" { Reason::Gone } else { Reason::Failed };
            let unavailable = Unavailable::new(reason, problem.message.clone());
            match problem.hint {
                Some(hint) => unavailable.hint(hint),
                None => unavailable,
            }
        })?;
        self.inner.environments.touch(environment);
        Ok(live)
    }

    /// What a name means: the task, its environment, and the port inside.
    fn meant(&self, name: &PreviewName) -> Result<(TaskRecord, EnvironmentId, IpAddr, u16), Unavailable> {
        let record = self.find(&TaskRef { task: name.task.clone(), path: None }).map_err(|problem| {
            let unavailable = Unavailable::new(Reason::UnknownTask, problem.message.clone());
            if problem.code == "ambiguous_task" {
                return unavailable.hint(format!("http://{}.<id of the task>.localhost/", name.app));
            }
            unavailable.hint("offshoot ps")
        })?;
        let Some(environment) = present(&record) else {
            return Err(match record.state {
                TaskState::Queued | TaskState::Running => Unavailable::new(
                    Reason::Waking,
                    format!("the environment of {} is being made", record.name),
                ),
                state => Unavailable::new(
                    Reason::Gone,
                    format!("{} is {} and its environment is gone", record.name, state.word()),
                ),
            });
        };
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        if let Ok(port) = name.app.parse::<u16>() {
            self.may_reach(&record, environment, port)?;
            return Ok((record, environment, local, port));
        }
        let mut all =
            declared::apps(&record).map_err(|problem| Unavailable::new(Reason::Failed, problem.message))?;
        let described = all.remove(name.app.as_str()).map(|app| app.config);
        let apps = record.environment.iter().flat_map(|e| &e.apps);
        let known = apps.into_iter().find(|known| known.name == name.app);
        if described.is_none() && known.is_none() {
            let lease = self.lease_of(environment);
            let services = lease.as_ref().map(|lease| &lease.terms().services[..]).unwrap_or_default();
            let service = services.iter().find(|service| service.service.name.as_str() == name.app);
            if let Some((address, port)) =
                service.and_then(|service| Some((service.address, *service.ports.first()?)))
            {
                return Ok((record, environment, IpAddr::V4(address), port));
            }
            let text = format!("{} has no app {}", record.name, name.app);
            return Err(
                Unavailable::new(Reason::UnknownApp, text).hint(format!("offshoot app ls {}", record.name))
            );
        }
        let running = known.filter(|known| known.state != AppState::Ended);
        let port =
            running.and_then(|known| known.port).or_else(|| described.as_ref().and_then(|app| app.port));
        let Some(port) = port else {
            let text = format!("the app {} of {} has no port", name.app, record.name);
            let hint = format!("[apps.{}] port = … in offshoot.toml", name.app);
            return Err(Unavailable::new(Reason::UnknownApp, text).hint(hint));
        };
        if running.is_none() {
            let how = known.and_then(|known| known.reason.as_deref()).unwrap_or("it was never started");
            let text = format!("the app {} of {} does not run: {how}", name.app, record.name);
            let hint = format!("offshoot app start {} {}", record.name, name.app);
            return Err(Unavailable::new(Reason::NotStarted, text).hint(hint));
        }
        Ok((record, environment, local, port))
    }

    /// Any port of a sandbox is its own. Without a boundary a port may be anybody's, this proxy's among them.
    fn may_reach(
        &self,
        record: &TaskRecord,
        environment: EnvironmentId,
        port: u16,
    ) -> Result<(), Unavailable> {
        let gone = || Unavailable::new(Reason::Gone, format!("the environment of {} is gone", record.name));
        let lease = self.lease_of(environment).ok_or_else(gone)?;
        let terms = lease.terms();
        let own = terms.runtime == Runtime::Sandbox || terms.ports.iter().any(|leads| leads.port == port);
        let text = || format!("port {port} is not one of {}'s", record.name);
        if own && port != 0 { Ok(()) } else { Err(Unavailable::new(Reason::UnknownApp, text())) }
    }
}

/// What a new environment's ports are for, in their order: those of variables, then one for each port of an app or a
/// service.
fn plan(
    config: &PortsConfig,
    apps: &[(String, u16)],
    services: &[Plan],
) -> Vec<(String, Option<(IpAddr, u16)>)> {
    let most = config.variables.values().max().map_or(0, |index| index.saturating_add(1));
    let named =
        |index: u16| config.variables.iter().find(|(_, i)| **i == index).map(|(name, _)| name.clone());
    let mut planned: Vec<_> = (0..most).map(|index| (named(index).unwrap_or_default(), None)).collect();
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    planned.extend(apps.iter().map(|(name, port)| (name.clone(), Some((local, *port)))));
    planned.extend(services.iter().flat_map(|service| {
        let name = service.service.name.as_str();
        let named =
            move |at: usize, port: u16| if at == 0 { name.to_owned() } else { format!("{name}:{port}") };
        let ports = service.ports.iter().enumerate();
        ports.map(move |(at, port)| (named(at, *port), Some((IpAddr::V4(service.address), *port))))
    }));
    planned
}

/// A port on both loopbacks, or on IPv4's if this machine has no other.
fn listen(port: u16) -> Option<Vec<TcpListener>> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Ok(v6) => Some(vec![v4, v6]),
        // Somebody else's: half of the browsers would find him.
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => None,
        Err(_) => Some(vec![v4]),
    }
}

pub(crate) async fn dial(live: &Live, address: IpAddr, port: u16) -> Result<TcpStream, Unavailable> {
    let failed = |text: String| Unavailable::new(Reason::Failed, text);
    let socket = live.sandbox_at(address).dial(address, port).await.map_err(|error| match error {
        ConnectionError::System(_) => {
            Unavailable::new(Reason::NotListening, format!("nothing listens at port {port} yet"))
        }
        ConnectionError::Gone | ConnectionError::Frozen | ConnectionError::Busy => {
            Unavailable::new(Reason::Waking, chain(&error))
        }
        error => failed(chain(&error)),
    })?;
    let stream = std::net::TcpStream::from(socket);
    stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)).map_err(|e| failed(e.to_string()))
}

pub(crate) fn closing() -> Unavailable {
    Unavailable::new(Reason::Failed, "the daemon is stopping")
}

/// Where host names lead.
struct Door(Weak<Inner>);

impl Door {
    fn engine(&self) -> Result<Engine, Unavailable> {
        self.0.upgrade().map(|inner| Engine { inner }).ok_or_else(closing)
    }
}

impl Destinations for Door {
    fn dial<'a>(&'a self, name: &'a PreviewName) -> Later<'a, TcpStream> {
        Box::pin(async move {
            let engine = self.engine()?;
            let (record, environment, address, port) = engine.meant(name)?;
            let live = engine.come_in(record.id, environment).await?;
            engine.inner.doors.believe(name, record.id, environment);
            dial(&live, address, port).await
        })
    }

    fn used<'a>(&'a self, name: &'a PreviewName) -> Later<'a, ()> {
        Box::pin(async move {
            let engine = self.engine()?;
            let believed = lock(&engine.inner.doors.believed).get(name).copied();
            let (task, environment) = match believed {
                Some((_, environment, since)) if since.elapsed() < BELIEVED => {
                    engine.inner.environments.touch(environment);
                    return Ok(());
                }
                Some((task, environment, _)) => (task, environment),
                None => {
                    let (record, environment, ..) = engine.meant(name)?;
                    (record.id, environment)
                }
            };
            engine.come_in(task, environment).await?;
            engine.inner.doors.believe(name, task, environment);
            Ok(())
        })
    }

    fn list<'a>(&'a self, task: Option<&'a str>) -> Later<'a, Vec<Listed>> {
        Box::pin(async move {
            let engine = self.engine()?;
            let unreadable = |problem: Problem| Unavailable::new(Reason::UnknownTask, problem.message);
            let records = match task {
                Some(task) => {
                    vec![engine.find(&TaskRef { task: task.to_owned(), path: None }).map_err(unreadable)?]
                }
                None => {
                    let filter = TaskFilter { project: None, include_done: false };
                    let store = engine.inner.ledger.store();
                    store.tasks(&filter, NAMES).map_err(|e| unreadable(crate::ledger::store_problem(&e)))?
                }
            };
            let listed = records.iter().flat_map(|record| {
                let label = engine.label(record);
                let views = engine.app_views(record).into_iter().filter(|view| view.url.is_some());
                views.map(move |view| Listed {
                    name: PreviewName { app: view.name, task: label.clone() },
                    state: view.state.word().to_owned(),
                })
            });
            Ok(listed.collect())
        })
    }
}

/// Where a port of an environment leads.
struct Way {
    engine: Weak<Inner>,
    task: TaskId,
    environment: EnvironmentId,
    address: IpAddr,
    port: u16,
}

impl Dial for Way {
    fn dial(&self) -> Later<'_, TcpStream> {
        Box::pin(async move {
            let engine = self.engine.upgrade().map(|inner| Engine { inner }).ok_or_else(closing)?;
            let live = engine.come_in(self.task, self.environment).await?;
            dial(&live, self.address, self.port).await
        })
    }

    fn used(&self) -> Later<'_, ()> {
        Box::pin(async move {
            let engine = self.engine.upgrade().map(|inner| Engine { inner }).ok_or_else(closing)?;
            engine.come_in(self.task, self.environment).await.map(|_| ())
        })
    }
}
