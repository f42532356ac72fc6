//! `meshlake check`: what a data folder says of itself against what is there.
//!
//! Reads everything and changes nothing. What a crash leaves behind and the next start or compaction removes by itself is
//! said apart from what is wrong. Wrong is what is proven to be: an object store that can't be asked ends the check.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::{FutureExt, TryStreamExt};
use meshlake_config::Config;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::ParquetRecordBatchStreamBuilder;

use crate::commit::Commit;
use crate::disk::Disk;
use crate::journal::Journal;
use crate::lake::{Key, Keys, Lake, LakeFile, Summarizer, Summary, beside};
use crate::promoted::{Promoted, lake_schema};
use crate::reader::FileReader;
use crate::snapshot::SpanFile;
use crate::store::OpenError;
use crate::writer::{Writer, lock};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests in the journal that no file has yet.
    pub journal_requests: u64,
    /// Files that hold spans, fresh and of the lake.
    pub files: u64,
    /// Spans in them.
    pub spans: u64,
    /// What is wrong: acknowledged spans may be gone.
    pub problems: Vec<Problem>,
    /// What a crash left behind, and what goes by itself.
    pub leftovers: Vec<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub(crate) what: Broken,
    why: String,
}

/// What it is wrong with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Broken {
    /// A journal segment.
    Segment(u64),
    /// A file of the commit.
    Fresh { commit: Commit, path: String },
    /// A file of the lake.
    Lake(LakeFile),
    /// What is kept beside a file of the lake, which is whole.
    Beside { file: Arc<SpanFile>, path: Path },
}

impl Problem {
    /// Spans that can't be read because of it, where that is known.
    pub fn spans(&self) -> Option<u64> {
        match &self.what {
            Broken::Segment(_) => None,
            Broken::Fresh { commit, path } => commit.files.iter().find(|file| file.path == *path).map(|file| file.rows),
            Broken::Lake(file) => Some(file.file.rows),
            Broken::Beside { .. } => Some(0),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Broken::Segment(number) => write!(out, "journal segment {number}: {}", self.why),
            Broken::Fresh { path, .. } => write!(out, "{path}: {}", self.why),
            Broken::Lake(file) => write!(out, "{}: {}", file.file.path, self.why),
            Broken::Beside { path, .. } => write!(out, "{path}: {}; queries read the file itself", self.why),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(out, "wrong: {problem}")?;
        }
        for leftover in &self.leftovers {
            writeln!(out, "left over: {leftover}")?;
        }
        let (requests, files, spans) = (self.journal_requests, self.files, self.spans);
        write!(out, "{spans} spans in {files} files, {requests} requests in the journal, {} wrong", self.problems.len())
    }
}

/// Reads a data folder and its object store to the end.
///
/// # Errors
/// If there is no such folder, another process has it, or the folder or the object store can't be read, and be it for a moment. The
/// report has what is wrong with the content, and nothing of which that is not known.
pub async fn check(config: &Config, disk: Arc<dyn Disk>, objects: Arc<dyn ObjectStore>) -> Result<Report, OpenError> {
    let _lock = lock_existing(config)?;
    inspect(config, disk, objects).await
}

/// Locks a data folder that exists. It is not created: who names one that does not exist has mistyped it.
pub(crate) fn lock_existing(config: &Config) -> Result<std::fs::File, OpenError> {
    let folder = &config.data_dir;
    folder.read_dir().map_err(|source| OpenError::Folder { folder: folder.clone(), source })?;
    lock(folder)
}

/// Reads a data folder that is locked.
pub(crate) async fn inspect(config: &Config, disk: Arc<dyn Disk>, objects: Arc<dyn ObjectStore>) -> Result<Report, OpenError> {
    let folder = &config.data_dir;
    let failed = |source| OpenError::Folder { folder: folder.clone(), source };
    let mut report = Report::default();
    let writer = Writer::load(folder, disk.as_ref()).map_err(failed)?;
    let commits: Vec<Commit> = Commit::read_all(objects.as_ref(), None).await?.into_iter().map(|(commit, _)| commit).collect();
    let journal = Journal::open(folder.join("journal"), disk, writer.seed).map_err(failed)?;
    report.journal(&journal, &writer.id, &commits).map_err(failed)?;
    let lake = Lake::open(objects.clone()).await?;
    report.files(&objects, &commits, &lake).await?;
    Ok(report)
}

impl Report {
    fn journal(&mut self, journal: &Journal, writer: &str, commits: &[Commit]) -> std::io::Result<()> {
        let committed: BTreeSet<u64> =
            commits.iter().filter(|commit| commit.writer == writer).map(|commit| commit.generation).collect();
        for number in journal.segments()? {
            let mut reader = match journal.read(number) {
                Ok(reader) => reader,
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    self.problems.push(Problem { what: Broken::Segment(number), why: error.to_string() });
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut requests = 0;
            while reader.next()?.is_some() {
                requests += 1;
            }
            if reader.torn() > 0 {
                self.leftovers.push(format!("journal segment {number}: {} bytes that were never acknowledged", reader.torn()));
            }
            if committed.contains(&number) {
                self.leftovers.push(format!("journal segment {number}: its spans are in files"));
            } else {
                self.journal_requests += requests;
            }
        }
        Ok(())
    }

    async fn files(&mut self, objects: &Arc<dyn ObjectStore>, commits: &[Commit], lake: &Lake) -> Result<(), OpenError> {
        let mut found = BTreeMap::new();
        let promoted = lake.read(|state| state.promotions.list.clone());
        for folder in ["fresh", "lake/data", "lake/_index"] {
            let list = objects.list(Some(&Path::from(folder)));
            found.extend(list.map_ok(|object| (object.location.to_string(), object.size)).try_collect::<Vec<_>>().await?);
        }
        for commit in commits {
            for file in &commit.files {
                let size = found.remove(&file.path);
                if !lake.read(|state| state.covers(&commit.writer, commit.generation, file.window)) {
                    let what = Broken::Fresh { commit: commit.clone(), path: file.path.clone() };
                    self.file(objects, file, size, &[], what).await?;
                } else if size.is_some() {
                    self.leftovers.push(format!("{}: its spans are in the lake", file.path));
                }
            }
        }
        for file in lake.read(|state| state.files.values().cloned().collect::<Vec<_>>()) {
            let size = found.remove(&file.file.path);
            for path in beside::paths(&file.file.path) {
                found.remove(path.as_ref());
            }
            let content = self.file(objects, &file.file, size, &promoted, Broken::Lake(file.clone())).await?;
            if let Some(content) = content {
                self.beside(objects, &file.file, content).await?;
            }
        }
        self.leftovers.extend(found.into_keys().map(|path| format!("{path}: nothing names it")));
        Ok(())
    }

    /// Reads a file; what is in it, if it is whole.
    async fn file(
        &mut self,
        objects: &Arc<dyn ObjectStore>,
        file: &SpanFile,
        size: Option<u64>,
        promoted: &[Promoted],
        what: Broken,
    ) -> Result<Option<Content>, OpenError> {
        self.files += 1;
        self.spans += file.rows;
        let read = match size {
            None => Err(format!("missing, with {} spans", file.rows)),
            Some(size) if size != file.size => Err(format!("{size} bytes, not the {} that were written", file.size)),
            // The Parquet reader panics over some footers.
            Some(_) => match AssertUnwindSafe(read(objects, file, promoted)).catch_unwind().await {
                Ok(Err(source)) if is_failure_of_store(source.as_ref()) => {
                    return Err(OpenError::Unknown { path: file.path.clone(), source });
                }
                Ok(read) => read.map_err(|why| why.to_string()),
                Err(_) => Err("its reader panics".to_owned()),
            },
        };
        Ok(read.map_err(|why| self.problems.push(Problem { what, why })).ok())
    }

    async fn beside(&mut self, objects: &Arc<dyn ObjectStore>, file: &Arc<SpanFile>, content: Content) -> Result<(), OpenError> {
        let mut broken = beside::broken(objects.as_ref(), file, content.summary).await?;
        if content.is_filtered_out {
            broken.push((beside::paths(&file.path)[0].clone(), "it leaves out a trace of the file"));
        }
        self.problems.extend(broken.into_iter().map(|(path, why)| {
            let what = Broken::Beside { file: file.clone(), path };
            Problem { what, why: why.to_owned() }
        }));
        Ok(())
    }
}

/// What is in a file that is whole.
struct Content {
    summary: Option<Summary>,
    /// Whether its trace filter leaves out one of its traces.
    is_filtered_out: bool,
}

/// Whether the object store failed, which proves nothing of a file. That it is not there does.
fn is_failure_of_store(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    let of_store = causes.find_map(|cause| cause.downcast_ref::<object_store::Error>());
    of_store.is_some_and(|error| !matches!(error, object_store::Error::NotFound { .. }))
}

/// Reads every row: as many as were written, and in order.
async fn read(
    objects: &Arc<dyn ObjectStore>,
    file: &SpanFile,
    promoted: &[Promoted],
) -> Result<Content, Box<dyn Error + Send + Sync>> {
    let reader = FileReader::new(objects.clone(), Path::parse(&file.path)?, file.size);
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
    let promoted = promoted.get(..file.promoted.count).ok_or("it has more promoted attributes than the table")?;
    if builder.schema().fields() != lake_schema(promoted).fields() {
        return Err("it has other columns".into());
    }
    let (mut rows, mut last, mut summary, mut is_filtered_out) = (0, None::<Key>, Summarizer::default(), false);
    let mut batches = builder.build()?;
    while let Some(batch) = batches.try_next().await? {
        let Some(end) = batch.num_rows().checked_sub(1) else { continue };
        rows += batch.num_rows() as u64;
        let keys = Keys::new(&batch)?;
        if !keys.are_sorted() || last.is_some_and(|last| keys.is_before(0, &last)) {
            return Err("its spans are not in order".into());
        }
        last = Some(keys.key(end));
        summary.add(&batch)?;
        if let Some(filter) = &file.traces {
            is_filtered_out |= keys.traces().any(|trace| trace.try_into().is_ok_and(|trace| !filter.may_hold(trace)));
        }
    }
    if rows != file.rows {
        return Err(format!("{rows} spans, not the {} that were written", file.rows).into());
    }
    Ok(Content { summary: summary.finish(), is_filtered_out })
}
