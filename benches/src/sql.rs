//! Asks the server over its SQL API.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;

/// The SQL API of a server, for one tenant.
#[derive(Clone, Debug)]
pub struct Sql {
    authority: String,
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    rows: Vec<Vec<Value>>,
}

impl Sql {
    /// The API at `url`, `http://127.0.0.1:3200`.
    ///
    /// # Errors
    /// No `http://` address.
    pub fn new(url: &str, tenant: Option<&str>) -> anyhow::Result<Self> {
        let authority =
            url.strip_prefix("http://").with_context(|| format!("cannot use {url} as API: it must begin with http://"))?;
        Ok(Self { authority: authority.trim_end_matches('/').into(), tenant: tenant.map(Into::into) })
    }

    /// The rows of the answer. Binary values are lower-case hex, integers JSON numbers.
    ///
    /// # Errors
    /// No server, or its error message.
    pub async fn rows(&self, query: &str) -> anyhow::Result<Vec<Vec<Value>>> {
        let answer = self.post(query).await.with_context(|| format!("cannot query http://{}: {query}", self.authority))?;
        Ok(serde_json::from_slice::<Answer>(&answer).context("the answer to a query has an unknown shape")?.rows)
    }

    async fn post(&self, query: &str) -> anyhow::Result<Bytes> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Its error reaches the request as well.
        tokio::task::spawn_local(async move { _ = connection.await });
        let mut request = Request::post("/api/mesh/v1/sql")
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if let Some(tenant) = &self.tenant {
            request = request.header("x-scope-orgid", tenant);
        }
        let body = serde_json::to_vec(&serde_json::json!({ "query": query }))?;
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}
