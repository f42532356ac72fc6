//! `meshlake repair`: what `check` proves to be broken is dropped, so that the rest is read.
//!
//! Files are not deleted: what nobody names any more is left for who wants to look at it. A trace filter is made again.

use std::sync::Arc;

use meshlake_config::Config;
use object_store::ObjectStore;

use crate::check::{Broken, Problem, inspect, lock_existing};
use crate::disk::Disk;
use crate::journal::Journal;
use crate::lake::{Change, Lake, LakeFile, TraceFilter, put_filter};
use crate::store::OpenError;
use crate::writer::Writer;

/// Drops what is broken, and returns it.
///
/// # Errors
/// Those of [`crate::check`], or if a change can't be written: what was done until then stays done.
pub async fn repair(config: &Config, disk: Arc<dyn Disk>, objects: Arc<dyn ObjectStore>) -> Result<Vec<Problem>, OpenError> {
    let _lock = lock_existing(config)?;
    let problems = inspect(config, disk.clone(), objects.clone()).await?.problems;
    let failed = |source| OpenError::Folder { folder: config.data_dir.clone(), source };
    let writer = Writer::load(&config.data_dir, disk.as_ref()).map_err(failed)?;
    let journal = Journal::open(config.data_dir.join("journal"), disk, writer.seed).map_err(failed)?;
    let lake = Lake::open(objects.clone()).await?;
    let mut broken: Vec<LakeFile> = Vec::new();
    for problem in &problems {
        match &problem.what {
            Broken::Segment(number) => journal.set_aside(*number).map_err(failed)?,
            Broken::Lake(file) => broken.push(file.clone()),
            Broken::Filter(_) => {}
            Broken::Fresh { commit, .. } => {
                let is_broken = |path: &String| {
                    problems.iter().any(|other| matches!(&other.what, Broken::Fresh { path: broken, .. } if broken == path))
                };
                let mut rest = commit.clone();
                rest.files.retain(|file| !is_broken(&file.path));
                rest.replace(objects.as_ref()).await?;
            }
        }
    }
    for problem in &problems {
        if let Broken::Filter(file) = &problem.what
            && !broken.iter().any(|other| other.file.path == file.path)
            && let Some(filter) = TraceFilter::of_file(&objects, file).await?
        {
            put_filter(objects.as_ref(), &file.path, &filter).await?;
        }
    }
    if !broken.is_empty() {
        lake.commit(&Change { remove: broken, deletes: true, ..Change::default() }).await?;
    }
    Ok(problems)
}
