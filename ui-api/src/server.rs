//! Serving the routes: HTTP/1.1 and HTTP/2 (prior knowledge) on one port.

use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt;

const CONNECTIONS_MAX: usize = 1_024;
const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// From the connection to the end of its first request's headers.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// From one answer to the end of the next request's headers, on HTTP/1.1: longer than a minute, which is what proxies in front keep
/// connections for.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// After a failed accept: most often there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For requests that run at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `router` until `shutdown` is done, then takes no more connections, lets running requests end, and returns: after 10
/// seconds at the latest, when what still runs is dropped.
///
/// A client that goes away has its handler's future dropped, which cancels its query.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    serve_within(listener, router, shutdown, FIRST_REQUEST_TIMEOUT).await;
}

async fn serve_within(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>, first_request: Duration) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, place)) => {
                connections.spawn(serve_connection(stream, router.clone(), graceful.watcher(), first_request, place));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting an API connection failed; look at the limit of open files");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("API requests still run {DRAIN_TIMEOUT:?} after the shutdown began; dropping them");
    }
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    watcher: Watcher,
    first_request: Duration,
    place: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "setting nodelay on an API connection failed");
    }
    let asked = Arc::new(AtomicBool::new(false));
    let has_asked = asked.clone();
    let service = router.map_request(move |request: http::Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        request.map(Body::new)
    });
    let builder = builder();
    let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned());
    // Before it knows the protocol, the builder waits for ever.
    let silence = async {
        tokio::time::sleep(first_request).await;
        if asked.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    };
    tokio::select! {
        served = connection => {
            if let Err(error) = served {
                tracing::debug!(%error, "an API connection ended early");
            }
        }
        () = silence => tracing::debug!("an API connection sent no request within {first_request:?}"),
    }
    drop(place);
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}

#[cfg(test)]
mod tests;
