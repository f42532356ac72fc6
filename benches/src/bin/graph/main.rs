//! What the service graph costs: builds a store of a mesh's history, and measures the questions about it.
//!
//! Both go straight to the store in this process, so that nothing of the network or of JSON is in a figure.

mod build;
mod feed;
mod files;
mod measure;
mod timings;

use std::{path::Path, time::Duration};

use clap::{Parser, Subcommand};
use meshlake_config::Config;

use build::{Build, build};
use measure::{Measure, measure};

/// As in the server: so that what a store takes here is what it takes there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Builds a store of a mesh's history, and measures graph and latency over it
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a store: take the spans in, then merge them into the lake
    Build(Build),
    /// Ask a store that was built, again and again
    Measure(Measure),
}

/// The default settings, but that nothing is too old and nothing is merged.
fn config(data_dir: &Path) -> Config {
    const AGE: Duration = Duration::from_hours(24 * 3_650);
    let mut config = Config { data_dir: data_dir.to_owned(), ..Config::default() };
    config.ingest.clock_past = AGE;
    config.retention.age = AGE;
    config.compaction.enabled = false;
    config
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Build(args) => build(&args).await,
        Command::Measure(args) => measure(&args).await,
    }
}
