//! `check` finds what is broken, `repair` drops exactly that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{append_blocks, close, compacting, config, local, open, wait_until};
use meshlake_config::Config;
use meshlake_storage::{Report, check, open_object_store, repair};
use tempfile::TempDir;

/// The files below a folder whose names end so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir().into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_str().unwrap().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

async fn checked(config: &Config) -> Report {
    check(config, local(), open_object_store(config, local()).unwrap()).await.unwrap()
}

/// A closed folder with lake files, one fresh file for each of ten blocks, and nothing wrong.
async fn filled(folder: &Path) -> Config {
    let config = config(folder);
    let objects = open_object_store(&config, local()).unwrap();
    let store = open(&compacting(folder, Duration::ZERO), local(), objects.clone()).await.unwrap();
    append_blocks(&store, 0..20).await;
    let lake = config.data_dir.join("store/lake/data");
    wait_until("in the lake", || !files(&lake, ".parquet").is_empty() && store.snapshot().unwrap().live.is_empty()).await;
    close(store).await;
    for block in 20..30 {
        let store = open(&config, local(), objects.clone()).await.unwrap();
        append_blocks(&store, block..block + 1).await;
        close(store).await;
    }
    config
}

/// Scenario: a lake file is cut short, a fresh file is gone, a trace filter is garbage, and so is a journal segment. Guarantee:
/// `check` names each and nothing else; `repair` drops the two files and the segment, makes the filter again, and what it left
/// is whole and readable.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_is_found_and_dropped() {
    let folder = TempDir::new().unwrap();
    let config = filled(folder.path()).await;
    let sound = checked(&config).await;
    assert!(sound.problems.is_empty(), "{sound}");

    let store = config.data_dir.join("store");
    let lake = files(&store.join("lake/data"), ".parquet");
    let cut = lake.first().unwrap();
    fs::File::options().write(true).open(cut).unwrap().set_len(100).unwrap();
    let gone = files(&store.join("fresh"), ".parquet").pop().unwrap();
    fs::remove_file(&gone).unwrap();
    let filter = files(&store.join("lake/_index"), ".traces").pop().unwrap();
    fs::write(&filter, "x").unwrap();
    let segment = config.data_dir.join("journal/0000000077.journal");
    fs::write(&segment, "not a journal, and longer than its header").unwrap();

    let report = checked(&config).await;
    let said: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    for expected in [name(cut), name(&gone), name(&filter), "segment 77".to_owned()] {
        assert!(said.iter().any(|line| line.contains(&expected)), "{expected}: {said:?}");
    }
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!(checked(&config).await, report, "check changes nothing");

    let objects = open_object_store(&config, local()).unwrap();
    let dropped = repair(&config, local(), objects.clone()).await.unwrap();
    assert_eq!(dropped, report.problems);
    let lost: u64 = dropped.iter().filter_map(meshlake_storage::Problem::spans).sum();
    let after = checked(&config).await;
    assert!(after.problems.is_empty(), "{after}");
    assert_eq!(after.spans, sound.spans - lost);
    let store = open(&config, local(), objects).await.unwrap();
    let snapshot = store.snapshot().unwrap();
    let readable: usize = snapshot.files.iter().map(|file| file.rows as usize).sum();
    assert_eq!(readable as u64, after.spans);
    close(store).await;
}
