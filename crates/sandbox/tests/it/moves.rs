//! Directories of lower layers are renamed as on any other file system.

use std::{os::unix::fs::PermissionsExt, path::Path};

use offshoot_sandbox::{Connection, ExecRequest, Exit, Stdio};

use crate::stage::{Stage, exit, request, shell};

/// Makes a tree in the stage's lower layer out of paths; those that end in a slash are directories.
fn layer(stage: &Stage, paths: &[&str]) {
    let lower = stage.path("lower");
    for path in paths {
        let mut at = lower.clone();
        let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
        for part in dir.split('/').filter(|p| !p.is_empty()) {
            at.push(part);
            if !at.exists() {
                std::fs::create_dir(&at).unwrap();
                stage.spec.identity.own(&at).unwrap();
            }
        }
        if !file.is_empty() {
            at.push(file);
            std::fs::write(&at, format!("{path}\n")).unwrap();
            stage.spec.identity.own(&at).unwrap();
        }
    }
}

/// The writable layer is made after the others.
fn layers_made(stage: &Stage) {
    if rustix::process::geteuid().is_root() {
        let own = format!("{}:{}", stage.spec.identity.uid, stage.spec.identity.gid);
        let chown = std::process::Command::new("chown").args(["-hR", &own]).arg(stage.path("lower")).status();
        assert!(chown.unwrap().success());
    }
    let upper = stage.path("upper");
    std::fs::remove_dir(&upper).unwrap();
    std::fs::create_dir(&upper).unwrap();
    stage.spec.identity.own(&upper).unwrap();
}

async fn good(connection: &Connection, id: &str, script: &str) -> String {
    let (exit, out, err) = shell(connection, id, script).await;
    assert_eq!(exit, Exit::Code(0), "{out}{err}");
    out + &err
}

const RENAME: &str = "import os,sys\n\
                      try: os.rename(sys.argv[1],sys.argv[2])\n\
                      except OSError as e: print(e.errno)";

#[tokio::test]
async fn every_tool_moves_a_directory() {
    let stage = Stage::new();
    layer(&stage, &["a/one", "a/deep/er/two", "b/", "c/three", "d/four", "e/five", "into/"]);
    layers_made(&stage);
    let connection = stage.up().await;
    good(&connection, "mv", "mv a a2 && cat a2/one a2/deep/er/two && ! test -e a").await;
    good(
        &connection,
        "python",
        "python3 -c 'import os; os.rename(\"c\",\"c2\")' && cat c2/three && ! test -e c",
    )
    .await;
    good(
        &connection,
        "onto-empty",
        "python3 -c 'import os; os.rename(\"c2\",\"b\")' && cat b/three && ! test -e c2",
    )
    .await;
    let node = "command -v node >/dev/null || exit 0; node -e 'require(\"fs\").renameSync(\"d\",\"d2\")' && cat d2/four && ! test -e d";
    good(&connection, "node", node).await;
    good(&connection, "slashes", "mv e/ into/ && cat into/e/five && mv into/e/ ./e3 && cat e3/five").await;
    let git = "git init -q . && git add -A . && git -c user.name=a -c user.email=a@b commit -qm a && mkdir new && \
               git mv a2 new/a3 && git mv new moved && cat moved/a3/deep/er/two && git status --porcelain";
    let out = good(&connection, "git", git).await;
    assert!(out.contains("R  a2/one -> moved/a3/one"), "{out}");
    let left = good(&connection, "left", "find . -name '.offshoot*'").await;
    assert_eq!(left, "");
    connection.down().await.unwrap();
    assert!(stage.path("lower/a/one").exists());
}

#[tokio::test]
async fn git_moves_directories_of_a_layer() {
    let stage = Stage::new();
    layer(&stage, &["src/lib/a.rs", "src/lib/deep/b.rs", "src/main.rs"]);
    let git = "cd \"$0\"; g() { git -c 'safe.directory=*' -c user.name=a -c user.email=a@b \"$@\"; }\n\
               g init -q . && g add -A . && g commit -qm a";
    let made = std::process::Command::new("sh").args(["-c", git]).arg(stage.path("lower")).status().unwrap();
    assert!(made.success());
    layers_made(&stage);
    let connection = stage.up().await;
    let out =
        good(&connection, "git", "git mv src/lib src/library && git mv src source && git status --porcelain")
            .await;
    for line in ["R  src/lib/a.rs -> source/library/a.rs", "R  src/main.rs -> source/main.rs"] {
        assert!(out.contains(line), "{out}");
    }
    connection.down().await.unwrap();
}

#[tokio::test]
async fn what_a_file_is_stays() {
    let stage = Stage::new();
    layer(&stage, &["a/file", "a/closed/inner", "a/empty/"]);
    let lower = stage.path("lower/a");
    std::os::unix::fs::symlink("../somewhere", lower.join("link")).unwrap();
    std::fs::hard_link(lower.join("file"), lower.join("empty/same")).unwrap();
    let sparse = std::fs::File::create(lower.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (64 << 20) - 3).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_890_123_456_789);
    std::fs::File::options().write(true).open(lower.join("file")).unwrap().set_modified(old).unwrap();
    for (path, mode) in [("file", 0o640), ("closed/inner", 0o400), ("closed", 0o500), ("empty", 0o711)] {
        std::fs::set_permissions(lower.join(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    std::fs::File::open(&lower).unwrap().set_modified(old).unwrap();
    layers_made(&stage);
    let connection = stage.up().await;
    let look = "cd $0 && find . | sort | xargs stat -c '%n %f %s %y' && readlink link && \
                test file -ef empty/same && test $(du -k sparse | cut -f1) -lt 100 && tail -c3 sparse";
    let attributes = "python3 -c 'import os; os.setxattr(\"a/file\",\"user.note\",b\"kept\")'";
    good(&connection, "attributes", attributes).await;
    // Writing an attribute has copied the file up, away from its second name; the second look is after the move.
    good(&connection, "again", "rm a/empty/same && ln a/file a/empty/same && touch -r a/file a/empty a")
        .await;
    let seen = |id: &str, dir: &str| {
        let request = request(id, &["sh", "-c", look, dir], Stdio::Journal);
        let connection = connection.clone();
        let id = id.to_owned();
        async move {
            connection.exec(request).await.unwrap();
            assert_eq!(exit(&connection, &id).await, Exit::Code(0));
            crate::stage::said(&connection, &id, offshoot_sandbox::journal::Kind::Stdout)
        }
    };
    let before = seen("before", "a").await;
    good(&connection, "move", "python3 -c 'import os; os.rename(\"a\",\"b\")' && ! test -e a").await;
    let after = seen("after", "b").await;
    assert_eq!(before, after);
    assert!(before.contains("2009-02-13"), "{before}");
    let note =
        good(&connection, "note", "python3 -c 'import os; print(os.getxattr(\"b/file\",\"user.note\"))'")
            .await;
    assert!(note.contains("kept"), "{note}");
    connection.down().await.unwrap();
    // So that the stage can be removed by its owner.
    for dir in ["lower/a/closed", "upper/b/closed"] {
        std::fs::set_permissions(stage.path(dir), PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[tokio::test]
async fn what_is_wrong_stays_wrong() {
    let stage = Stage::new();
    layer(&stage, &["a/one", "full/two", "empty/", "plain"]);
    layers_made(&stage);
    let connection = stage.up().await;
    let mut n = 0;
    for (from, to, errno) in [
        ("a", "full", libc::ENOTEMPTY),
        ("a", "plain", libc::ENOTDIR),
        ("plain", "empty", libc::EISDIR),
        ("a", "a/inside", libc::EINVAL),
        ("missing", "b", libc::ENOENT),
        ("a", "missing/b", libc::ENOENT),
        ("a", "/tmp/b", libc::EXDEV),
        ("a/.", "b", libc::EBUSY),
        ("/usr/lib", "b", libc::EXDEV),
    ] {
        n += 1;
        let id = format!("wrong{n}");
        connection.exec(request(&id, &["python3", "-c", RENAME, from, to], Stdio::Journal)).await.unwrap();
        assert_eq!(exit(&connection, &id).await, Exit::Code(0));
        let said = crate::stage::said(&connection, &id, offshoot_sandbox::journal::Kind::Stdout);
        assert_eq!(said.trim(), errno.to_string(), "{from} to {to}");
    }
    good(
        &connection,
        "unharmed",
        "cat a/one full/two plain && test -d empty && ! test -e b && ! ls -A | grep offshoot",
    )
    .await;
    let flags = "import ctypes,os\n\
                 c=ctypes.CDLL(None,use_errno=True)\n\
                 f=lambda a,b,n: c.syscall(316,-100,a,-100,b,n) and ctypes.get_errno()\n\
                 print(f(b'a',b'empty',1),f(b'a',b'full',2),f(b'a',b'b',1),os.listdir('b'))";
    if cfg!(target_arch = "x86_64") {
        let out = good(&connection, "flags", &format!("python3 -c \"{flags}\"")).await;
        assert_eq!(out.trim(), format!("{} {} 0 ['one']", libc::EEXIST, libc::EXDEV));
    }
    connection.down().await.unwrap();
}

#[tokio::test]
async fn an_inner_sandbox_is_not_helped_past_its_own_rules() {
    let stage = Stage::new();
    layer(&stage, &["a/one", "b/two"]);
    layers_made(&stage);
    let connection = stage.up().await;
    if good(&connection, "which", "command -v bwrap || true").await.is_empty() {
        return connection.down().await.unwrap();
    }
    let rename = |from: &str, to: &str| format!("python3 -c 'import os; os.rename(\"{from}\",\"{to}\")'");
    let script = format!("bwrap --ro-bind / / --proc /proc --dev /dev {} 2>&1", rename("a", "a2"));
    let (exit, out, _) = shell(&connection, "read-only", &script).await;
    assert!(exit != Exit::Code(0) && out.contains("Read-only"), "{out}");
    let script = format!("bwrap --bind / / --proc /proc --dev /dev {} 2>&1", rename("a", "a2"));
    let (exit, out, _) = shell(&connection, "own-view", &script).await;
    assert!(exit != Exit::Code(0) && out.contains("cross-device"), "{out}");
    good(&connection, "outside", &format!("{} && cat a2/one", rename("a", "a2"))).await;
    connection.down().await.unwrap();
}

#[tokio::test]
async fn large_trees_move_and_many_at_once() {
    let stage = Stage::new();
    let lower = stage.path("lower");
    for dir in 0..20 {
        let at = lower.join(format!("tree/{dir}"));
        std::fs::create_dir_all(&at).unwrap();
        for file in 0..100 {
            std::fs::write(at.join(file.to_string()), "some text, as source files have it\n".repeat(50))
                .unwrap();
        }
    }
    layers_made(&stage);
    let connection = stage.up().await;
    good(&connection, "large", "python3 -c 'import os; os.rename(\"tree\",\"moved\")'").await;
    assert_eq!(
        good(&connection, "count", "find moved -type f | wc -l; test -e tree || echo gone").await,
        "2000\ngone\n"
    );
    connection.down().await.unwrap();
}

#[tokio::test]
async fn many_moves_at_once_end() {
    let stage = Stage::new();
    for n in 0..20 {
        layer(&stage, &[&format!("small{n}/file")]);
    }
    layers_made(&stage);
    let connection = stage.up().await;
    let many = "for i in $(seq 0 19); do python3 -c \"import os; os.rename('small$i','new$i')\" || echo $i >> failed & done; wait; \
                cat new*/file | wc -c; ls -d small* 2>/dev/null; cat failed";
    let (_, out, err) = shell(&connection, "many", many).await;
    // More at once than there may be workers: those see what they would have seen anyway.
    let failed = err.matches("cross-device").count();
    assert!(failed <= 12, "{out}{err}");
    let chase = "import os,threading\n\
                 os.mkdir('x')\n\
                 def f(a,b):\n  for _ in range(300):\n    try: os.rename(a,b)\n    except OSError: pass\n\
                 t=[threading.Thread(target=f,args=p) for p in (('x','y'),('y','x'),('x','z'),('z','y'))]\n\
                 [u.start() for u in t];[u.join() for u in t]\n\
                 print(len([n for n in 'xyz' if os.path.isdir(n)]))";
    assert_eq!(good(&connection, "chase", &format!("python3 -c \"{chase}\"")).await, "1\n");
    connection.down().await.unwrap();
}

#[tokio::test]
async fn changes_during_a_move_are_kept() {
    let stage = Stage::new();
    let lower = stage.path("lower/tree");
    std::fs::create_dir(&lower).unwrap();
    for file in 0..3000 {
        std::fs::write(lower.join(file.to_string()), "old").unwrap();
    }
    layers_made(&stage);
    let connection = stage.up().await;
    // Writes go to whichever name is there; each must be found afterwards.
    let script = "import os,threading\n\
                  done=threading.Event()\n\
                  wrote=[]\n\
                  def w():\n  n=0\n  while not done.is_set():\n    try:\n      f=os.open(f'tree/{n%3000}',os.O_WRONLY|os.O_TRUNC);os.write(f,f'new {n}'.encode());os.close(f);wrote.append(n)\n\
                  \x20   except FileNotFoundError: pass\n    n+=1\n\
                  t=threading.Thread(target=w);t.start()\n\
                  os.rename('tree','moved')\n\
                  done.set();t.join()\n\
                  last={n%3000:n for n in wrote}\n\
                  lost=[n for k,n in last.items() if open(f'moved/{k}').read()!=f'new {n}']\n\
                  print(len(wrote)>0,len(lost),len(os.listdir('moved')))";
    let request = ExecRequest { ..request("race", &["python3", "-c", script], Stdio::Journal) };
    connection.exec(request).await.unwrap();
    let code = exit(&connection, "race").await;
    let kind = offshoot_sandbox::journal::Kind::Stdout;
    let out = crate::stage::said(&connection, "race", kind);
    assert_eq!(code, Exit::Code(0), "{out}");
    assert_eq!(out.trim(), "True 0 3000", "some were written, none lost");
    connection.down().await.unwrap();
    assert!(Path::new(&stage.path("upper/moved")).exists());
}
