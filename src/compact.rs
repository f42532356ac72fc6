//! `meshlake compact`: the compactor alone, beside servers or other compactors on the same object store.

use std::sync::Arc;

use meshlake_config::Config;
use meshlake_query::SqlConditions;
use meshlake_storage::{LocalDisk, LoneCompactor, Metrics, OpenError};
use prometheus_client::registry::Registry;
use tracing::info;

use crate::failure::Failure;
use crate::server::{asked_to_stop, open_objects, runtime};

/// Compacts until SIGTERM or SIGINT, or until there is nothing due.
pub(crate) fn run(config: &Config, once: bool) -> Result<(), Failure> {
    // A folder that does not exist was mistyped: nobody has flushed there.
    if config.storage.url.is_empty() {
        let folder = config.data_dir.clone();
        folder.read_dir().map_err(|source| OpenError::Folder { folder, source })?;
    }
    let runtime = runtime("compact", 1)?;
    let (compactor, stop) = runtime.block_on(async {
        let objects = open_objects(config, Arc::new(LocalDisk))?;
        let metrics = Metrics::new(&mut Registry::default());
        Ok::<_, Failure>(LoneCompactor::open(config, objects, Arc::new(SqlConditions::new()), metrics).await?)
    })?;
    runtime.spawn(async move {
        if asked_to_stop().await.is_ok() {
            info!("stopping");
            stop.now();
        }
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
