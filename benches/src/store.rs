//! A store in this process, without a server around it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use meshlake_collector::Decoder;
use meshlake_config::{Config, Tenant};
use meshlake_query::{HopRollups, SqlConditions};
use meshlake_storage::{Answer, Content, Encoding, Frame, LocalDisk, Metrics, Refused, Store, open_object_store};
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

use crate::rollups::TimedRollups;

/// A store, and what it counts.
pub struct LocalStore {
    /// The store.
    pub store: Arc<Store>,
    /// Its metrics.
    pub registry: Registry,
    /// What makes its rollups.
    pub rollups: Arc<TimedRollups>,
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LocalStore").field("store", &self.store).finish_non_exhaustive()
    }
}

impl LocalStore {
    /// Opens the data folder of `config` and waits until all that it holds can be queried.
    ///
    /// # Errors
    /// A folder that cannot be used, or that another process uses.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let disk = Arc::new(LocalDisk);
        let objects = open_object_store(config, disk.clone())?;
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let rollups = HopRollups::new(objects.clone(), config).map_err(anyhow::Error::from_boxed)?;
        let rollups = Arc::new(TimedRollups::new(rollups));
        let (decoder, conditions) = (Arc::new(Decoder::new(config)), Arc::new(SqlConditions::new()));
        let store = Store::open(config, disk, objects, decoder, conditions, rollups.clone(), metrics).await?;
        while !store.health().ready {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Self { store, registry, rollups })
    }

    /// Hands an encoded `ExportTraceServiceRequest` to the store, as received now. The answer comes when its spans are durable and can be
    /// queried.
    ///
    /// # Errors
    /// If the store has no room at the moment.
    pub fn offer(&self, body: Bytes) -> Result<oneshot::Receiver<Answer>, Refused> {
        let received = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let (content, encoding) = (Content::Protobuf, Encoding::Identity);
        self.store.append(Frame { tenant: Tenant::default(), content, encoding, received, body })
    }

    /// Whether every span is in a file of the lake.
    ///
    /// # Errors
    /// Only by a defect of the store.
    pub fn is_in_lake(&self) -> anyhow::Result<bool> {
        let snapshot = self.store.snapshot()?;
        Ok(snapshot.live.is_empty() && snapshot.files.iter().all(|file| file.is_in_lake()))
    }

    /// Writes what is live into files and ends the store's threads.
    ///
    /// # Errors
    /// If one of them panicked.
    pub async fn close(self) -> anyhow::Result<()> {
        Ok(tokio::task::spawn_blocking(move || self.store.close()).await?)
    }
}
