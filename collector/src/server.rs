//! The listeners: connections, their limits and their end.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use meshlake_config::Otlp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::authority::MendedAuthority;
use crate::receiver::Receiver;

/// Bytes of one stream that a client may send before they are read: what a request costs that is refused. Small requests fit,
/// and larger windows saved nothing.
const STREAM_WINDOW: u32 = 128 << 10;
/// Bytes of one connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Largest DATA frame: fewer pieces to put together for large requests.
const FRAME_SIZE: u32 = 256 << 10;
/// Frames for streams that are done after which a connection is ended, counted over its whole life: a sender whose requests are
/// refused before they were sent has some on the way, at most a window (8 frames of the usual size) for each of its streams. So
/// many that an honest sender is not cut off for seconds of overload, and few enough that one who sends nothing else is.
const LATE_FRAMES_MAX: usize = 16_384;
/// How long an HTTP/1 client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From the accept to the end of an HTTP/2 preface, or to bytes that are none: before it knows the protocol, hyper waits for
/// ever. Not to the first request: gRPC clients connect long before they have one, and answer pings.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that reached its age gets to finish its requests.
const AGE_GRACE: Duration = Duration::from_secs(30);
/// How often it is said that there are no places left.
const FULL_WARNING: Duration = Duration::from_secs(60);
/// How long connections get to finish their requests after [`serve`] was told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, as when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections may last.
#[derive(Clone, Copy, Debug)]
struct Times {
    greeting: Duration,
    age: Duration,
    grace: Duration,
}

fn builder(settings: &Otlp) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .max_local_error_reset_streams(LATE_FRAMES_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_concurrent_streams(settings.max_streams_per_connection)
        .keep_alive_interval(settings.keepalive_interval)
        .max_header_list_size(16 << 10);
    builder
}

/// Serves OTLP on a listener, gRPC and HTTP alike, until `stop` turns true; then finishes what was begun.
pub async fn serve(listener: TcpListener, receiver: Arc<Receiver>, settings: &Otlp, stop: watch::Receiver<bool>) {
    let times = Times { greeting: GREETING_TIMEOUT, age: settings.max_connection_age, grace: AGE_GRACE };
    serve_within(listener, receiver, settings, times, stop).await;
}

async fn serve_within(listener: TcpListener, receiver: Arc<Receiver>, settings: &Otlp, times: Times, stop: watch::Receiver<bool>) {
    let builder = Arc::new(builder(settings));
    let places = Arc::new(Semaphore::new(settings.max_connections as usize));
    let mut warned = None;
    let connections = TaskTracker::new();
    let mut stopped = pin!({
        let mut stop = stop.clone();
        async move { drop(stop.wait_for(|stop| *stop).await) }
    });
    loop {
        let (stream, place) = tokio::select! {
            () = &mut stopped => break,
            accepted = accept(&listener, &places, &mut warned) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "can't accept a connection; look at the limit of open files");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        receiver.metrics.connections.inc();
        let (builder, receiver) = (builder.clone(), receiver.clone());
        let stop = stop.clone();
        connections.spawn(async move {
            connection(stream, &builder, receiver, times, stop).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
        warn!(connections = connections.len(), "connections were still busy when the server stopped");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    warned: &mut Option<Instant>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    if places.available_permits() == 0 && warned.is_none_or(|warned| warned.elapsed() >= FULL_WARNING) {
        warn!("as many connections are open as otlp.max_connections allows; more wait until one is closed");
        *warned = Some(Instant::now());
    }
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(
    stream: TcpStream,
    builder: &Builder<TokioExecutor>,
    receiver: Arc<Receiver>,
    times: Times,
    mut stop: watch::Receiver<bool>,
) {
    // An acknowledgement is small, and somebody waits for it.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let receiver = receiver.clone();
        // Boxed: the future is large, and is moved several times before it runs.
        Box::pin(async move { Ok::<_, Infallible>(receiver.answer(request).await) })
    });
    let stream = MendedAuthority::new(stream);
    let greeted = stream.greeted();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let silence = async {
        tokio::time::sleep(times.greeting).await;
        if greeted.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    };
    let end: &mut (dyn Future<Output = ()> + Send + Unpin) = &mut Box::pin(async {
        tokio::select! {
            () = tokio::time::sleep(times.age) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = silence => {
            debug!("a connection sent nothing within {:?}", times.greeting);
            return;
        }
        () = end => {
            connection.as_mut().graceful_shutdown();
            let Ok(result) = tokio::time::timeout(times.grace, connection).await else {
                debug!("a connection was still busy {:?} after its end; dropping it", times.grace);
                return;
            };
            result
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests;
