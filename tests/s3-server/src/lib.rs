//! An S3-compatible server in the process of a test: buckets are folders.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

/// The access key that the server knows.
pub const ACCESS_KEY: &str = "key";
/// Its secret.
pub const SECRET_KEY: &str = "secret";

/// Serves the folders in `root` as buckets on a free port of the loopback interface, for as long as the runtime lives.
///
/// # Errors
/// If the folder can't be read or no port is free.
pub async fn start(root: &Path) -> Result<SocketAddr, Box<dyn Error>> {
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).map_err(|error| format!("{error:?}"))?);
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    Ok(address)
}
