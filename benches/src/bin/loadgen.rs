//! Sends spans to an OTLP gRPC server the way a mesh of Envoys does, and reports what that costs.

use std::{path::PathBuf, process::ExitCode, rc::Rc, time::Duration};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use meshlake_benches::{Load, Process, Report, Requests, ServerReport, Shape, Sql, counts, read_acked, replay, run, verify};

/// Sends Envoy-shaped spans over OTLP gRPC and reports goodput, latency, CPU and memory
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send traces of a mesh of the given shape
    Mesh {
        #[command(flatten)]
        shape: Shape,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        sending: Sending,
    },
    /// Send a recorded stream again and again, as new traces
    Replay {
        #[command(flatten)]
        recording: Recording,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        sending: Sending,
    },
    /// Check span by span that all that was acknowledged is there exactly once, and whole
    Verify {
        /// File that --acked-file of the run wrote
        #[arg(long, value_name = "FILE")]
        acked_file: PathBuf,
        /// API of the server
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3200")]
        api: String,
        /// What was sent, with the same options
        #[command(subcommand)]
        sent: Sent,
    },
}

#[derive(Debug, Subcommand)]
enum Sent {
    /// Traces of a mesh
    Mesh {
        #[command(flatten)]
        shape: Shape,
        #[command(flatten)]
        common: Common,
    },
    /// A recorded stream
    Replay {
        #[command(flatten)]
        recording: Recording,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Recording {
    /// The recorded stream: gzip of 4 bytes little-endian length and ExportTraceServiceRequest, repeated
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct Common {
    /// Ids are a function of this
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Spans of a request: about 5 is what Envoy sends
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=8192))]
    spans_per_request: u32,

    /// Tenant; to verify a run, give it one of its own
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Debug, Args)]
struct Sending {
    #[command(flatten)]
    load: Load,

    /// Ask this API after the run whether all acknowledged spans are there
    #[arg(long, value_name = "URL")]
    verify: Option<String>,

    /// Also report CPU and memory of this process
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,

    /// Seconds that still count for the server after the last answer, for it to write its files
    #[arg(long, default_value_t = 0.0)]
    settle_seconds: f64,

    /// Report as JSON
    #[arg(long)]
    json: bool,
}

/// All was acknowledged is not what is there.
const EXIT_WRONG: u8 = 2;
/// The server went away.
const EXIT_LOST: u8 = 3;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    // One thread: the client must leave the cores to the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match cli.command {
            Command::Mesh { shape, common, sending } => send(mesh(&shape, &common)?, &common, sending).await,
            Command::Replay { recording, common, sending } => send(replayed(&recording, &common)?, &common, sending).await,
            Command::Verify { acked_file, api, sent } => {
                let (requests, tenant) = match sent {
                    Sent::Mesh { shape, common } => (mesh(&shape, &common)?, common.tenant),
                    Sent::Replay { recording, common } => (replayed(&recording, &common)?, common.tenant),
                };
                let verdict = verify(&Sql::new(&api, tenant.as_deref())?, &requests, &read_acked(&acked_file)?).await?;
                println!("{verdict}");
                Ok(if verdict.is_right() { ExitCode::SUCCESS } else { EXIT_WRONG.into() })
            }
        }
    })
}

fn mesh(shape: &Shape, common: &Common) -> anyhow::Result<Requests> {
    let size = common.spans_per_request as usize;
    // The mesh is the same whatever the seed; only ids differ.
    Requests::new(shape.traffic(size, 0)?, size, common.seed)
}

fn replayed(recording: &Recording, common: &Common) -> anyhow::Result<Requests> {
    let size = common.spans_per_request as usize;
    Requests::new(replay(&recording.file, size)?, size, common.seed)
}

async fn send(requests: Requests, common: &Common, sending: Sending) -> anyhow::Result<ExitCode> {
    let requests = Rc::new(requests);
    let bytes_per_span = requests.bytes_per_round() as f64 / requests.spans_per_round() as f64;
    let watch = sending.server_pid.map(Watch::start).transpose()?;
    let own = Process::own();
    let own_before = own.cpu()?;
    let (tally, took) = run(requests, sending.load, common.tenant.as_deref()).await?;
    let own_cpu = own.cpu()?.since(own_before);
    tokio::time::sleep(Duration::from_secs_f64(sending.settle_seconds)).await;
    let (acknowledged, unknown) = (tally.acknowledged, tally.unknown);
    let mut report = Report::new(tally, took, own_cpu, bytes_per_span);
    if let Some(watch) = watch {
        report.server = watch.finish(acknowledged).context("cannot measure the server").map_err(|e| eprintln!("{e:#}")).ok();
    }
    if let Some(api) = &sending.verify {
        let sql = Sql::new(api, common.tenant.as_deref())?;
        report.verified = Some(counts(&sql, acknowledged, acknowledged + unknown).await?);
    }
    if sending.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(match (&report.verified, &report.lost) {
        (Some(counts), _) if !counts.is_right() => EXIT_WRONG.into(),
        (_, Some(_)) => EXIT_LOST.into(),
        _ => ExitCode::SUCCESS,
    })
}

/// Watches the server's CPU and memory.
struct Watch {
    server: Process,
    before: meshlake_benches::Cpu,
    resident: tokio::task::JoinHandle<()>,
    resident_max: Rc<std::cell::Cell<u64>>,
}

impl Watch {
    fn start(pid: u32) -> anyhow::Result<Self> {
        let server = Process::other(pid);
        let before = server.cpu()?;
        let resident_max = Rc::new(std::cell::Cell::new(server.resident()?));
        let (watched, max) = (server.clone(), resident_max.clone());
        let resident = tokio::task::spawn_local(async move {
            while let Ok(now) = watched.resident() {
                max.set(max.get().max(now));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Ok(Self { server, before, resident, resident_max })
    }

    fn finish(self, acknowledged: u64) -> anyhow::Result<ServerReport> {
        self.resident.abort();
        let cpu = self.server.cpu()?.since(self.before);
        Ok(ServerReport::new(cpu, acknowledged, self.resident_max.get(), self.server.resident_peak()?))
    }
}
