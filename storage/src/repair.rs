//! `meshlake repair`: what `check` proves to be broken is dropped, so that the rest is read.
//!
//! Files are not deleted: what nobody names any more is left for who wants to look at it. A trace filter is made again.

use std::sync::Arc;

use futures::TryStreamExt;
use meshlake_config::Config;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use crate::check::{Broken, Problem, inspect, lock_existing};
use crate::disk::Disk;
use crate::journal::Journal;
use crate::lake::{Change, Lake, LakeError, LakeFile, TraceFilter, key, put_filter};
use crate::reader::FileReader;
use crate::snapshot::SpanFile;
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
            && let Some(filter) = filter(&objects, file).await?
        {
            put_filter(objects.as_ref(), &file.path, &filter).await?;
        }
    }
    if !broken.is_empty() {
        lake.commit(&Change { remove: broken, deletes: true, ..Change::default() }).await?;
    }
    Ok(problems)
}

async fn filter(objects: &Arc<dyn ObjectStore>, file: &SpanFile) -> Result<Option<TraceFilter>, LakeError> {
    let path = Path::parse(&file.path).map_err(object_store::Error::from)?;
    let builder = ParquetRecordBatchStreamBuilder::new(FileReader::new(objects.clone(), path, file.size)).await?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["trace_id"]);
    let mut batches = builder.with_projection(mask).build()?;
    let mut keys = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        let traces = batch.columns().first().and_then(|column| arrow::array::AsArray::as_fixed_size_binary_opt(column.as_ref()));
        keys.extend(traces.into_iter().flatten().flatten().map(key));
    }
    Ok(TraceFilter::new(keys))
}
