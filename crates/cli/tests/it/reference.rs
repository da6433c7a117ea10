//! The committed pages say what the program says.

use std::{collections::BTreeSet, fs, path::Path};

use offshoot_cli::reference::{
    PROJECT_KEYS, USER_KEYS, cli_page, configuration_page, exit_codes_page, services_schema,
};
use offshoot_core::config::{ProjectConfig, UserConfig};

fn compare(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "docs/reference/{name} is stale: UPDATE=1 cargo test -p offshoot reference");
}

#[test]
fn commands() {
    compare("cli.md", &cli_page());
}

#[test]
fn exit_codes() {
    compare("exit-codes.md", &exit_codes_page());
}

#[test]
fn configuration() {
    compare("configuration.md", &configuration_page());
}

#[test]
fn services() {
    compare("services.schema.json", &services_schema());
}

/// The page for people has every key of the table for programs.
#[test]
fn the_page_of_services_has_every_key() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/services.md");
    let page = fs::read_to_string(page).unwrap();
    for (key, ..) in offshoot_core::service::SERVICE_KEYS {
        assert!(page.contains(&format!("`{key}`")), "docs/services.md says nothing of {key}");
    }
}

/// Each key of the page is a key of the file, and the other way round.
#[test]
fn the_page_has_every_key() {
    let shared = r#"
        [agent]
        default = "x"
        model = "x"
        permission = "allow"
        approval-timeout = "1h"
        instructions = "x"
        [egress]
        allow = ["example.org"]
        [network]
        unknown = "ask"
        [limits]
        memory = "1g"
        processes = 1
        cpu = 1
        disk = "1g"
        "#;
    let project = format!(
        "{shared}\n[setup.x]\ncommands = [\"x\"]\nkey = [\"x\"]\n[check]\ncommand = \"x\"\ntimeout = \"1m\"\n\
         [environment]\nenv = {{ A = \"1\" }}\nsuspend-after = \"1m\"\nisolation = \"sandbox\"\n\
         [worktree]\npath = \"../{{task}}\"\nenv-file = \"x\"\n\
         [apps.x]\ncommand = \"x\"\nport = 1\ncwd = \"x\"\n[ports]\ncount = 1\n\
         [project]\nname = \"x\"\n[[repos]]\nname = \"y\"\npath = \"../y\"\nbranch = \"main\"\n"
    );
    let user = format!(
        "{shared}\n[machine]\nmax-runs = 1\nmemory = \"1g\"\nsuspend-after = \"1m\"\n[tools]\n\
         directories = [\"/x\"]\n[agents.x]\n\
         [servers.x]\nurl = \"mysql://x\"\n[preview]\nport = 1\n\
         [dashboard]\nport = 1\nforget-after = \"30d\"\n\
         [environment]\nisolation = \"sandbox\"\n\
         [worktree]\npath = \"../{{task}}\"\nenv-file = \"x\"\nfrom-project = true\n\
         [repositories]\nshow = true\n[approvals]\nhost-deadline = \"1m\"\n\
         [notifications]\nkinds = []\nlink = \"http://x\"\ndesktop = true\nwebhook = {{ url = \"http://x\" }}\n\
         ntfy = {{ url = \"http://x\", topic = \"x\" }}\nslack = {{ url = \"http://x\" }}\n"
    );
    // Serialising writes every field, so a key that is missing here is missing in the text above too.
    let written = toml::Value::try_from(ProjectConfig::parse(&project).unwrap()).unwrap();
    assert_eq!(keys(&written), PROJECT_KEYS.iter().map(|k| k.0.to_owned()).collect());
    let written = toml::Value::try_from(UserConfig::parse(&user).unwrap()).unwrap();
    let both = ["agent.", "egress.", "network.", "limits."];
    let own: BTreeSet<String> =
        keys(&written).into_iter().filter(|k| !both.iter().any(|s| k.starts_with(s))).collect();
    assert_eq!(own, USER_KEYS.iter().map(|k| k.0.to_owned()).collect());
}

fn keys(value: &toml::Value) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for (section, table) in value.as_table().unwrap() {
        if section == "agents" {
            keys.insert(section.clone());
            continue;
        }
        if let Some(list) = table.as_array() {
            let keys_of = list[0].as_table().unwrap().keys();
            keys.extend(keys_of.map(|key| format!("{section}.{key}")));
            continue;
        }
        // Of those there are several, each with a name.
        let named = ["setup", "apps", "servers"].contains(&section.as_str());
        let (prefix, table) = if named { ("NAME.", &table["x"]) } else { ("", table) };
        keys.extend(table.as_table().unwrap().keys().map(|key| format!("{section}.{prefix}{key}")));
    }
    keys
}
