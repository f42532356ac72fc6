//! `meshlake check`: reads the data folder and says what is wrong with it.

use std::sync::Arc;

use meshlake_config::Config;
use meshlake_storage::LocalDisk;

use crate::failure::Failure;
use crate::server::{open_objects, runtime};

pub(crate) fn run(config: &Config) -> Result<(), Failure> {
    let disk = Arc::new(LocalDisk);
    let report = runtime("check", 1)?.block_on(async {
        let objects = open_objects(config, disk.clone())?;
        Ok::<_, Failure>(meshlake_storage::check(config, disk, objects).await?)
    })?;
    println!("{report}");
    if report.problems.is_empty() { Ok(()) } else { Err(Failure::Damaged(report.problems.len())) }
}
