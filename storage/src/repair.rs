//! `meshlake repair`: what `check` proves to be broken is dropped, so that the rest is read.
//!
//! What is dropped is kept for who wants to look at it: a file under `broken/` in the object store, a journal segment under another
//! name. It is there before the table or the commit record forgets the file, which is deleted last: whenever this is killed, the
//! next repair goes on. What is kept beside a lake file is made again.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshlake_config::Config;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::check::{Broken, Problem, inspect, lock_existing};
use crate::commit::Commit;
use crate::disk::Disk;
use crate::journal::Journal;
use crate::lake::{Change, Lake, LakeError, LakeFile, Rollups, beside, delete};
use crate::snapshot::SpanFile;
use crate::store::OpenError;
use crate::writer::Writer;

/// Where files are kept that were dropped, under their paths.
const FOLDER: &str = "broken";

/// Drops what is broken, makes again what is broken beside files, and returns what it dropped and made. Nothing else may run on the
/// object store.
///
/// # Errors
/// Those of [`crate::check`], or if a change can't be written: what was done until then stays done.
pub async fn repair(
    config: &Config,
    disk: Arc<dyn Disk>,
    objects: Arc<dyn ObjectStore>,
    rollups: Arc<dyn Rollups>,
) -> Result<Vec<Problem>, OpenError> {
    let _lock = lock_existing(config)?;
    let mut problems = inspect(config, disk.clone(), objects.clone()).await?.problems;
    let failed = |source| OpenError::Folder { folder: config.data_dir.clone(), source };
    let writer = Writer::load(&config.data_dir, disk.as_ref()).map_err(failed)?;
    let journal = Journal::open(config.data_dir.join("journal"), disk, writer.seed).map_err(failed)?;
    for problem in &problems {
        match &problem.what {
            Broken::Segment(number) => journal.set_aside(*number).map_err(failed)?,
            Broken::Fresh { path, .. } => set_aside(objects.as_ref(), path).await?,
            Broken::Lake(file) => set_aside(objects.as_ref(), &file.file.path).await?,
            Broken::Beside { .. } => {}
        }
    }
    drop_fresh(objects.as_ref(), &problems).await?;
    let lake = Lake::open(objects.clone()).await?;
    drop_lake(objects.as_ref(), &lake, &problems).await?;
    let failed = remake(&objects, &lake, rollups.as_ref(), &problems).await?;
    problems.retain(|problem| !matches!(&problem.what, Broken::Beside { file, .. } if failed.contains(&file.path)));
    Ok(problems)
}

/// Copies a file that is broken to where it stays, if it is there.
async fn set_aside(objects: &dyn ObjectStore, path: &str) -> Result<(), OpenError> {
    match objects.copy(&Path::from(path), &Path::from(format!("{FOLDER}/{path}"))).await {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        copied => Ok(copied?),
    }
}

/// Takes broken files out of their commit records.
async fn drop_fresh(objects: &dyn ObjectStore, problems: &[Problem]) -> Result<(), OpenError> {
    let mut rest = BTreeMap::<(&str, u64), Commit>::new();
    for problem in problems {
        if let Broken::Fresh { commit, path } = &problem.what {
            let rest = rest.entry((commit.writer.as_str(), commit.generation)).or_insert_with(|| commit.clone());
            rest.files.retain(|file| file.path != *path);
        }
    }
    for commit in rest.values() {
        commit.replace(objects).await?;
    }
    for problem in problems {
        if let Broken::Fresh { path, .. } = &problem.what {
            delete(objects, path).await;
        }
    }
    Ok(())
}

/// Takes broken files out of the table.
async fn drop_lake(objects: &dyn ObjectStore, lake: &Lake, problems: &[Problem]) -> Result<(), LakeError> {
    let broken = problems.iter().filter_map(|problem| match &problem.what {
        Broken::Lake(file) => Some(file.clone()),
        _ => None,
    });
    let broken: Vec<LakeFile> = broken.collect();
    if broken.is_empty() {
        return Ok(());
    }
    lake.commit(&Change { remove: broken.clone(), deletes: true, ..Change::default() }).await?;
    for file in broken {
        delete(objects, &file.file.path).await;
        for path in beside::paths(&file.file.path) {
            delete(objects, path.as_ref()).await;
        }
    }
    Ok(())
}

/// Makes again what is kept beside files of which some of it is broken. Returns the files of which not all could be made.
async fn remake(
    objects: &Arc<dyn ObjectStore>,
    lake: &Lake,
    rollups: &dyn Rollups,
    problems: &[Problem],
) -> Result<Vec<String>, LakeError> {
    let mut files = BTreeMap::<&str, &SpanFile>::new();
    for problem in problems {
        if let Broken::Beside { file, .. } = &problem.what {
            files.insert(&file.path, file);
        }
    }
    let (promoted, others) = lake.read(|state| {
        let files: Vec<Arc<SpanFile>> = state.files.values().map(|file| file.file.clone()).collect();
        (state.promotions.list.clone(), files)
    });
    let mut failed = Vec::new();
    for (path, file) in files {
        if !beside::remake(objects, file, &promoted, &others, rollups).await? {
            failed.push(path.to_owned());
        }
    }
    Ok(failed)
}
