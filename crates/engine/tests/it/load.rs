//! Many at once: nothing is lost, doubled or out of turn.

use std::collections::HashMap;

use serde_json::Value;

use crate::{audit, http::Events, stage::Stage};

#[test]
fn twenty_agents_at_once() {
    const AGENTS: usize = 20;
    const CALLS: usize = 200;
    let stage = Stage::new();
    stage.configure("[machine]\nmax-runs = 20\nmemory = \"100g\"\n");
    stage.start(None);
    let socket = stage.socket();
    let watcher = std::thread::spawn(move || {
        let (mut told, mut over) = (Vec::new(), 0);
        let mut events = Events::follow(&socket, 0).unwrap();
        while over < AGENTS {
            let entry = events.next().unwrap();
            over += usize::from(entry["event"]["type"] == "run_ended");
            told.push(entry);
        }
        told
    });
    for n in 0..AGENTS {
        stage.dispatch(&format!("work-{n}"), &format!("Look\n@calls {CALLS}\n@say All done"));
    }
    let told = watcher.join().unwrap_or_else(|_| panic!("{}", stage.log()));
    let log = audit::log(&stage);
    assert_eq!(told, log[..told.len()], "the stream tells what the log holds");
    for n in 0..AGENTS {
        let name = format!("work-{n}");
        assert_eq!(stage.task(&name)["state"], "complete");
        audit::told_once(&stage, &name, CALLS);
        audit::prompted(&stage, &name, 1);
    }
    stage.close();
}

/// What happened, in order: which task, admitted or over.
fn turns(entries: &[Value]) -> Vec<(String, bool)> {
    entries
        .iter()
        .filter_map(|e| {
            let admitted = match e["event"]["type"].as_str()? {
                "run_admitted" => true,
                "run_ended" => false,
                _ => return None,
            };
            Some((e["task"].as_str()?.to_owned(), admitted))
        })
        .collect()
}

#[test]
fn a_queue_keeps_its_order_over_a_restart() {
    let stage = Stage::new();
    stage.configure("[machine]\nmax-runs = 2\nmemory = \"100g\"\n");
    stage.start(None);
    let names: HashMap<String, usize> = (0..6)
        .map(|n| {
            let view = stage.dispatch(&format!("work-{n}"), "Wait\n@shell sleep 0.2\n@say All done");
            (view["task"]["id"].as_str().unwrap().to_owned(), n)
        })
        .collect();
    let mut over = 0;
    stage.wait("first end", |entry| {
        over += usize::from(entry["event"]["type"] == "run_ended");
        over == 1
    });
    stage.kill();
    stage.start(None);
    let waiting = stage.get("/v1/tasks").ok();
    for view in waiting["tasks"].as_array().unwrap() {
        assert_eq!(view["queue_place"].is_null(), view["task"]["state"] != "queued", "{view}");
    }
    for n in 0..6 {
        assert_eq!(stage.over(&format!("work-{n}"), 1)["state"], "complete");
    }
    let turns = turns(&audit::log(&stage));
    let order: Vec<usize> = turns.iter().filter(|(_, admitted)| *admitted).map(|(id, _)| names[id]).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    let mut active = 0;
    for (_, admitted) in turns {
        active += if admitted { 1 } else { -1 };
        assert!((0..=2).contains(&active), "more than two at a time");
    }
    stage.close();
}
