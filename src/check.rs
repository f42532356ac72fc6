//! `meshlake check` reads the data folder and says what is wrong with it, `meshlake repair` drops that.

use std::sync::Arc;

use meshlake_config::Config;
use meshlake_storage::{LocalDisk, Problem};

use crate::failure::Failure;
use crate::server::{open_objects, rollups, runtime};

pub(crate) fn check(config: &Config) -> Result<(), Failure> {
    let disk = Arc::new(LocalDisk);
    let report = runtime("check", 1)?.block_on(async {
        let objects = open_objects(config, disk.clone())?;
        Ok::<_, Failure>(meshlake_storage::check(config, disk, objects).await?)
    })?;
    println!("{report}");
    if report.problems.is_empty() { Ok(()) } else { Err(Failure::Damaged(report.problems.len())) }
}

pub(crate) fn repair(config: &Config) -> Result<(), Failure> {
    let disk = Arc::new(LocalDisk);
    let dropped = runtime("repair", 1)?.block_on(async {
        let objects = open_objects(config, disk.clone())?;
        let rollups = rollups(config, objects.clone())?;
        Ok::<_, Failure>(meshlake_storage::repair(config, disk, objects, rollups).await?)
    })?;
    for problem in &dropped {
        println!("repaired: {problem}");
    }
    let spans: u64 = dropped.iter().filter_map(Problem::spans).sum();
    println!("{} things repaired, {spans} spans dropped", dropped.len());
    Ok(())
}
