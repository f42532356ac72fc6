//! Windows of more than one lake file: a trace is in one of them, and few spans are written more than once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::blocks::{assert_stored, numbers, read_file, request_of};
use common::{Rng, append, close, compacting, local, memory, objects, open, wait_until};
use meshlake_config::{ByteSize, Config};
use meshlake_storage::Store;
use object_store::ObjectStore;
use tempfile::TempDir;

const TENANT: &str = "default";
const HOUR: Duration = Duration::from_hours(1);

/// Spans of traces of one window, five a trace.
fn traces() -> impl Iterator<Item = [u64; 5]> {
    let traces = (1..).map(|trace| [0, 1, 2, 3, 4].map(|span| trace * 5 + span));
    // Of the first of three hours, with clocks that can be trusted, and not of a trace that several blocks share.
    traces.filter(|spans| spans.iter().all(|span| span / 64 % 3 == 0 && span % 97 != 0 && span % 64 != 0))
}

/// Requests of whole traces, but for a few that go on in the next request.
fn neighbouring(rng: &mut Rng, requests: usize) -> Vec<Vec<u64>> {
    let mut traces = traces();
    let mut all = vec![Vec::new(); requests];
    for request in 0..requests {
        let halved = if request + 1 < requests { 1 + rng.below(5) as usize } else { 0 };
        for (index, spans) in traces.by_ref().take(60 + rng.below(40) as usize).enumerate() {
            let cut = if index < halved { 1 + rng.below(4) as usize } else { spans.len() };
            all[request].extend(&spans[..cut]);
            all.iter_mut().skip(request + 1).take(1).for_each(|next| next.extend(&spans[cut..]));
        }
    }
    all
}

/// Nothing that was replaced goes, so that all that was ever written can be counted.
fn keeping(folder: &Path) -> Config {
    let mut config = compacting(folder, HOUR);
    config.compaction.file_size = ByteSize::bytes(512 << 10);
    config
}

async fn send(store: &Store, requests: &[Vec<u64>]) {
    for spans in requests {
        append(store, request_of(TENANT, spans)).await.unwrap();
    }
}

async fn merge_all(store: &Store) {
    wait_until("all is in the lake", || {
        let snapshot = store.snapshot().unwrap();
        snapshot.live.is_empty() && snapshot.files.iter().all(|file| file.is_in_lake())
    })
    .await;
}

/// In how many of some files each span is.
async fn files_of_spans(files: &dyn ObjectStore, paths: impl IntoIterator<Item = String>) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for path in paths {
        let (_, rows) = read_file(files, &path).await;
        numbers(&rows).into_iter().for_each(|number| *found.entry(number).or_default() += 1);
    }
    found
}

/// In which files of the lake each trace is.
async fn files_of_traces(store: &Store) -> BTreeMap<u64, BTreeSet<String>> {
    let mut found = BTreeMap::<u64, BTreeSet<String>>::new();
    for file in store.snapshot().unwrap().files.iter() {
        let (_, rows) = read_file(store.object_store().as_ref(), &file.path).await;
        for number in numbers(&rows) {
            found.entry(number / 5).or_default().insert(file.path.clone());
        }
    }
    found
}

/// No span is lost or there twice; none was written more than three times. How often each was written on average.
async fn assert_few_rewrites(store: &Store, requests: &[Vec<u64>]) -> f64 {
    let mut sent: Vec<u64> = requests.concat();
    sent.sort_unstable();
    assert_stored(store, TENANT, &sent).await;
    let files = store.object_store().as_ref();
    let written = files_of_spans(files, objects(files, "lake/data").await).await;
    assert!(written.values().all(|times| *times <= 3), "{:?}", written.iter().find(|(_, times)| **times > 3));
    written.values().sum::<usize>() as f64 / sent.len() as f64
}

/// Scenario: a window that grows by many fresh files, with traces whose spans come in two neighbouring ones, is merged while it
/// grows, and the rest after a restart, when it has settled. Guarantee: meanwhile the newest file waits; then each trace is in
/// exactly one file, no span is lost or there twice, and one is written 1.2 times on average at most.
#[tokio::test(flavor = "multi_thread")]
async fn traces_of_a_growing_window_are_whole() {
    for seed in 0..2 {
        let folder = TempDir::new().unwrap();
        let files: Arc<dyn ObjectStore> = memory();
        let requests = neighbouring(&mut Rng(seed), 48);
        let mut config = keeping(folder.path());
        config.compaction.settle = HOUR;
        let store = open(&config, local(), files.clone()).await.unwrap();
        let merged = || store.snapshot().unwrap().files.iter().filter(|file| file.is_in_lake()).count();
        for (round, some) in requests.chunks(requests.len() / 2).enumerate() {
            send(&store, some).await;
            wait_until("what makes a lake file is merged", || merged() > round).await;
        }
        wait_until("it is flushed", || store.snapshot().unwrap().live.is_empty()).await;
        assert!(store.snapshot().unwrap().files.iter().any(|file| !file.is_in_lake()));
        close(store).await;
        config.compaction.settle = Duration::ZERO;
        let store = open(&config, local(), files.clone()).await.unwrap();
        merge_all(&store).await;
        let average = assert_few_rewrites(&store, &requests).await;
        let (traces, paths) = (files_of_traces(&store).await, objects(files.as_ref(), "lake/data").await);
        let carried = paths.iter().filter(|path| path.contains("-carried-")).count();
        println!("seed {seed}: {} files, {carried} of carried traces, each span written {average:.3} times", paths.len());
        assert!(carried >= 2 && paths.len() - carried > carried, "{paths:?}");
        assert!(traces.values().all(|files| files.len() == 1), "{:?}", traces.iter().find(|(_, files)| files.len() > 1));
        assert!(average <= 1.2, "{average}");
        close(store).await;
        assert_eq!(meshlake_storage::check(&config, local(), files).await.unwrap().problems, []);
    }
}

/// Scenario: traces whose spans come in five fresh files one after the other, of which no more than two are merged at once.
/// Guarantee: no span is written more than three times, and each trace is in three files at most.
#[tokio::test(flavor = "multi_thread")]
async fn long_traces_are_not_written_again_and_again() {
    let folder = TempDir::new().unwrap();
    let files: Arc<dyn ObjectStore> = memory();
    let mut all = traces();
    let mut requests = vec![Vec::new(); 20];
    let mut long = Vec::new();
    for first in 0..requests.len() {
        requests[first].extend(all.by_ref().take(40).flatten());
        if first + 5 <= requests.len() {
            let trace = all.next().unwrap();
            requests[first..].iter_mut().zip(trace).for_each(|(request, span)| request.push(span));
            long.push(trace[0] / 5);
        }
    }
    let mut config = keeping(folder.path());
    config.compaction.memory_limit = ByteSize::bytes(1);
    config.compaction.enabled = false;
    let store = open(&config, local(), files.clone()).await.unwrap();
    send(&store, &requests).await;
    close(store).await;
    config.compaction.enabled = true;
    let store = open(&config, local(), files.clone()).await.unwrap();
    merge_all(&store).await;
    assert_few_rewrites(&store, &requests).await;
    let written = objects(files.as_ref(), "lake/data").await;
    assert!(written.iter().filter(|path| path.contains("-carried-")).count() >= 5, "{written:?}");
    let traces = files_of_traces(&store).await;
    assert!(traces.iter().all(|(trace, files)| files.len() == 1 || (long.contains(trace) && files.len() <= 3)), "{traces:?}");
    close(store).await;
    assert_eq!(meshlake_storage::check(&config, local(), files).await.unwrap().problems, []);
}
