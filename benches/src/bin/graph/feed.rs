//! Requests on their way into a store.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::ensure;
use bytes::Bytes;
use meshlake_benches::LocalStore;
use meshlake_storage::{Answer, Refused};
use tokio::sync::oneshot;

/// Bytes of requests that have no answer yet at most.
const WAITING_MAX: usize = 16 << 20;
/// The pause after a refusal.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a store may refuse everything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Hands requests to a store, as many at once as it takes well, and again where it has no room.
pub(crate) struct Feed<'s> {
    store: &'s LocalStore,
    waiting: VecDeque<(Bytes, oneshot::Receiver<Answer>)>,
    waiting_bytes: usize,
    accepted: u64,
    /// When a request was last accepted.
    last: Instant,
}

impl<'s> Feed<'s> {
    pub(crate) fn new(store: &'s LocalStore) -> Self {
        Self { store, waiting: VecDeque::new(), waiting_bytes: 0, accepted: 0, last: Instant::now() }
    }

    /// Spans that the store has.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Takes a request.
    ///
    /// # Errors
    /// If the store refuses one for good, or all of them for a minute.
    pub(crate) async fn add(&mut self, body: Bytes) -> anyhow::Result<()> {
        while self.waiting_bytes > WAITING_MAX {
            self.answer().await?;
        }
        self.offer(body).await
    }

    /// Waits until every request is accepted.
    ///
    /// # Errors
    /// As [`Feed::add`].
    pub(crate) async fn finish(&mut self) -> anyhow::Result<()> {
        while !self.waiting.is_empty() {
            self.answer().await?;
        }
        Ok(())
    }

    async fn offer(&mut self, body: Bytes) -> anyhow::Result<()> {
        let answer = loop {
            match self.store.offer(body.clone()) {
                Ok(answer) => break answer,
                Err(refused) => self.pause(refused).await?,
            }
        };
        self.waiting_bytes += body.len();
        self.waiting.push_back((body, answer));
        Ok(())
    }

    /// Waits for the answer to the request that has waited for the longest time.
    async fn answer(&mut self) -> anyhow::Result<()> {
        let Some((body, answer)) = self.waiting.pop_front() else { return Ok(()) };
        self.waiting_bytes -= body.len();
        match answer.await? {
            Ok(accepted) => {
                ensure!(accepted.rejected == 0, "the store rejected {} spans: {:?}", accepted.rejected, accepted.reason);
                self.accepted += accepted.spans;
                self.last = Instant::now();
                Ok(())
            }
            Err(refused) => {
                self.pause(refused).await?;
                self.offer(body).await
            }
        }
    }

    async fn pause(&self, refused: Refused) -> anyhow::Result<()> {
        let may_succeed = matches!(refused, Refused::Unavailable(_)) && self.last.elapsed() < PATIENCE;
        ensure!(may_succeed, "the store refuses spans: {refused}");
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}
