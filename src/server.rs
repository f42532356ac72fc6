//! The roles of one process: collector, query, API.
//!
//! Two runtimes, so that queries never starve ingest (P7): one serves the OTLP connections, one, whose threads let the others go
//! first, the API and its queries.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use meshlake_collector::{Decoder, Receiver, serve};
use meshlake_config::Config;
use meshlake_query::{Engine, HopRollups, SqlConditions};
use meshlake_storage::{Disk, LocalDisk, Priority, Rollups, Store, open_object_store};
use meshlake_ui_api::{Api, Health, router};
use object_store::ObjectStore;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::info;

use crate::demo;
use crate::failure::Failure;
use crate::signals::Signals;

pub(crate) fn runtime(name: &str, threads: usize) -> std::io::Result<Runtime> {
    builder(name, threads).build()
}

fn builder(name: &str, threads: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).thread_name(name).enable_all();
    builder
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
    let ingest = runtime("ingest", cores().div_ceil(2))?;
    let queries = builder("query", query_threads).on_thread_start(|| Priority::Query.take()).build()?;
    let (stop, stopped) = watch::channel(false);
    // Before the opening, which may take long, and until the end: a second signal does not break the flush off.
    let mut signals = ingest.block_on(async { Signals::install() })?;

    // All ports first: a process that can't have them must not touch the data folder.
    let listeners = ingest.block_on(async {
        let grpc = listen("otlp.grpc_listen", config.otlp.grpc_listen).await?;
        Ok::<_, Failure>(Listeners { grpc, http: listen("otlp.http_listen", config.otlp.http_listen).await? })
    })?;
    let api_listener = queries.block_on(listen("api.listen", config.api.listen))?;
    let grpc_of_api = config.api.grpc_listen.map(|address| queries.block_on(listen("api.grpc_listen", address))).transpose()?;
    let (grpc, http, api_address) = (listeners.grpc.local_addr()?, listeners.http.local_addr()?, api_listener.local_addr()?);

    let mut registry = Registry::default();
    let storage_metrics = meshlake_storage::Metrics::new(&mut registry);
    let collector_metrics = meshlake_collector::Metrics::new(&mut registry);
    let store = Arc::new(OnceLock::new());
    let api = api(config, registry, store.clone());
    let serve_api = |listener| serve_api(&queries, listener, &api, stopped.clone());
    let api_servers: Vec<_> = [Some(api_listener), grpc_of_api].into_iter().flatten().map(serve_api).collect();

    let opened = ingest.block_on(async {
        tokio::select! {
            opened = open(config, storage_metrics) => opened.map(Some),
            () = signals.asked_to_stop() => Ok(None),
        }
    })?;
    let Some(opened) = opened else {
        info!("stopped while opening the data folder");
        return Ok(());
    };
    let opened = store.get_or_init(|| opened).clone();
    let receiver = Arc::new(Receiver::new(opened.clone(), config, collector_metrics));
    let receivers = serve_otlp(&ingest, listeners, &receiver, config, &stopped);
    api.start(Engine::new(opened.clone(), &config.query)?, opened.compaction().clone());
    info!(otlp_grpc = %grpc, otlp_http = %http, api = %api_address, "serving");
    if with_demo {
        ingest.spawn(demo::run(http, api_address));
    }

    ingest.block_on(signals.asked_to_stop());
    info!("stopping: finishing requests and flushing");
    stop.send_replace(true);
    ingest.block_on(async {
        for server in receivers {
            let _ = server.await;
        }
    });
    opened.close();
    for server in api_servers {
        let _ = queries.block_on(server);
    }
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

/// What sums the hops of lake files.
pub(crate) fn rollups(config: &Config, objects: Arc<dyn ObjectStore>) -> Result<Arc<dyn Rollups>, Failure> {
    Ok(Arc::new(HopRollups::new(objects, config).map_err(Failure::Rollups)?))
}

async fn open(config: &Config, metrics: meshlake_storage::Metrics) -> Result<Arc<Store>, Failure> {
    let disk = Arc::new(LocalDisk);
    let objects = open_objects(config, disk.clone())?;
    let rollups = rollups(config, objects.clone())?;
    Ok(Store::open(config, disk, objects, Arc::new(Decoder::new(config)), Arc::new(SqlConditions::new()), rollups, metrics).await?)
}

fn api(config: &Config, registry: Registry, store: Arc<OnceLock<Arc<Store>>>) -> Api {
    let health = move || match store.get().map(|store| store.health()) {
        Some(health) => Health { ready: health.ready, alive: health.alive, problems: health.problems },
        None => Health { ready: false, alive: true, problems: vec!["opening the data folder".to_owned()] },
    };
    Api::new(config, Arc::new(health), registry)
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
