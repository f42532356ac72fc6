//! What a person sees whose server does not start: which setting, what was found, and an exit code of its own. And what a
//! server does that can start, but not at once or not undisturbed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Client, Server};
use hyper::StatusCode;

/// Runs the binary, which must end by itself, on free ports unless the settings say otherwise.
fn run(data: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshlake"));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("MESHLAKE_")) {
        command.env_remove(key);
    }
    for listener in ["OTLP__GRPC_LISTEN", "OTLP__HTTP_LISTEN", "API__LISTEN"] {
        command.env(format!("MESHLAKE_{listener}"), "127.0.0.1:0");
    }
    command.arg("--data-dir").arg(data).args(arguments).envs(settings.iter().copied());
    command.output().unwrap()
}

fn assert_fails(output: &Output, code: i32, said: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    for part in said {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

/// Scenario: a misspelt key, a value that is none, in the environment and in a file. Guarantee: exit code 2; key, value and
/// place are named; nothing is created.
#[test]
fn wrong_settings() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert_fails(&run(&data, &[("MESHLAKE_OTLP__GRPC_LISTN", "x")], &[]), 2, &["otlp.grpc_listn"]);
    assert_fails(&run(&data, &[("MESHLAKE_LIVE__FLUSH_AGE", "soon")], &[]), 2, &["live.flush_age", "soon"]);
    let file = folder.path().join("meshlake.yaml");
    std::fs::write(&file, "query:\n  threads: many\n").unwrap();
    let file = file.to_str().unwrap();
    assert_fails(&run(&data, &[], &["--config", file]), 2, &["query.threads", "many", "meshlake.yaml"]);
    assert!(!data.exists());
}

/// Scenario: another process listens on one of the ports, each in turn. Guarantee: exit code 3, setting and address are
/// named, and the data folder is not touched.
#[test]
fn port_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["api.listen", "api.grpc_listen", "otlp.grpc_listen", "otlp.http_listen"] {
        let variable = format!("MESHLAKE_{}", setting.replace('.', "__").to_uppercase());
        assert_fails(&run(&data, &[(&variable, &address)], &[]), 3, &[setting, &address]);
    }
    assert!(!data.exists());
}

/// Scenario: the data folder can't be one. Guarantee: exit code 4, the folder is named.
#[test]
fn unusable_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_fails(&run(&file.join("data"), &[], &[]), 4, &[file.to_str().unwrap(), "data_dir"]);
}

/// Scenario: two processes on one data folder. Guarantee: the second ends with exit code 5, the first goes on.
#[tokio::test]
async fn folder_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]).await;
    assert_fails(&run(folder.path(), &[], &[]), 5, &["in use by another process"]);
    assert_eq!(server.sql("select count(*) from spans").await[0][0], 0);
    assert!(server.terminate().success());
}

/// Scenario: `--print-config` with a secret set. Guarantee: the settings in force, the secret masked, exit code 0.
#[test]
fn printed_config_masks_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let key = ("MESHLAKE_STORAGE__S3__ACCESS_KEY_ID", "id");
    let output = run(folder.path(), &[key, ("MESHLAKE_STORAGE__S3__SECRET_ACCESS_KEY", "hush")], &["--print-config"]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("secret_access_key"), "{printed}");
    assert!(!printed.contains("hush"));
}

/// Scenario: nothing can be written to standard error. Guarantee: the log is lost and nothing else: the server takes spans,
/// answers and stops as ever.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_log_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let mut server = Server::spawn(folder.path(), &[("MESHLAKE_LOG__LEVEL", "debug")], full());
    server.wait_until_ready().await;
    let span = r#"{"traceId":"000000000000000000000000000000a1","spanId":"0000000000000001","name":"a",
        "startTimeUnixNano":"1785585600000000000","endTimeUnixNano":"1785585600010000000"}"#;
    let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
    let mut client = Client::connect(server.otlp_http).await.unwrap();
    let (status, _) = client.post("/v1/traces", "application/json", body.into()).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(server.sql("select count(*) from spans").await[0][0], 1);
    assert!(server.terminate().success());
    // A failure that nobody can be told of has its exit code all the same.
    let mut command = common::meshlake(folder.path());
    assert_eq!(command.env("MESHLAKE_LIVE__FLUSH_AGE", "soon").stderr(full()).status().unwrap().code(), Some(2));
}

/// Scenario: an object store that does not answer, so that the start hangs. Guarantee: health and metrics answer, queries are
/// told to come again, and SIGTERM ends the process with exit code 0.
#[tokio::test]
async fn stopped_while_starting() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let settings = [
        ("MESHLAKE_STORAGE__URL", "s3://spans"),
        ("MESHLAKE_STORAGE__S3__ENDPOINT", &*endpoint),
        ("MESHLAKE_STORAGE__S3__ALLOW_HTTP", "true"),
        ("MESHLAKE_STORAGE__S3__REGION", "us-east-1"),
        ("MESHLAKE_STORAGE__S3__ACCESS_KEY_ID", "id"),
        ("MESHLAKE_STORAGE__S3__SECRET_ACCESS_KEY", "secret"),
    ];
    let mut server = Server::spawn(folder.path(), &settings, Stdio::null());
    server.wait_until_ok("/healthz").await;
    let mut client = Client::connect(server.api).await.unwrap();
    for (path, status) in [("/metrics", 200), ("/readyz", 503), ("/api/mesh/v1/services", 503)] {
        assert_eq!(client.get(path).await.unwrap().0.as_u16(), status, "{path}");
    }
    assert!(server.terminate().success());
}
