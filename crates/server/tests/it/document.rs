//! The committed OpenAPI document is the one the program serves.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn the_committed_document_is_the_served_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/v1.json");
    let served = format!("{}\n", offshoot_server::document().to_pretty_json().unwrap());
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &served).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == served, "openapi/v1.json is stale: UPDATE=1 cargo test -p offshoot-server document");
}

#[test]
fn references_resolve_and_every_operation_can_refuse() {
    let document = serde_json::to_value(offshoot_server::document()).unwrap();
    let schemas: BTreeSet<&String> = document["components"]["schemas"].as_object().unwrap().keys().collect();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    for reference in references {
        let name = reference.strip_prefix("#/components/schemas/").unwrap().to_owned();
        assert!(schemas.contains(&name), "{name} is not described");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(
                operation["responses"]["default"]["content"]["application/problem+json"].is_object(),
                "{method} {path}"
            );
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
        }
    }
    assert_eq!(ids.len(), 51);
}

fn collect(value: &serde_json::Value, references: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            if let Some(serde_json::Value::String(reference)) = object.get("$ref") {
                references.insert(reference.clone());
            }
            object.values().for_each(|v| collect(v, references));
        }
        serde_json::Value::Array(array) => array.iter().for_each(|v| collect(v, references)),
        _ => {}
    }
}
