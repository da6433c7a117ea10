//! Looking ahead: what a new task would be, and what it would wait for. Records nothing.

use offshoot_core::{
    api::{PlanView, TaskParams},
    event::TaskCreated,
    name::TaskName,
    problem::Problem,
};

use crate::{
    admission,
    dispatch::{Draft, around, branch_exists},
    engine::{Engine, waiting},
    ledger::name_taken,
    services,
};

impl Engine {
    /// What a task with these parameters would be. Refuses what [`Engine::create_task`] refuses.
    pub async fn plan(&self, params: TaskParams) -> Result<PlanView, Problem> {
        let engine = self.clone();
        let (draft, mut view) = tokio::task::spawn_blocking(move || {
            let draft = engine.draft(&params)?;
            let view = engine.planned(&draft)?;
            Ok::<_, Problem>((draft, view))
        })
        .await
        .map_err(|e| Problem::internal("looking ahead was interrupted", &e))??;
        view.notices.extend(self.seen_around(around(draft)).await);
        Ok(view)
    }

    fn planned(&self, draft: &Draft) -> Result<PlanView, Problem> {
        let name = self.next_name(draft)?;
        let (queued, working) = self.load()?;
        let mut queue: Vec<_> = queued.iter().map(|(_, limits)| *limits).collect();
        queue.push(draft.queued.limits);
        let (start, waits) = admission::admit(&queue, &working, self.capacity()?);
        let waits_for = waits.map(|waits| waiting(waits).to_owned());
        let place = waits.map(|_| u32::try_from(queue.len() - start).unwrap_or(u32::MAX));
        let services = services::read(draft.repository.root())?;
        let TaskCreated { root, base, target, agent, isolation, others, notices, .. } = draft.created.clone();
        Ok(PlanView {
            branch: name.branch(),
            name,
            root,
            base,
            target,
            agent,
            model: draft.queued.model.clone(),
            check: draft.queued.check.clone(),
            isolation,
            permission: draft.queued.permission,
            egress: draft.queued.egress.clone(),
            limits: draft.queued.limits,
            counted_bytes: admission::counted(&draft.queued.limits),
            prepared: draft.project.layers.has(&draft.base),
            setups: draft.config.setup.keys().map(ToString::to_string).collect(),
            services: services.services.iter().map(|service| service.name.to_string()).collect(),
            repositories: others.into_iter().map(|other| other.name.to_string()).collect(),
            queue_place: place,
            waits_for,
            notices,
        })
    }

    /// The name that the draft would get now.
    fn next_name(&self, draft: &Draft) -> Result<TaskName, Problem> {
        let open = self.open_tasks()?;
        let in_use =
            |name: &TaskName| open.iter().any(|task| task.project == draft.project.id && task.name == *name);
        let wanted = &draft.created.name;
        if draft.named && in_use(wanted) {
            return Err(name_taken(wanted));
        }
        self.names(draft).find(|name| !in_use(name)).ok_or_else(|| branch_exists(wanted))
    }
}
