//! Times the steps of a task on a repository: `measure REPOSITORY EMPTY-DIRECTORY`. The workspace is a plain directory.
//! Writes a branch and lands it, so give it a clone.

use std::{error::Error, fs, path::Path, process::Command, time::Instant};

use offshoot_git::{
    import::Limits,
    inside::{self, Base},
    land::{LandOptions, land, plan},
    publish::publish,
    repository::{Person, Repository},
    store::Store,
};

fn timed<T>(what: &str, run: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
    let started = Instant::now();
    let value = run()?;
    println!("{what:12} {:>9.1} ms", started.elapsed().as_secs_f64() * 1000.0);
    Ok(value)
}

fn script(dir: &Path, argv: &[String]) -> Result<Vec<u8>, Box<dyn Error>> {
    let out = Command::new(&argv[0]).args(&argv[1..]).current_dir(dir).output()?;
    if out.status.success() { Ok(out.stdout) } else { Err(String::from_utf8_lossy(&out.stderr).into()) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, repo, dir] = &args[..] else { return Err("measure REPOSITORY EMPTY-DIRECTORY".into()) };
    let (dir, branch) = (Path::new(dir), "offshoot/measure");
    let repo = timed("discover", || Ok(Repository::discover(Path::new(repo))?))?;
    let head = timed("head", || Ok(repo.head()?))?;
    let (commit, target) = (head.commit.ok_or("no commit")?, head.branch.ok_or("detached")?);
    timed("dirty", || Ok(repo.dirty()?))?;
    timed("extras", || Ok(repo.extras(&commit)?))?;
    let store = timed("open store", || Ok(Store::open(&dir.join("store.git"), repo.object_format())?))?;
    timed("export", || Ok(store.export(&repo, &commit)?))?;
    timed("again", || Ok(store.export(&repo, &commit)?))?;
    let ws = dir.join("ws");
    fs::create_dir(&ws)?;
    let person = Person { name: "A".into(), email: "a@b".into() };
    let objects = store.objects_dir().to_str().ok_or("path")?.to_owned();
    let base = Base {
        commit: commit.clone(),
        branch: None,
        objects,
        person: person.clone(),
        shallow: store.shallow(),
    };
    timed("base layer", || script(&ws, &inside::base_checkout(&base)))?;
    timed("run files", || {
        for (path, bytes) in inside::run_files(branch, &commit)? {
            let path = ws.join(path);
            fs::create_dir_all(path.parent().ok_or("parent")?)?;
            fs::write(path, bytes)?;
        }
        Ok(())
    })?;
    let status: Vec<String> = ["git", "status", "--porcelain"].map(String::from).into();
    timed("status", || script(&ws, &status))?;
    timed("status", || script(&ws, &status))?;
    for n in 0..3 {
        fs::write(ws.join("a file that nobody has"), format!("{n}\n"))?;
        timed("checkpoint", || script(&ws, &inside::checkpoint(n, "step")))?;
    }
    timed("finish", || script(&ws, &inside::finish(branch, &commit, &person, "left", true)))?;
    let bundle = timed("bundle", || script(&ws, &inside::bundle(repo.object_format(), &commit, branch)))?;
    fs::write(dir.join("bundle"), bundle)?;
    let file = fs::File::open(dir.join("bundle"))?;
    let got = timed("import", || Ok(store.import(&file, "run", &Limits::default())?))?;
    timed("files", || Ok(store.files(&commit, &got.head)?))?;
    timed("diff", || Ok(store.diff(&commit, &got.head, &Default::default())?))?;
    timed("publish", || Ok(publish(&store, &repo, branch, &got.head, None)?))?;
    timed("plan", || Ok(plan(&store, &repo, &got.head, &target)?))?;
    let options = LandOptions { squash: false, message: "Land".into(), author: person };
    let landed = timed("land", || Ok(land(&store, &repo, &got.head, &target, &options)?))?;
    println!("{landed:?}");
    Ok(())
}
