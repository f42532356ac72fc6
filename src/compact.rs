//! `meshlake compact`: the compactor alone, beside servers or other compactors on the same object store.

use std::sync::Arc;

use meshlake_config::Config;
use meshlake_query::SqlConditions;
use meshlake_storage::{LocalDisk, LoneCompactor, Metrics, OpenError};
use prometheus_client::registry::Registry;
use tracing::info;

use crate::failure::Failure;
use crate::server::{open_objects, rollups, runtime};
use crate::signals::Signals;

/// Compacts until SIGTERM or SIGINT, or until there is nothing due.
pub(crate) fn run(config: &Config, once: bool) -> Result<(), Failure> {
    // A folder that does not exist was mistyped: nobody has flushed there.
    if config.storage.url.is_empty() {
        let folder = config.data_dir.clone();
        folder.read_dir().map_err(|source| OpenError::Folder { folder, source })?;
    }
    let runtime = runtime("compact", 1)?;
    let mut signals = runtime.block_on(async { Signals::install() })?;
    let opened = runtime.block_on(async {
        let objects = open_objects(config, Arc::new(LocalDisk))?;
        let rollups = rollups(config, objects.clone())?;
        let (conditions, metrics) = (Arc::new(SqlConditions::new()), Metrics::new(&mut Registry::default()));
        tokio::select! {
            opened = LoneCompactor::open(config, objects, conditions, rollups, metrics) => Ok::<_, Failure>(Some(opened?)),
            () = signals.asked_to_stop() => Ok(None),
        }
    })?;
    let Some((compactor, stop)) = opened else {
        info!("stopped while opening the object store");
        return Ok(());
    };
    runtime.spawn(async move {
        signals.asked_to_stop().await;
        info!("stopping");
        stop.now();
    });
    info!(once, "compacting");
    if once {
        compactor.run_once()?;
    } else {
        compactor.run();
    }
    info!("stopped");
    Ok(())
}
