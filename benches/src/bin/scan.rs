//! Compares a search through the server with a bare DataFusion scan of the same files, in turn in one run.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use meshlake_benches::Sql;

/// Times a query on a running server and on DataFusion alone over the server's fresh files
#[derive(Debug, Parser)]
struct Cli {
    /// Folder of the fresh files: <data>/store/fresh/<writer>
    files: PathBuf,
    /// API of the server, whose spans are all flushed
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3200")]
    api: String,
    /// The query, on a table `spans`
    #[arg(
        long,
        default_value = "select count(*) from spans where service = 'reviews' and http_status_code = 502 and duration > 5000000"
    )]
    query: String,
    /// Pairs of runs; medians are printed
    #[arg(long, default_value_t = 9)]
    runs: usize,
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The client's connection is a local task.
    tokio::task::LocalSet::new().run_until(compare(Cli::parse())).await
}

async fn compare(cli: Cli) -> anyhow::Result<()> {
    let mut config = SessionConfig::new();
    config.options_mut().execution.parquet.pushdown_filters = true;
    config.options_mut().execution.parquet.reorder_filters = true;
    let bare = SessionContext::new_with_config(config);
    let folder = cli.files.to_str().context("the folder's name is not UTF-8")?;
    bare.register_parquet("spans", folder, ParquetReadOptions::default()).await?;
    let server = Sql::new(&cli.api, None)?;
    let (mut bare_seconds, mut server_seconds) = (Vec::new(), Vec::new());
    // The first pair fills the caches of both.
    for run in 0..=cli.runs {
        let began = Instant::now();
        bare.sql(&cli.query).await?.collect().await?;
        let bare_took = began.elapsed().as_secs_f64();
        let began = Instant::now();
        server.rows(&cli.query).await?;
        if run > 0 {
            bare_seconds.push(bare_took);
            server_seconds.push(began.elapsed().as_secs_f64());
        }
    }
    let (bare, server) = (median(bare_seconds), median(server_seconds));
    println!("bare DataFusion {:.1} ms, server {:.1} ms, ratio {:.2}", bare * 1e3, server * 1e3, server / bare);
    Ok(())
}
