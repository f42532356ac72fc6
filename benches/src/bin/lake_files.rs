//! What the number of lake files costs: opening, planning, committing, with few and with many.
//!
//! One real file of the recorded stream is put into the table again and again under other names and times, so that only the number of
//! files differs. Nothing that is measured reads a row.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Parser;
use futures::TryStreamExt;
use meshlake_benches::{LocalStore, recorded};
use meshlake_config::{Config, Tenant};
use meshlake_query::{Engine, TraceId};
use prost::Message;
use serde_json::Value;

/// Milliseconds by the number of lake files
#[derive(Debug, Parser)]
struct Cli {
    /// Recorded stream
    #[arg(default_value = "tests/data/envoy-bookinfo.traces.bin.gz")]
    stream: PathBuf,
    /// Numbers of files
    #[arg(long, value_delimiter = ',', default_value = "200,20000")]
    files: Vec<usize>,
    /// Plans of each kind; the median is printed
    #[arg(long, default_value_t = 201)]
    plans: usize,
    /// Commits
    #[arg(long, default_value_t = 40)]
    commits: usize,
}

fn config(folder: &Path) -> Config {
    let mut config = Config { data_dir: folder.to_owned(), ..Config::default() };
    config.live.flush_age = Duration::from_secs(1);
    config.compaction.interval = Duration::from_millis(10);
    config.compaction.settle = Duration::ZERO;
    config.compaction.cpu_percent = 100;
    // Files seem to be years old.
    config.ingest.clock_past = Duration::from_hours(24 * 3_650);
    config.retention.age = Duration::from_hours(24 * 3_650);
    config
}

/// Takes requests in and waits until they are in the lake.
async fn add(opened: &LocalStore, bodies: &[Bytes]) -> anyhow::Result<()> {
    for body in bodies {
        opened.offer(body.clone())?.await??;
    }
    let began = Instant::now();
    while !opened.is_in_lake()? {
        ensure!(began.elapsed() < Duration::from_secs(60), "the spans are not in the lake after a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Count and sum of the commits so far, seconds.
fn commits(opened: &LocalStore) -> anyhow::Result<(f64, f64)> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &opened.registry)?;
    let number = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).with_context(|| name.to_owned())
    };
    Ok((number("meshlake_lake_commit_seconds_count")?, number("meshlake_lake_commit_seconds_sum")?))
}

/// The last version of the table's log, and its line that adds a file.
fn last_add(store: &Path) -> anyhow::Result<(u64, Value)> {
    let log = store.join("lake/_delta_log");
    let mut versions = Vec::new();
    for entry in fs::read_dir(&log)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        versions.extend(name.strip_suffix(".json").and_then(|number| number.parse::<u64>().ok()));
    }
    versions.sort_unstable();
    for version in versions.iter().rev() {
        for line in fs::read_to_string(log.join(format!("{version:020}.json")))?.lines() {
            let action: Value = serde_json::from_str(line)?;
            if action.get("add").is_some() {
                return Ok((versions[versions.len() - 1], action));
            }
        }
    }
    anyhow::bail!("no file was added to the table")
}

/// Puts the newest file into the table again, `count` times, each of a window of its own.
fn multiply(store: &Path, count: usize) -> anyhow::Result<()> {
    let (version, action) = last_add(store)?;
    let path = action["add"]["path"].as_str().context("path")?.to_owned();
    let name = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".parquet").to_owned();
    let folder = path.trim_end_matches(&format!("{name}.parquet")).to_owned();
    let mut beside = Vec::new();
    for entry in fs::read_dir(store.join("lake/_index"))? {
        let entry = entry?.path();
        let file = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        beside.extend(file.strip_prefix(&format!("{name}.")).map(|extension| (entry.clone(), extension.to_owned())));
    }
    let mut log = fs::File::create(store.join(format!("lake/_delta_log/{:020}.json", version + 1)))?;
    for number in 0..count {
        let copy = format!("copy-{number:06}");
        fs::hard_link(store.join("lake").join(&path), store.join("lake").join(format!("{folder}{copy}.parquet")))?;
        for (file, extension) in &beside {
            fs::hard_link(file, file.with_file_name(format!("{copy}.{extension}")))?;
        }
        let mut action = action.clone();
        action["add"]["path"] = format!("{folder}{copy}.parquet").into();
        for tag in ["meshlake.start_min", "meshlake.start_max", "meshlake.end_max", "meshlake.window"] {
            let micros: i64 = action["add"]["tags"][tag].as_str().context("tags")?.parse()?;
            action["add"]["tags"][tag] = (micros - (number as i64 + 1) * 3_600_000_000).to_string().into();
        }
        writeln!(log, "{action}")?;
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

async fn plans(engine: &Engine, count: usize, since: i64) -> anyhow::Result<(f64, f64)> {
    let tenant = Tenant::default();
    let query =
        format!("explain select count(*) from spans where start_time >= to_timestamp_micros({since}) and service = 'reviews'");
    let (mut sql, mut lookups) = (Vec::new(), Vec::new());
    for number in 0..count {
        let began = Instant::now();
        engine.sql(&tenant, &query).await?.batches.try_collect::<Vec<_>>().await?;
        sql.push(began.elapsed());
        let id = (number as u128 + 1) << 64 | 0x5851_f42d_4c95_7f2d;
        let began = Instant::now();
        engine.trace(&tenant, TraceId(id.to_be_bytes())).await?;
        lookups.push(began.elapsed());
    }
    Ok((median(sql), median(lookups)))
}

async fn measure(cli: &Cli, files: usize, bodies: &[Bytes]) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = config(folder.path());
    let (first, rest) = bodies.split_at(bodies.len() / 2);
    let opened = LocalStore::open(&config).await?;
    add(&opened, first).await?;
    opened.close().await?;
    multiply(&folder.path().join("store"), files)?;
    let began = Instant::now();
    let opened = LocalStore::open(&config).await?;
    let opening = began.elapsed().as_secs_f64() * 1e3;
    let snapshot = opened.store.snapshot()?;
    ensure!(snapshot.files.len() > files, "{} files", snapshot.files.len());
    let newest = snapshot.files.iter().map(|file| file.start_max).max().unwrap_or_default();
    let engine = Engine::new(opened.store.clone(), &config.query)?;
    let (sql, lookup) = plans(&engine, cli.plans, newest - 900_000_000).await?;
    let before = commits(&opened)?;
    for part in rest.chunks(rest.len().div_ceil(cli.commits)) {
        add(&opened, part).await?;
    }
    let after = commits(&opened)?;
    let commit = (after.1 - before.1) / (after.0 - before.0) * 1e3;
    println!(
        "{files} files: open {opening:.0} ms, plan of a query of 15 minutes {sql:.2} ms, lookup of a trace that no file holds {lookup:.3} ms, commit {commit:.2} ms (mean of {})",
        after.0 - before.0
    );
    drop(engine);
    opened.close().await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let bodies: Vec<Bytes> = recorded(&cli.stream)?.into_iter().map(|request| request.encode_to_vec().into()).collect();
    for files in &cli.files {
        measure(&cli, *files, &bodies).await?;
    }
    Ok(())
}
