//! The daemon dies at each of its fault points; the next one finds a true state and goes on to a true end.

use serde_json::json;

use crate::{
    audit::{self, WORK},
    stage::{Stage, Who},
};

/// Dies at `point` during a run with a check; then it is taken to its end, and nothing is left.
fn run(point: &str, who: Who) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let stage = Stage::of(who);
    let before = stage.fingerprint();
    let mut params = stage.params("work", WORK);
    params["check"] = json!("sh test.sh");
    stage.start(Some(point));
    // It may die before it answers.
    let _ = stage.request("POST", "/v1/tasks", Some(&params));
    stage.died();
    stage.start(None);
    let tasks = stage.get("/v1/tasks").ok();
    if tasks["tasks"].as_array().unwrap().is_empty() {
        stage.post("/v1/tasks", params).ok();
    }
    stage.over("work", 1);
    audit::complete(&stage, "work");
    stage.unchanged(&before);
    stage.close();
    stage.unchanged(&before);
}

macro_rules! points {
    ($($name:ident $point:literal)*) => {
        mod at {
            $(#[test] fn $name() { super::run($point, super::Who::Me); })*
        }
        mod ordinary {
            $(#[test] fn $name() {
                if offshoot_testkit::user::is_root() {
                    super::run($point, super::Who::Ordinary);
                }
            })*
        }
    };
}

points! {
    export_pack "export.pack"
    export_ref "export.ref"
    layer_start "layer.start"
    layer_built "layer.built"
    layer_placed "layer.placed"
    lease_described "lease.described"
    lease_start "lease.start"
    lease_up "lease.up"
    run_launch "run.launch"
    run_launched "run.launched"
    run_send "run.send"
    run_send_prompt "run.send#4"
    run_heard "run.heard"
    run_heard_later "run.heard#3"
    run_checkpoint "run.checkpoint"
    run_checked "run.checked"
    harvest_start "harvest.start"
    harvest_committed "harvest.committed"
    harvest_bundled "harvest.bundled"
    import_quarantine "import.quarantine"
    import_objects "import.objects"
    harvest_imported "harvest.imported"
    publish_objects "publish.objects"
    harvest_recorded "harvest.recorded"
    run_ended "run.ended"
}
