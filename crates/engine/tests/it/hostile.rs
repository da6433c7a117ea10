//! An agent that lays traps in its repository for whoever looks at its work: nothing of the host is run or read.

use crate::stage::Stage;

const SECRET: &str = "the-secret-of-the-host";

/// A stage with a secret outside the repository, and where a trap that goes off would leave its mark.
fn stage() -> (Stage, std::path::PathBuf) {
    let stage = Stage::new();
    std::fs::write(stage.path().join("secret"), SECRET).unwrap();
    let mark = stage.path().join("mark");
    (stage, mark)
}

#[test]
fn traps_do_not_go_off() {
    let (stage, mark) = stage();
    let before = stage.fingerprint();
    let secret = stage.path().join("secret");
    let (secret, touch) = (secret.display(), format!("touch {}", mark.display()));
    let prompt = format!(
        r"Traps
@shell for h in pre-commit post-commit commit-msg prepare-commit-msg post-checkout post-merge pre-push reference-transaction post-index-change post-rewrite pre-auto-gc fsmonitor-watchman update pre-receive post-receive; do printf '#!/bin/sh\n{touch}\n' > .git/hooks/$h || mkdir -p .git/hooks; printf '#!/bin/sh\n{touch}\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done; true
@shell git config core.fsmonitor '{touch}'; git config diff.external '{touch}'; git config core.pager '{touch}'; git config core.editor '{touch}'; git config core.sshCommand '{touch}'; git config gpg.program '{touch}'; git config alias.status '!{touch}'
@shell git config filter.x.clean '{touch}; cat'; git config filter.x.smudge '{touch}; cat'; git config filter.x.required true; git config diff.x.textconv '{touch}; cat'; git config diff.x.command '{touch}'; git config merge.x.driver '{touch}'; git config uploadpack.packObjectsHook '{touch}'
@shell mkdir -p sub && printf '* filter=x diff=x merge=x\n' > .gitattributes && printf '* filter=x diff=x\n' > sub/.gitattributes && echo text > sub/file.txt
@shell ln -s {secret} link; ln -s / rootlink; ln -s {secret} sub/link.txt; ln -s ../../../../../../../../etc/passwd passwd
@shell head -c 40000000 /dev/zero > huge.bin
@shell git -c core.fsmonitor=false -c core.hooksPath=/dev/null -c filter.x.clean=cat -c filter.x.required=false -c commit.gpgsign=false add -A
@shell git -c core.fsmonitor=false -c core.hooksPath=/dev/null -c commit.gpgsign=false commit -qm Traps
@shell echo left > leftover.txt; cat .git/hooks/post-checkout .git/config .gitattributes
@say All done"
    );
    stage.start(None);
    stage.dispatch("traps", &prompt);
    let task = stage.over("traps", 1);
    assert_eq!(task["state"], "complete", "{}\n{}", task["reason"], stage.log());
    let laid = stage.entries().into_iter().any(|entry| {
        let told = entry["event"]["agent"]["detail"].as_str().unwrap_or_default().to_owned();
        let hook = format!("#!/bin/sh\n{touch}\n");
        let config = format!("fsmonitor = {touch}");
        [&*hook, &*config, "* filter=x diff=x merge=x\n"].iter().all(|part| told.contains(part))
    });
    assert!(laid, "the traps were not laid");
    stage.unchanged(&before);
    let diff = stage.get("/v1/tasks/traps/diff").ok();
    let patch = diff["patch"].as_str().unwrap();
    assert!(patch.contains("rootlink") && patch.contains("huge.bin"), "{patch}");
    for checkpoint in task["checkpoints"].as_array().unwrap() {
        let step = stage.get(&format!("/v1/tasks/traps/diff?step={}", checkpoint["number"])).ok();
        assert!(!step["patch"].to_string().contains(SECRET));
    }
    for command in ["show", "logs", "diff", "ps"] {
        let mut arguments = vec![command];
        if command != "ps" {
            arguments.push("traps");
        }
        let shown = stage.offshoot(&arguments);
        assert!(!String::from_utf8_lossy(&shown.stdout).contains(SECRET), "{command}");
    }
    assert!(!patch.contains(SECRET));
    assert_eq!(stage.git(&["cat-file", "-p", "offshoot/traps:link"]), secret.to_string());
    stage.post("/v1/tasks/traps/land", serde_json::json!({})).ok();
    assert_eq!(stage.git(&["status", "--porcelain"]), "");
    let link = std::fs::symlink_metadata(stage.repo.join("link")).unwrap();
    assert!(link.is_symlink());
    assert_eq!(std::fs::read(stage.path().join("secret")).unwrap(), SECRET.as_bytes());
    for name in [".git/config", ".git/hooks"] {
        let of = |tree: &std::collections::BTreeMap<String, (u32, Vec<u8>)>| -> Vec<_> {
            tree.iter()
                .filter(|(path, _)| path.starts_with(name))
                .map(|(p, c)| (p.clone(), c.clone()))
                .collect()
        };
        assert_eq!(of(&before), of(&stage.fingerprint()), "{name}");
    }
    assert!(!mark.exists(), "a trap went off");
    stage.close();
    assert!(!mark.exists(), "a trap went off");
}

/// Trees that would write into a git directory are refused, and said so; the user's repository never sees them.
#[test]
fn a_tree_with_a_git_directory_is_refused() {
    let (stage, mark) = stage();
    let before = stage.fingerprint();
    stage.start(None);
    for (name, entry) in
        [("upper", ".GIT"), ("plain", ".git"), ("hfs", r".g\342\200\214it"), ("ntfs", "git~1")]
    {
        let prompt = format!(
            r#"Tree
@shell b=$(printf '[core]\n fsmonitor = touch {}\n' | git hash-object -w --stdin --literally -t blob) && t=$(printf '100644 blob '$b'\tconfig\n' | git mktree) && r=$(printf "040000 tree $t\t{entry}\n" | git mktree) && c=$(git commit-tree -p HEAD -m Tree $r) && git update-ref HEAD $c && git log --oneline
@say All done"#,
            mark.display()
        );
        stage.dispatch(name, &prompt);
        let task = stage.over(name, 1);
        let refs = stage.git(&["for-each-ref", "--format=%(refname)"]);
        assert!(!refs.contains(&format!("offshoot/{name}")), "{entry}: {refs}");
        assert_eq!(task["state"], "failed", "{entry}");
        let reason = task["reason"].as_str().unwrap();
        assert!(reason.contains("hasDotgit"), "{entry}: {reason}");
    }
    stage.unchanged(&before);
    assert!(!mark.exists());
    stage.close();
}
