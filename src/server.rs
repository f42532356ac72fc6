//! The roles of one process: collector, query, API.
//!
//! Two runtimes, so that queries never starve ingest (P7): one serves the OTLP connections, one the API and its queries.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use meshlake_collector::{Decoder, Receiver, serve};
use meshlake_config::Config;
use meshlake_query::{Engine, SqlConditions};
use meshlake_storage::{Disk, Health, LocalDisk, Store, open_object_store};
use meshlake_ui_api::{Api, Readiness, router};
use object_store::ObjectStore;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::info;

use crate::demo;
use crate::failure::Failure;

pub(crate) fn runtime(name: &str, threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Listens on an address that `setting` gave.
async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => Failure::PortInUse { setting, address },
        _ => Failure::Listen { setting, address, source },
    })
}

struct Listeners {
    grpc: TcpListener,
    http: TcpListener,
}

/// Runs until SIGTERM or SIGINT, then drains: stops accepting, answers what was taken in, flushes, and ends.
pub(crate) fn run(config: &Config, with_demo: bool) -> Result<(), Failure> {
    let query_threads = if config.query.threads == 0 { cores() } else { config.query.threads as usize };
    // Decoding, the journal and the flush have threads of their own; more I/O threads than this only wake each other.
    let (ingest, queries) = (runtime("ingest", cores().div_ceil(2))?, runtime("query", query_threads)?);
    let (stop, stopped) = watch::channel(false);

    // All ports first: a process that can't have them must not touch the data folder.
    let listeners = ingest.block_on(async {
        let grpc = listen("otlp.grpc_listen", config.otlp.grpc_listen).await?;
        Ok::<_, Failure>(Listeners { grpc, http: listen("otlp.http_listen", config.otlp.http_listen).await? })
    })?;
    let api_listener = queries.block_on(listen("api.listen", config.api.listen))?;
    let http_address = listeners.http.local_addr()?;

    let mut registry = Registry::default();
    let storage_metrics = meshlake_storage::Metrics::new(&mut registry);
    let collector_metrics = meshlake_collector::Metrics::new(&mut registry);
    let store = Arc::new(OnceLock::new());
    let api = api(config, registry, store.clone());
    let api_server = serve_api(&queries, api_listener, &api, stopped.clone());

    let opened = ingest.block_on(open(config, storage_metrics))?;
    let opened = store.get_or_init(|| opened).clone();
    let receiver = Arc::new(Receiver::new(opened.clone(), config, collector_metrics));
    let receivers = serve_otlp(&ingest, listeners, &receiver, config, &stopped);
    api.start(Engine::new(opened.clone(), &config.query)?, opened.compaction().clone());
    info!(otlp_grpc = %config.otlp.grpc_listen, otlp_http = %config.otlp.http_listen, api = %config.api.listen, "serving");
    if with_demo {
        ingest.spawn(demo::run(http_address, config.api.listen));
    }

    ingest.block_on(asked_to_stop())?;
    info!("stopping: finishing requests and flushing");
    stop.send_replace(true);
    ingest.block_on(async {
        for server in receivers {
            let _ = server.await;
        }
    });
    opened.close();
    let _ = queries.block_on(api_server);
    info!("stopped");
    Ok(())
}

/// The object store of the configuration.
pub(crate) fn open_objects(config: &Config, disk: Arc<dyn Disk>) -> Result<Arc<dyn ObjectStore>, Failure> {
    open_object_store(config, disk).map_err(|source| {
        let folder = config.data_dir.join("store").display().to_string();
        let place = if config.storage.url.is_empty() { folder } else { config.storage.url.clone() };
        Failure::Objects { place, source: Box::new(source) }
    })
}

async fn open(config: &Config, metrics: meshlake_storage::Metrics) -> Result<Arc<Store>, Failure> {
    let disk = Arc::new(LocalDisk);
    let objects = open_objects(config, disk.clone())?;
    Ok(Store::open(config, disk, objects, Arc::new(Decoder::new(config)), Arc::new(SqlConditions::new()), metrics).await?)
}

fn api(config: &Config, registry: Registry, store: Arc<OnceLock<Arc<Store>>>) -> Api {
    let readiness = move || {
        let starting = || Health { ready: false, problems: vec!["opening the data folder".to_owned()] };
        let health = store.get().map_or_else(starting, |store| store.health());
        Readiness { ready: health.ready, problems: health.problems }
    };
    Api::new(config, Arc::new(readiness), registry)
}

fn serve_api(queries: &Runtime, listener: TcpListener, api: &Api, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
    let router = router(api.clone());
    queries.spawn(meshlake_ui_api::serve(listener, router, async move { drop(stop.wait_for(|stop| *stop).await) }))
}

fn serve_otlp(
    ingest: &Runtime,
    listeners: Listeners,
    receiver: &Arc<Receiver>,
    config: &Config,
    stop: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let serve_one = |listener| {
        let (receiver, settings, stop) = (receiver.clone(), config.otlp.clone(), stop.clone());
        ingest.spawn(async move { serve(listener, receiver, &settings, stop).await })
    };
    vec![serve_one(listeners.grpc), serve_one(listeners.http)]
}

pub(crate) async fn asked_to_stop() -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
