//! git inside a large workspace is told what changed instead of looking at every file: what `git status` then says is
//! what it says when it looks at everything, whatever was done before, in layers of every kind.

use serde_json::json;

use crate::{kills::Random, stage::Stage};

/// Above the number from which on git is told.
const FILES: u32 = 10_100;
/// Rounds of one to three operations, in one environment each.
const ROUNDS: u32 = 120;

/// What the random script below uses. Operations may fail, as a person's do.
const PRELUDE: &str = r#"
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@a GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@a GIT_MERGE_AUTOEDIT=no
exec 2>/tmp/said
# Whoever looks within 30 ms of the mount, which touches the root, is told once more to look at everything.
told() {
  for look in 1 2 3; do
    known=$(git ls-files -f | grep -c '^h')
    [ "$known" -gt "$1" ] && return
    git status >/dev/null
  done
  echo "git is not told: $known"
  exit 1
}
check() {
  git status --porcelain -z | tr '\0' '\n' >/tmp/got
  GIT_OPTIONAL_LOCKS=0 git -c core.fsmonitor=false -c core.untrackedCache=false status --porcelain -z | tr '\0' '\n' >/tmp/want
  cmp -s /tmp/got /tmp/want || { echo "$1: got, wanted:"; diff /tmp/got /tmp/want | head -20; tail -5 /tmp/said; exit 1; }
}
anew() { rm -rf "$1" && mkdir -p "$1" && echo "$2" >"$1/$3"; }
"#;

#[test]
fn what_git_is_told_changed_is_what_changed() {
    let stage = Stage::new();
    large(&stage);
    stage.start(None);
    for seed in 1..=3 {
        // A base, then deltas of it: each commit has a file more.
        let mut script = PRELUDE.to_owned();
        script.push_str("told 9000; check start; told 9000\n");
        script.push_str(&operations(seed * 7919));
        script.push_str("echo same");
        by_hand(&stage, &format!("t{seed}"), &script);
        stage.write(&format!("d{seed}/e1/more"), "more\n");
        stage.write("d0/e0/f0", &format!("changed {seed}\n"));
        std::fs::remove_file(stage.repo.join(format!("d{seed}/e{seed}/f{seed}"))).unwrap();
        stage.git(&["add", "-A"]);
        stage.git(&["commit", "-qm", "more"]);
    }
    stage.close();
}

#[test]
fn git_is_told_what_a_setup_adds_to_a_commit() {
    let stage = Stage::new();
    large(&stage);
    // In directories that the commit has too: untracked files, and one that a later commit tracks.
    let setup = "mkdir -p d1/e1/made new/deep ignored; touch d1/e1/made/x d2/untracked new/deep/y ignored/z top; echo setup >d3/later";
    stage.write(
        "offshoot.toml",
        &format!("[setup.made]\ncommands = [{}]\nkey = [\".gitignore\"]\n", json!(setup)),
    );
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-qm", "setup"]);
    stage.start(None);
    let script = format!("{PRELUDE} told 9000; check start; cat /tmp/got; told 9000; echo same");
    let said = by_hand(&stage, "first", &script);
    for path in ["?? d1/e1/made/", "?? d2/untracked", "?? d3/later", "?? new/", "?? top"] {
        assert!(said.contains(path), "{path} is missing in {said}");
    }
    assert!(!said.contains("ignored"), "{said}");
    stage.write("d3/later", "tracked now\n");
    stage.git(&["add", "-A", "-f"]);
    stage.git(&["commit", "-qm", "later"]);
    let said = by_hand(&stage, "second", &script);
    assert!(said.contains(" M d3/later"), "{said}");
    stage.close();
}

#[test]
fn git_is_told_across_restarts_and_looks_for_itself_elsewhere() {
    let stage = Stage::new();
    large(&stage);
    stage.start(None);
    let told = |name: &str, script: &str| by_hand_in(&stage, name, &format!("{PRELUDE} {script}; echo same"));
    stage.post("/v1/tasks", json!({ "path": stage.repo, "by_hand": true, "name": "t" })).ok();
    told("t", "check fresh; echo x >>d1/e1/f1; : >d4/made; git add d4/made; check changed; told 9000");
    // Without daemon, shim and boundary; then over the same files again.
    let shim = stage.shim("t");
    stage.kill();
    let _ = rustix::process::kill_process(shim, rustix::process::Signal::KILL);
    stage.start(None);
    told("t", "rm d4/made; check again; told 9000; echo y >>d2/e2/f2; check more");
    // A copy has the same configuration and index, but nobody tells what changes in it.
    told(
        "t",
        "cp -a . /tmp/copy; cd /tmp/copy; rm -f .git/index.lock; echo z >>d5/e5/f5; rm d6/e6/f6; check copy; grep 'd5/e5/f5' /tmp/got",
    );
    told(
        "t",
        "git worktree add -q /tmp/beside HEAD; cd /tmp/beside; echo z >>d7/e0/f7; check beside; grep d7/e0/f7 /tmp/got",
    );
    stage.close();
}

/// A commit with many files, small ones.
fn large(stage: &Stage) {
    for n in 0..FILES {
        stage.write(&format!("d{}/e{}/f{n}", n % 40, n % 7), &format!("file {n}\n"));
    }
    for n in 0..10 {
        stage.write(&format!("r{n}"), &format!("file {n} in the root\n"));
    }
    stage.write(".gitignore", "*.o\n/ignored\n");
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-qm", "large"]);
}

fn by_hand(stage: &Stage, name: &str, script: &str) -> String {
    stage.post("/v1/tasks", json!({ "path": stage.repo, "by_hand": true, "name": name })).ok();
    by_hand_in(stage, name, script)
}

#[track_caller]
fn by_hand_in(stage: &Stage, name: &str, script: &str) -> String {
    let exec = stage.exec(name, script);
    let (said, code) = stage.output(name, &exec);
    assert!(code == Some(0) && said.ends_with("same\n"), "{name} ended with {code:?}: {said}");
    said
}

/// The rounds of one environment, the same for the same seed.
fn operations(seed: u64) -> String {
    let mut random = Random(seed);
    let mut pick = |of: usize| random.below(of);
    let mut script = String::new();
    for round in 0..ROUNDS {
        for _ in 0..=pick(3) {
            // A few directories and names, so that things happen to the same path again and again.
            let (d, e) = (pick(4), pick(3));
            let dir = match pick(8) {
                0 => "./".to_owned(),
                1 => "new/".to_owned(),
                2 => format!("new/s{e}/"),
                3 => format!("d{d}/"),
                4 => format!("d{d}/fresh/"),
                _ => format!("d{d}/e{e}/"),
            };
            let file = |pick: usize| match pick {
                0..3 => format!("{dir}made{pick}"),
                3 => format!("{dir}made.o"),
                4 => format!("r{}", d + e),
                // In d<n % 40>/e<n % 7>: 280 is the least that both divide.
                _ => (0..280)
                    .find(|n| n % 40 == d && n % 7 == e)
                    .map_or_else(String::new, |n| format!("d{d}/e{e}/f{n}")),
            };
            let (one, other) = (file(pick(8)), file(pick(4)));
            let step = match pick(34) {
                0..=3 => format!("mkdir -p {dir}; echo {round} >{one}"),
                4 | 5 => format!("echo {round} >>{one}"),
                6..=8 => format!("rm -rf {one}"),
                9 => format!("rm -rf ./{dir}made*"),
                10 if dir != "./" => format!("rm -rf {dir}"),
                11 if dir != "./" => format!("anew {dir} {round} made1"),
                12 => format!("mv -f {one} {other}"),
                13 if dir != "./" => format!("rm -rf moved{e}; mv {dir} moved{e}"),
                14 => format!("chmod +x {one}"),
                15 => format!("rm -f {one}; ln -s {other} {one}"),
                16 => format!("touch -d @1000000000 {one} {dir}"),
                17 => format!("cp -a {one} {other}"),
                18 => format!("mkdir -p {dir}; echo '*{e}' >>{dir}.gitignore"),
                19 | 20 => "git add -A".to_owned(),
                21 | 22 => format!("git add -f {one}"),
                23 => format!("git stash -q{}", if e == 0 { " -u" } else { "" }),
                24 => "git stash pop -q".to_owned(),
                25 => format!("git commit -qam {round}"),
                26 => format!("git checkout -q -f -B b{e} {}", ["HEAD", "HEAD~1", "b0"][e]),
                27 => format!("git checkout -q -- {one}"),
                28 => format!("git reset -q {}", ["--hard", "--mixed", "--hard HEAD~1"][e]),
                29 => format!("git merge -q b{e} || git merge --abort"),
                30 => format!("git mv -f {one} {other}"),
                31 => format!("git rm -q -f {}{one}", if e == 0 { "--cached " } else { "" }),
                32 => "git clean -fdq".to_owned(),
                33 => format!("git apply --index <<'P'\n{}P\n", patch(&other)),
                _ => "git diff --quiet".to_owned(),
            };
            script.push_str(&step);
            script.push('\n');
        }
        script.push_str(&format!("check 'round {round}'\n"));
    }
    script
}

/// Makes a file, in the index too, in one run of git.
fn patch(path: &str) -> String {
    let path = path.trim_start_matches("./");
    format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+patched\n")
}
