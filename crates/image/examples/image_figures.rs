//! How long an image takes to get, and to be found again: `image_figures REFERENCE [DIRECTORY]`.
//!
//! Prints what it does and the directories of the layers, the top one first. `OFFSHOOT_FIGURES_OWNER=UID` gives files
//! to somebody else, as a root daemon does.

use std::{error::Error, path::PathBuf, time::Instant};

use offshoot_image::{Images, Owner, Reference};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let reference: Reference = arguments.next().ok_or("which image?")?.parse()?;
    let scratch = tempfile::tempdir()?;
    let root = arguments.next().map_or_else(|| scratch.path().join("images"), PathBuf::from);
    let uid = std::env::var("OFFSHOOT_FIGURES_OWNER").ok().and_then(|it| it.parse().ok());
    let images = Images::open(&root, uid.map(|uid| Owner { uid, gid: uid }))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let since = Instant::now();
        let image = images.get(&reference, &|text| println!("{:6.0} ms  {text}", ms(since))).await?;
        println!("{:6.0} ms  got {} in {} layers", ms(since), image.digest, image.layers.len());
        let mut times = Vec::new();
        for _ in 0..101 {
            let since = Instant::now();
            images.get(&reference, &|_| {}).await?;
            times.push(ms(since));
        }
        times.sort_by(f64::total_cmp);
        println!("{:.3} ms  to find it again (median of 101; the slowest took {:.3})", times[50], times[100]);
        image.layers.iter().for_each(|layer| println!("{}", layer.display()));
        Ok(())
    })
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
