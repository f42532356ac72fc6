//! From file, environment and flags to a checked [`Config`].

use std::{ffi::OsString, fs, path::Path};

use serde_json::{Map, Value};

use crate::{
    Cli, Config, ConfigError,
    error::{KeyError, Source},
    sources::Sources,
};

const PREFIX: &str = "MESHLAKE_";

impl Config {
    /// Reads the file that `--config` names (none: defaults), lays the environment's `MESHLAKE_…` over it, then the
    /// flags, and checks all of it.
    ///
    /// # Errors
    /// [`ConfigError`]: the first thing wrong, with the key's path, what was found, what is allowed, and where.
    pub fn load(cli: &Cli) -> Result<Self, ConfigError> {
        Self::load_with(cli, std::env::vars_os())
    }

    fn load_with(cli: &Cli, environment: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let mut sources = Sources::default();
        if let Some(path) = &cli.config {
            sources.overlay(read(path)?, &Source::File(path.clone()));
        }
        let defaults = serde_json::to_value(Self::default()).map_err(|error| ConfigError::Print(error.to_string()))?;
        for (name, value) in environment {
            set_variable(&mut sources, &defaults, &name, &value)?;
        }
        if let Some(dir) = &cli.data_dir {
            set_data_dir(&mut sources, dir)?;
        }
        let config: Self = serde_path_to_error::deserialize(sources.tree())
            .map_err(|error| sources.error(&error.path().to_string(), &error.inner().to_string()))?;
        config.checked().map_err(|mut error| {
            error.source_of_value = sources.source(&error.key);
            error
        })?;
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Map<String, Value>, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.into(), error })?;
    parse(&text).map_err(|reason| ConfigError::Syntax { path: path.into(), reason })
}

fn parse(text: &str) -> Result<Map<String, Value>, String> {
    // The snippet could show a secret; line and column are enough.
    let options = serde_saphyr::options! { with_snippet: false };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(Value::Object(tree)) => Ok(tree),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err("the document is not a mapping of keys to values".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Sets the key that `name` stands for: `MESHLAKE_OTLP__GRPC_LISTEN` is `otlp.grpc_listen`. The type of its default
/// decides how the text is read, so that a key id of digits stays a text.
fn set_variable(sources: &mut Sources, defaults: &Value, name: &OsString, value: &OsString) -> Result<(), ConfigError> {
    let name = name.to_string_lossy();
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Ok(());
    };
    if is_service_link(rest) {
        return Ok(());
    }
    let key = rest.to_ascii_lowercase();
    let path: Vec<&str> = key.split("__").collect();
    let default = path.iter().try_fold(defaults, |value, key| value.get(key));
    let source = Source::Environment(name.to_string());
    let value = value.to_string_lossy();
    let typed = match default {
        None | Some(Value::Object(_)) => return Err(unknown(&path.join("."), source).into()),
        Some(Value::String(_)) => Value::String(value.into_owned()),
        Some(Value::Array(_)) => value.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
        Some(_) => serde_json::from_str(&value).unwrap_or_else(|_| Value::String(value.into_owned())),
    };
    sources.set(&path, typed, &source);
    Ok(())
}

fn set_data_dir(sources: &mut Sources, dir: &Path) -> Result<(), Box<KeyError>> {
    let source = Source::Flag("--data-dir");
    let Some(text) = dir.to_str() else {
        return Err(Box::new(KeyError {
            key: "data_dir".into(),
            found: format!("`{}`", dir.display()),
            allowed: "a path in UTF-8".into(),
            source_of_value: source,
        }));
    };
    sources.set(&["data_dir"], text.into(), &source);
    Ok(())
}

fn unknown(key: &str, source_of_value: Source) -> Box<KeyError> {
    Box::new(KeyError {
        key: key.into(),
        found: "a variable that stands for no setting".into(),
        allowed: format!("{PREFIX} and the path of a setting, with two underscores between levels"),
        source_of_value,
    })
}

/// Kubernetes gives each pod variables for the Services of its namespace; those of a Service called `meshlake…` begin
/// with our prefix and are not for us.
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    !rest.contains("__")
        && (rest.ends_with("_SERVICE_HOST") || rest.contains("_SERVICE_PORT") || rest.ends_with("_PORT") || rest.contains("_PORT_"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::PathBuf, time::Duration};

    use super::*;
    use crate::{ByteSize, ClusterRange, ClusterSource, Secret};

    const DOCUMENTED: &str = include_str!("../meshlake.yaml");

    struct Given {
        file: Option<&'static str>,
        env: Vec<(&'static str, &'static str)>,
        data_dir: Option<&'static str>,
    }

    fn load(given: Given) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.yaml");
        let config = given.file.map(|text| {
            fs::write(&path, text).unwrap();
            path.clone()
        });
        let cli = Cli { config, data_dir: given.data_dir.map(PathBuf::from), ..Cli::default() };
        let env = given.env.into_iter().map(|(name, value)| (name.into(), value.into()));
        Config::load_with(&cli, env).map_err(|error| error.to_string().replace(path.to_str().unwrap(), "test.yaml"))
    }

    fn file(text: &'static str) -> Result<Config, String> {
        load(Given { file: Some(text), env: vec![], data_dir: None })
    }

    fn env(name: &'static str, value: &'static str) -> Result<Config, String> {
        load(Given { file: None, env: vec![(name, value)], data_dir: None })
    }

    fn keys(value: &Value, path: &str, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| keys(value, &format!("{path}.{key}"), into)),
            _ => _ = into.insert(path.trim_start_matches('.').into()),
        }
    }

    /// Scenario: the documented file is loaded. Guarantee: it holds every key there is, each at its default.
    #[test]
    fn the_documented_file_is_the_default() {
        assert_eq!(file(DOCUMENTED).unwrap(), Config::default());
        let (mut there, mut documented) = (BTreeSet::new(), BTreeSet::new());
        keys(&serde_json::to_value(Config::default()).unwrap(), "", &mut there);
        keys(&Value::Object(parse(DOCUMENTED).unwrap()), "", &mut documented);
        assert_eq!(documented, there);
    }

    /// Scenario: every line with a key in the documented file. Guarantee: a comment stands right above it.
    #[test]
    fn every_documented_key_has_a_comment() {
        let lines: Vec<&str> = DOCUMENTED.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[1].contains(':') && !pair[1].starts_with('#')) {
            assert!(pair[0].starts_with('#'), "no comment above {}", pair[1]);
        }
    }

    /// Scenario: no file, an empty file, a file with an empty section. Guarantee: defaults.
    #[test]
    fn nothing_set_means_defaults() {
        assert_eq!(load(Given { file: None, env: vec![], data_dir: None }).unwrap(), Config::default());
        assert_eq!(file("# nothing\n").unwrap(), Config::default());
        assert_eq!(file("otlp:\n  # grpc_listen: x\napi:\n").unwrap(), Config::default());
    }

    /// Scenario: the same key in file, environment and flag. Guarantee: flag over environment over file.
    #[test]
    fn precedence_is_file_environment_flag() {
        let yaml = "data_dir: /file\napi:\n  listen: 127.0.0.1:1\nquery:\n  threads: 3\n";
        let env = vec![("MESHLAKE_DATA_DIR", "/env"), ("MESHLAKE_API__LISTEN", "127.0.0.1:2"), ("HOME", "/root")];
        let config = load(Given { file: Some(yaml), env, data_dir: Some("/flag") }).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/flag"));
        assert_eq!(config.api.listen.port(), 2);
        assert_eq!(config.query.threads, 3);
    }

    /// Scenario: a variable of each type. Guarantee: each is read as its key's type.
    #[test]
    fn variables_of_every_type() {
        assert_eq!(env("MESHLAKE_LIVE__FLUSH_SIZE", "8MiB").unwrap().live.flush_size, ByteSize::mib(8));
        assert_eq!(env("MESHLAKE_QUERY__TIMEOUT", "250ms").unwrap().query.timeout, Duration::from_millis(250));
        assert_eq!(env("MESHLAKE_QUERY__MAX_ROWS", "7").unwrap().query.max_rows, 7);
        assert!(!env("MESHLAKE_STORAGE__S3__PATH_STYLE", "false").unwrap().storage.s3.path_style);
        let grpc_listen = env("MESHLAKE_API__GRPC_LISTEN", "0.0.0.0:9095").unwrap().api.grpc_listen;
        assert_eq!(grpc_listen.map(|address| address.port()), Some(9095));
        assert_eq!(env("MESHLAKE_STORAGE__S3__REGION", "123").unwrap().storage.s3.region, "123");
        let sources = env("MESHLAKE_INGEST__CLUSTER_SOURCES", "istio.cluster_id, k8s.cluster.name").unwrap();
        let expected = [ClusterSource::IstioClusterId, ClusterSource::K8sClusterName];
        assert_eq!(sources.ingest.cluster_sources, expected);
        let addresses = vec![
            ("MESHLAKE_INGEST__CLUSTER_SOURCES", "pod_address"),
            ("MESHLAKE_INGEST__CLUSTER_RANGES", "10.4.0.0/14=east, fd00:1::/32=west"),
        ];
        let ranges = load(Given { file: None, env: addresses, data_dir: None }).unwrap().ingest.cluster_ranges;
        assert_eq!(ranges, ["10.4.0.0/14=east", "fd00:1::/32=west"].map(|range| range.parse::<ClusterRange>().unwrap()));
    }

    /// Scenario: wrong keys, types and values in the file. Guarantee: path, found, allowed and file are named.
    #[test]
    fn errors_of_the_file() {
        for (yaml, error) in [
            (
                "api:\n  lisen: 127.0.0.1:1\n",
                "wrong setting `api.lisen` (file test.yaml): found a key that does not exist, \
                 allowed is a key one of `listen`, `grpc_listen`, `max_body_size`",
            ),
            (
                "query:\n  threads: many\n",
                "wrong setting `query.threads` (file test.yaml): found `many`, allowed is a whole number, 0 to 4294967295",
            ),
            (
                "otlp:\n  max_request_size: 64MB\n",
                "wrong setting `otlp.max_request_size` (file test.yaml): found `64MB`, \
                 allowed is a whole number with a unit (B, KiB, MiB, GiB, TiB), such as 64MiB",
            ),
            (
                "query:\n  timeout: 30\n",
                "wrong setting `query.timeout` (file test.yaml): found `30`, \
                 allowed is a whole number with a unit (ms, s, m, h, d), such as 30s",
            ),
            ("log:\n  format: xml\n", "wrong setting `log.format` (file test.yaml): found `xml`, allowed is `text` or `json`"),
            (
                "ingest:\n  cluster_sources: [istio.cluster_id, zone]\n",
                "wrong setting `ingest.cluster_sources[1]` (file test.yaml): found `zone`, \
                 allowed is one of `k8s.cluster.name`, `istio.cluster_id`, `pod_address`",
            ),
            (
                "ingest:\n  cluster_ranges: ['10.0.0.1/8=a']\n",
                "wrong setting `ingest.cluster_ranges[0]` (file test.yaml): found `10.0.0.1/8=a`, \
                 allowed is the first address of a range, its prefix and a cluster, such as 10.4.0.0/14=east",
            ),
            (
                "otlp:\n  max_request_size: 2GiB\n",
                "wrong setting `otlp.max_request_size` (file test.yaml): found `2GiB`, allowed is 1KiB to 1GiB",
            ),
            ("otlp: 7\n", "wrong setting `otlp` (file test.yaml): found `7`, allowed is a section with keys of its own"),
        ] {
            assert_eq!(file(yaml).unwrap_err(), error);
        }
    }

    /// Scenario: tenants with an age, a size, both and neither, printed and loaded again; one with another key, and by a variable.
    /// Guarantee: each is kept as it says, and as all are where it says nothing; the others are refused.
    #[test]
    fn retention_of_tenants() {
        let yaml =
            "retention:\n  size: 7GiB\n  tenants:\n    a: {age: 24h}\n    b: {size: 1GiB}\n    c: {age: 2h, size: 0B}\n    d: {}\n";
        let config = file(yaml).unwrap();
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let is_kept = |config: &Config| {
            let of = |tenant| config.retention.of(tenant);
            assert_eq!((of("a"), of("b")), ((hours(24), ByteSize::gib(7)), (hours(720), ByteSize::gib(1))));
            assert_eq!((of("c"), of("d")), ((hours(2), ByteSize::bytes(0)), (hours(720), ByteSize::gib(7))));
            assert_eq!(of("e"), of("d"));
        };
        is_kept(&config);
        let mut sources = Sources::default();
        sources.overlay(parse(&config.to_yaml().unwrap()).unwrap(), &Source::Default);
        is_kept(&serde_json::from_value(sources.tree()).unwrap());
        assert_eq!(
            file("retention:\n  tenants:\n    a: {age: 7}\n").unwrap_err(),
            "wrong setting `retention.tenants.a.age` (file test.yaml): found `7`, \
             allowed is a whole number with a unit (ms, s, m, h, d), such as 30s"
        );
        assert!(file("retention:\n  tenants:\n    a: {delete_delay: 1h}\n").unwrap_err().contains("a key `age` or `size`"));
        assert!(env("MESHLAKE_RETENTION__TENANTS", "a").unwrap_err().contains("stands for no setting"));
    }

    /// Scenario: limits across keys, and a level that EnvFilter would take for a target. Guarantee: refused.
    #[test]
    fn limits_across_keys() {
        for (yaml, key) in [
            ("ingest:\n  memory_limit: 32MiB\n", "ingest.memory_limit"),
            ("ingest:\n  cluster_sources: [pod_address]\n", "ingest.cluster_ranges"),
            ("ingest:\n  cluster_ranges: ['10.0.0.0/8=a']\n", "ingest.cluster_ranges"),
            (
                "ingest:\n  cluster_sources: [pod_address]\n  cluster_ranges: ['10.0.0.0/8=a', '10.0.0.0/8=b']\n",
                "ingest.cluster_ranges",
            ),
            ("live:\n  flush_size: 200MiB\n", "live.memory_limit"),
            ("live:\n  window: 7h\n", "live.window"),
            ("journal:\n  segment_size: 32MiB\n", "journal.segment_size"),
            ("retention:\n  tenants:\n    team.a: {age: 30m}\n", "retention.tenants.team.a.age"),
            ("retention:\n  tenants:\n    a/b: {age: 24h}\n", "retention.tenants.a/b"),
            ("api:\n  listen: 127.0.0.1:4317\n", "api.listen"),
            ("api:\n  listen: 0.0.0.0:4318\n", "api.listen"),
            ("api:\n  listen: '[::]:4318'\n", "api.listen"),
            ("api:\n  grpc_listen: 0.0.0.0:3200\n", "api.grpc_listen"),
            ("api:\n  grpc_listen: 127.0.0.1:4317\n", "api.grpc_listen"),
            ("otlp:\n  grpc_listen: 0.0.0.0:4318\n", "otlp.http_listen"),
            ("storage:\n  url: ftp://x\n", "storage.url"),
            ("storage:\n  s3:\n    endpoint: http://127.0.0.1:9000\n", "storage.s3.endpoint"),
            ("storage:\n  s3:\n    access_key_id: x\n", "storage.s3.secret_access_key"),
            ("log:\n  level: verbose\n", "log.level"),
            ("data_dir: ''\n", "data_dir"),
        ] {
            let error = file(yaml).unwrap_err();
            assert!(error.starts_with(&format!("wrong setting `{key}` (")), "{error}");
        }
        assert!(file("log:\n  level: info,h2=warn\n").is_ok());
        assert!(file("api:\n  listen: 127.0.0.2:4317\n").is_ok());
        assert!(file("api:\n  listen: '[::1]:4317'\notlp:\n  grpc_listen: 0.0.0.0:4317\n").is_ok());
    }

    /// Scenario: wrong variables. Guarantee: the variable is named; a typing error is not ignored.
    #[test]
    fn errors_of_the_environment() {
        let error = env("MESHLAKE_QUERY__THREADS", "-1").unwrap_err();
        assert!(error.contains("`query.threads` (environment variable MESHLAKE_QUERY__THREADS): found `-1`"), "{error}");
        let error = env("MESHLAKE_DATADIR", "x").unwrap_err();
        assert!(error.starts_with("wrong setting `datadir` (environment variable MESHLAKE_DATADIR)"), "{error}");
        assert!(env("MESHLAKE_OTLP", "x").is_err());
    }

    /// Scenario: a pod beside Services `meshlake` and `meshlake-otlp`. Guarantee: their variables are passed over.
    #[test]
    fn service_links_of_kubernetes_are_passed_over() {
        for name in [
            "MESHLAKE_SERVICE_HOST",
            "MESHLAKE_SERVICE_PORT_GRPC_OTLP",
            "MESHLAKE_PORT",
            "MESHLAKE_PORT_4317_TCP_ADDR",
            "MESHLAKE_OTLP_PORT_4317_TCP",
        ] {
            assert_eq!(env(name, "tcp://10.0.0.1:4317").unwrap(), Config::default(), "{name}");
        }
    }

    /// Scenario: no file there, broken YAML, a key twice, no mapping. Guarantee: file, line and reason are named.
    #[test]
    fn unreadable_files() {
        let cli = Cli { config: Some("/nowhere/x.yaml".into()), ..Cli::default() };
        let error = Config::load_with(&cli, std::iter::empty()).unwrap_err().to_string();
        assert!(error.starts_with("cannot read configuration file /nowhere/x.yaml: "), "{error}");
        for yaml in ["api: [\n", "api:\n  listen: 127.0.0.1:1\napi:\n  listen: 127.0.0.1:2\n"] {
            let error = file(yaml).unwrap_err();
            assert!(error.starts_with("cannot parse configuration file test.yaml as YAML: "), "{error}");
            assert!(error.contains("line"), "{error}");
        }
        assert!(file("- 1\n").unwrap_err().contains("not a mapping"));
    }

    /// Scenario: a secret is set, printed, and set wrongly. Guarantee: it appears nowhere.
    #[test]
    fn secrets_stay_secret() {
        let yaml = "storage:\n  s3:\n    access_key_id: me\n    secret_access_key: hunter2\n";
        let config = file(yaml).unwrap();
        assert_eq!(config.storage.s3.secret_access_key, Secret::new("hunter2"));
        let printed = config.to_yaml().unwrap();
        assert!(printed.contains("********") && !printed.contains("hunter2"), "{printed}");
        assert!(!format!("{config:?}").contains("hunter2"));
        for yaml in [
            "storage:\n  s3:\n    secret_access_key: [hunter2]\n",
            "storage:\n  s3:\n    secret_access_key: hunter2\n",
            "storage:\n  s3:\n    secret_access_key: 'hunter2\n",
        ] {
            let error = file(yaml).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    /// Scenario: user and password in an address. Guarantee: refused, and the error does not show them.
    #[test]
    fn addresses_have_no_credentials() {
        for (yaml, key) in [
            ("storage:\n  url: s3://me:hunter2@bucket/prefix\n", "storage.url"),
            ("storage:\n  url: ftp://me:hunter2@host\n", "storage.url"),
            ("storage:\n  s3:\n    endpoint: https://me:hunter2@host:9000/\n", "storage.s3.endpoint"),
            ("storage:\n  s3:\n    endpoint: me:hunter2@host\n", "storage.s3.endpoint"),
        ] {
            let error = file(yaml).unwrap_err();
            assert!(error.starts_with(&format!("wrong setting `{key}` (")) && !error.contains("hunter2"), "{error}");
            assert!(error.contains("storage.s3.secret_access_key"), "{error}");
        }
        assert!(file("storage:\n  url: /data/a@b\n").is_ok());
        assert!(file("storage:\n  url: s3://bucket/a@b\n").is_ok());
    }

    /// Scenario: the printed configuration is loaded again. Guarantee: it says the same.
    #[test]
    fn the_printed_configuration_loads() {
        let printed = Config::default().to_yaml().unwrap();
        let mut sources = Sources::default();
        sources.overlay(parse(&printed).unwrap(), &Source::Default);
        let config: Config = serde_json::from_value(sources.tree()).unwrap();
        assert_eq!(config, Config::default());
    }
}
