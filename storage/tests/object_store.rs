//! What the store needs of an object store, checked on each: memory, a folder, and an S3 server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use common::blocks::stored;
use common::faulty::{FaultyDisk, Operation};
use common::lossy::LossyDisk;
use common::{append_blocks, close, eager, local, memory, open, wait_until};
use futures::TryStreamExt;
use futures::future::join_all;
use meshlake_config::{ByteSize, Config, Secret};
use meshlake_storage::{FolderStore, open_object_store};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tempfile::TempDir;

async fn create(store: &dyn ObjectStore, path: &str, payload: impl Into<PutPayload>) -> object_store::Result<()> {
    store.put_opts(&path.into(), payload.into(), PutMode::Create.into()).await.map(drop)
}

async fn overwrite(store: &dyn ObjectStore, path: &str, payload: &'static str) {
    store.put_opts(&path.into(), payload.into(), PutMode::Overwrite.into()).await.unwrap();
}

async fn read(store: &dyn ObjectStore, path: &str) -> Bytes {
    store.get(&path.into()).await.unwrap().bytes().await.unwrap()
}

async fn list(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    let objects = store.list(Some(&prefix.into())).map_ok(|object| object.location.to_string());
    let mut paths: Vec<String> = objects.try_collect().await.unwrap();
    paths.sort();
    paths
}

/// Everything below, in an object store that is empty.
async fn conforms(store: Arc<dyn ObjectStore>) {
    created_once(&store).await;
    overwritten(&store).await;
    read_in_parts(&store).await;
    listed_by_prefix(&store).await;
    deleted(&store).await;
    copied(&store).await;
    odd_names(&store).await;
    of_any_size(&store).await;
    in_turns(&store).await;
    one_of_many_creates(&store).await;
}

/// Scenario: an object is created, and created again. Guarantee: the second fails as `AlreadyExists`, the first stays.
async fn created_once(store: &dyn ObjectStore) {
    create(store, "once/a.json", "first").await.unwrap();
    let again = create(store, "once/a.json", "second").await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(read(store, "once/a.json").await, "first");
}

/// Scenario: an object is put twice. Guarantee: the last content is read, at its length.
async fn overwritten(store: &dyn ObjectStore) {
    overwrite(store, "over/a", "a long first content").await;
    overwrite(store, "over/a", "second").await;
    assert_eq!(read(store, "over/a").await, "second");
    assert_eq!(store.head(&"over/a".into()).await.unwrap().size, 6);
    assert_eq!(list(store, "over").await, ["over/a"]);
}

/// Scenario: parts of an object are read. Guarantee: they are the bytes asked for.
async fn read_in_parts(store: &dyn ObjectStore) {
    overwrite(store, "parts/a", "0123456789").await;
    let path = Path::from("parts/a");
    assert_eq!(store.get_range(&path, 2..5).await.unwrap(), "234");
    assert_eq!(store.get_ranges(&path, &[0..1, 8..10, 4..6]).await.unwrap(), ["0", "89", "45"]);
}

/// Scenario: objects in nested folders. Guarantee: a prefix lists what is under it, by whole names, and nothing lists as
/// nothing.
async fn listed_by_prefix(store: &dyn ObjectStore) {
    for path in ["list/a/1", "list/a/b/2", "list/ab/3"] {
        overwrite(store, path, "x").await;
    }
    assert_eq!(list(store, "list").await, ["list/a/1", "list/a/b/2", "list/ab/3"]);
    assert_eq!(list(store, "list/a").await, ["list/a/1", "list/a/b/2"]);
    assert_eq!(list(store, "list/none").await, [""; 0]);
}

/// Scenario: an object is deleted. Guarantee: it is neither listed nor read, and can be created again.
async fn deleted(store: &dyn ObjectStore) {
    create(store, "gone/a", "x").await.unwrap();
    store.delete(&"gone/a".into()).await.unwrap();
    let missing = store.get(&"gone/a".into()).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    assert_eq!(list(store, "gone").await, [""; 0]);
    create(store, "gone/a", "y").await.unwrap();
}

/// Scenario: an object is copied, twice, and goes; one is copied that is not there. Guarantee: the copy stays as it was, and nothing is
/// listed beside it; the other is missing.
async fn copied(store: &dyn ObjectStore) {
    create(store, "copy/a", "x").await.unwrap();
    let (from, to) = (Path::from("copy/a"), Path::from("copied/deep/a"));
    for _ in 0..2 {
        store.copy(&from, &to).await.unwrap();
    }
    store.delete(&from).await.unwrap();
    assert_eq!(read(store, "copied/deep/a").await, "x");
    assert_eq!((list(store, "copy").await, list(store, "copied").await), (vec![], vec!["copied/deep/a".to_owned()]));
    let missing = store.copy(&from, &"copied/b".into()).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    assert_eq!(list(store, "copied").await, ["copied/deep/a"]);
}

/// Scenario: names with spaces, dots, signs of URLs and shells, and other scripts. Guarantee: they are kept as they are.
async fn odd_names(store: &dyn ObjectStore) {
    let names = ["a b", "ü", "日本", "a+b", "a=b&c", "50%", "a#b", "(x)'!*", ".hidden", "a.b.", "x~y", "q?r", "-"];
    let paths: Vec<String> = names.iter().map(|name| Path::from("odd").join(*name).to_string()).collect();
    for path in &paths {
        let path = Path::parse(path).unwrap();
        store.put_opts(&path, path.to_string().into(), PutMode::Create.into()).await.unwrap();
    }
    let found: HashSet<String> = list(store, "odd").await.into_iter().collect();
    assert_eq!(found, paths.iter().cloned().collect());
    for path in &paths {
        let content = store.get(&Path::parse(path).unwrap()).await.unwrap().bytes().await.unwrap();
        assert_eq!(content, path.as_bytes());
    }
}

/// Scenario: an empty object, and one of many megabytes in chunks. Guarantee: both read back.
async fn of_any_size(store: &dyn ObjectStore) {
    create(store, "size/empty", "").await.unwrap();
    assert_eq!(read(store, "size/empty").await, "");
    let chunks: Vec<Bytes> = (0..9u8).map(|chunk| Bytes::from(vec![chunk; (1 << 20) + usize::from(chunk)])).collect();
    create(store, "size/large", PutPayload::from_iter(chunks.clone())).await.unwrap();
    assert_eq!(read(store, "size/large").await, chunks.concat());
}

/// Scenario: one object is put in parts, another one is given up. Guarantee: the first is not there before its end, and whole from
/// then on; nothing is listed of the second.
async fn in_turns(store: &dyn ObjectStore) {
    // S3 takes none smaller, but the last.
    let parts = [vec![1u8; 5 << 20], vec![2u8; 5 << 20], b"end".to_vec()];
    let mut upload = store.put_multipart(&"turns/a".into()).await.unwrap();
    let mut given_up = store.put_multipart(&"turns/b".into()).await.unwrap();
    for part in &parts {
        upload.put_part(part.clone().into()).await.unwrap();
    }
    given_up.put_part(parts[0].clone().into()).await.unwrap();
    assert_eq!(list(store, "turns").await, [""; 0]);
    upload.complete().await.unwrap();
    given_up.abort().await.unwrap();
    assert_eq!(read(store, "turns/a").await, parts.concat());
    assert_eq!(list(store, "turns").await, ["turns/a"]);
}

/// Scenario: many create one object at once. Guarantee: what is there is the whole content of one that succeeded.
/// The S3 server of the tests checks and creates in two steps, so that more than one may; a real one lets one.
async fn one_of_many_creates(store: &Arc<dyn ObjectStore>) {
    let contents: Vec<String> = (0..8).map(|writer| format!("{writer}").repeat(10_000)).collect();
    let creates = contents.iter().map(|content| {
        let (store, content) = (store.clone(), content.clone());
        tokio::spawn(async move { create(store.as_ref(), "race/a", content).await })
    });
    let created: Vec<bool> = join_all(creates).await.into_iter().map(|created| created.unwrap().is_ok()).collect();
    let found = read(store.as_ref(), "race/a").await;
    assert!(contents.iter().zip(&created).any(|(content, created)| *created && found == content.as_bytes()));
    assert_eq!(list(store.as_ref(), "race").await, ["race/a"]);
}

/// Scenario: a store appends, flushes, and is opened again. Guarantee: its spans are in files of the object store, each once.
async fn keeps_spans(mut config: Config, objects: Arc<dyn ObjectStore>) {
    let store = open(&config, local(), objects.clone()).await.unwrap();
    append_blocks(&store, 0..20).await;
    assert_eq!(stored(&store).await, (0..20).collect::<Vec<_>>());
    close(store).await;

    config.live.flush_size = ByteSize::bytes(0);
    let store = open(&config, local(), objects).await.unwrap();
    assert!(store.snapshot().unwrap().live.is_empty());
    append_blocks(&store, 20..30).await;
    wait_until("flushed", || store.snapshot().unwrap().live.is_empty()).await;
    assert_eq!(stored(&store).await, (0..30).collect::<Vec<_>>());
    close(store).await;
}

/// Starts an S3 server over `folder`, and returns settings that lead to it, under a prefix of a bucket.
async fn s3(folder: &std::path::Path) -> Config {
    let root = folder.join("s3");
    std::fs::create_dir_all(root.join("bucket")).unwrap();
    let address = meshlake_s3_server::start(&root).await.unwrap();
    let mut config = common::config(folder);
    config.storage.url = "s3://bucket/some/prefix".to_owned();
    config.storage.s3.endpoint = format!("http://{address}");
    config.storage.s3.allow_http = true;
    config.storage.s3.region = "us-east-1".to_owned();
    config.storage.s3.access_key_id = meshlake_s3_server::ACCESS_KEY.to_owned();
    config.storage.s3.secret_access_key = Secret::new(meshlake_s3_server::SECRET_KEY);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    let folder = TempDir::new().unwrap();
    conforms(memory()).await;
    keeps_spans(common::config(folder.path()), memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_folder() {
    let folder = TempDir::new().unwrap();
    let mut config = common::config(folder.path());
    config.storage.url = format!("file://{}/objects of mine", folder.path().display());
    let objects = open_object_store(&config, local()).unwrap();
    conforms(objects.clone()).await;
    keeps_spans(config, objects).await;
    assert!(folder.path().join("objects of mine/commits").is_dir());
    let named = std::fs::read_dir(folder.path().join("objects of mine/copied/deep")).unwrap();
    assert_eq!(named.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["a"], "no staged name is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket() {
    let folder = TempDir::new().unwrap();
    let config = s3(folder.path()).await;
    let objects = open_object_store(&config, local()).unwrap();
    conforms(objects.clone()).await;
    keeps_spans(config, objects).await;
    assert!(folder.path().join("s3/bucket/some/prefix/commits").is_dir());
}

/// Scenario: no object store is named. Guarantee: it is the folder `store` in the data folder.
#[tokio::test(flavor = "multi_thread")]
async fn in_the_data_folder() {
    let folder = TempDir::new().unwrap();
    let config = eager(folder.path());
    create(open_object_store(&config, local()).unwrap().as_ref(), "a/b", "x").await.unwrap();
    assert!(config.data_dir.join("store/a/b").is_file());
}

/// Scenario: a process died while it put an object; another puts the same object. Guarantee: what it left is not listed, and
/// in nobody's way.
#[tokio::test]
async fn half_written_objects_are_not_listed() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::fs::write(folder.path().join("a/b.parquet#0"), "half").unwrap();
    let store = FolderStore::open(folder.path(), local()).unwrap();
    assert_eq!(list(&store, "a").await, [""; 0]);
    create(&store, "a/b.parquet", "whole").await.unwrap();
    assert_eq!(list(&store, "a").await, ["a/b.parquet"]);
    assert_eq!(read(&store, "a/b.parquet").await, "whole");
}

/// Scenario: an object is named, but syncing its folder fails, so that its put does; the next put finds the name taken.
/// Guarantee: from then on it survives power loss, for whoever gets `AlreadyExists` takes it for stored (P1).
#[tokio::test]
async fn what_exists_survives_power_loss() {
    for seed in 0..20 {
        let lossy = LossyDisk::new(seed);
        let faulty = FaultyDisk::over(lossy.clone());
        let store = FolderStore::open(&lossy.root().join("store"), Arc::new(faulty.clone())).unwrap();
        create(&store, "commits/a", "x").await.unwrap();
        faulty.fail(Operation::SyncDir, "commits");
        assert!(create(&store, "commits/b", "y").await.is_err());
        assert!(matches!(create(&store, "commits/b", "y").await, Err(Error::AlreadyExists { .. })));
        assert_eq!(faulty.left(), 0);
        let image = lossy.after_power_loss();
        let store = FolderStore::open(&image.root().join("store"), Arc::new(image.clone())).unwrap();
        assert_eq!(read(&store, "commits/b").await, "y");
    }
}
