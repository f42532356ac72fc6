//! What a person sees whose server does not start: which setting, what was found, and an exit code of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use common::Server;

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

/// Scenario: another process listens on one of the ports. Guarantee: exit code 3, setting and address are named, and the
/// data folder is not touched.
#[test]
fn port_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_fails(&run(&data, &[("MESHLAKE_API__LISTEN", &address)], &[]), 3, &["api.listen", &address]);
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
