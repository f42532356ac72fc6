//! The sums of files, in memory: those that are kept beside files, and those that are not.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::error::Result;
use meshlake_config::Tenant;
use meshlake_hops::rollup::{Outline, Rollup};
use meshlake_hops::span_rollup::SpanRollup;
use meshlake_hops::trace_summary::TraceOutline;
use meshlake_storage::{Files, Sections as Stored, SectionsKind, SpanFile};
use object_store::ObjectStore;
use tokio::sync::{Mutex, OnceCell};

use super::correct::Places;
use super::kept::KeptSums;
use super::live::LiveSums;
use super::made::{Made, Making};
use super::sections::Sections;
use super::writer::TraceSums;
use crate::file_summaries::{Beside, FileSummaries};
use crate::hops::SPAN_COLUMNS;
use crate::trace_id::TraceId;

/// A rollup that is kept beside a file: its parts, and where the rest is.
pub(crate) struct Opened {
    pub(crate) outline: Outline,
    pub(crate) sections: Stored,
}

impl Beside for Opened {
    async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Self> {
        let (sections, outline) = Stored::open(SectionsKind::Rollup, store, file).await?;
        Some(Opened { outline: Outline::decode(&outline).ok()?, sections })
    }

    fn size(&self) -> usize {
        self.outline.bytes() + self.sections.bytes()
    }
}

/// The summaries of traces that are kept beside a file: which trace is in which section.
pub(crate) struct OpenedTraces {
    pub(crate) outline: TraceOutline,
    pub(crate) sections: Stored,
}

impl Beside for OpenedTraces {
    async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Self> {
        let (sections, outline) = Stored::open(SectionsKind::TraceSummaries, store, file).await?;
        Some(OpenedTraces { outline: TraceOutline::decode(&outline).ok()?, sections })
    }

    fn size(&self) -> usize {
        self.outline.bytes() + self.sections.bytes()
    }
}

/// What sums are made of: a file of a tenant, and the part of its rollup that does not hold any more, if that is what is made.
type Of = (Tenant, String, Option<usize>);

/// The sums of a file's spans, made once.
type MadeSpans = OnceCell<Arc<SpanRollup>>;

/// The sums of files.
pub(crate) struct FileRollups {
    pub(crate) opened: FileSummaries<Opened>,
    pub(crate) traces: FileSummaries<OpenedTraces>,
    pub(crate) sections: Sections,
    pub(crate) kept: KeptSums,
    pub(crate) live: LiveSums,
    made: Making<Of, Mutex<Made>>,
    spans: Making<(Tenant, String), MadeSpans>,
    paths: parking_lot::Mutex<(Arc<Files>, Arc<HashSet<String>>)>,
}

impl FileRollups {
    /// With at most so many bytes for what is kept beside files, and for sums of it.
    pub(crate) fn new(store: &Arc<dyn ObjectStore>, limit: usize) -> FileRollups {
        let eighth = limit / 8;
        FileRollups {
            opened: FileSummaries::new(store.clone(), eighth),
            traces: FileSummaries::new(store.clone(), eighth / 2),
            sections: Sections::new(store.clone(), 5 * eighth / 2),
            kept: KeptSums::new(eighth),
            live: LiveSums::default(),
            made: Making::new(2 * eighth),
            spans: Making::new(eighth),
            paths: parking_lot::Mutex::default(),
        }
    }

    /// The paths of all files of a snapshot.
    pub(crate) fn paths(&self, files: &Arc<Files>) -> Arc<HashSet<String>> {
        let mut known = self.paths.lock();
        if !Arc::ptr_eq(&known.0, files) {
            *known = (files.clone(), Arc::new(files.iter().map(|file| file.path.clone()).collect()));
        }
        known.1.clone()
    }

    /// The sums of a file without a rollup, with its minutes, and what corrects them where the files `before` have spans of the
    /// same traces.
    pub(crate) async fn of_file(
        &self,
        places: &Places,
        file: &Arc<SpanFile>,
        before: &[Arc<SpanFile>],
    ) -> Result<[Arc<Rollup>; 2]> {
        let of = (places.tenant.clone(), file.path.clone(), None);
        let made = self.made.get(&of);
        let mut made = made.lock().await;
        let alone = match &made.alone {
            Some(alone) => alone.clone(),
            None => {
                let mut sums = sums(places, file).await?;
                made.ids = sums.ids;
                made.alone.insert(Arc::new(sums.builder.finish())).clone()
            }
        };
        let corrections = made.corrections(places, &places.files([file.clone()]), before).await?;
        self.made.weigh(&of, made.bytes());
        Ok([alone, corrections])
    }

    /// What takes the place of a part of a file's rollup that does not hold any more.
    pub(crate) async fn of_part(
        &self,
        places: &Places,
        file: &Arc<SpanFile>,
        (number, traces): (usize, &[[u8; 16]]),
        before: &[Arc<SpanFile>],
    ) -> Result<Arc<Rollup>> {
        let of = (places.tenant.clone(), file.path.clone(), Some(number));
        let made = self.made.get(&of);
        let mut made = made.lock().await;
        made.ids = traces.iter().map(|id| TraceId(*id)).collect();
        let corrections = made.corrections(places, &places.files([file.clone()]), before).await?;
        self.made.weigh(&of, made.bytes());
        Ok(corrections)
    }

    /// The sums of the spans of a file that has none beside it, which `make` gives.
    pub(crate) async fn spans_of(
        &self,
        tenant: &Tenant,
        file: &SpanFile,
        make: impl Future<Output = Result<Arc<SpanRollup>>>,
    ) -> Result<Arc<SpanRollup>> {
        let of = (tenant.clone(), file.path.clone());
        let rollup = self.spans.get(&of).get_or_try_init(|| make).await?.clone();
        self.spans.weigh(&of, rollup.bytes());
        Ok(rollup)
    }

    /// Forgets what was made of files that are not there any more.
    pub(crate) fn forget(&self, paths: &HashSet<String>) {
        self.made.retain(|(_, path, _)| paths.contains(path));
        self.spans.retain(|(_, path)| paths.contains(path));
    }
}

/// The sums of a file's spans of the tenant.
async fn sums(places: &Places, file: &Arc<SpanFile>) -> Result<TraceSums> {
    let mut sums = TraceSums::default();
    places.lookups.scan(file, &places.tenant, &places.promotions, SPAN_COLUMNS, |rows| sums.add(&rows)).await?;
    sums.sum()?;
    Ok(sums)
}
