//! `openapi.json` against the router: each says what the other does.

use http::Method;
use meshlake_config::Config;
use serde_json::{Value, json};

use super::routes;
use crate::fixture::{Answer, RANGE, TRACE, api, send};
use crate::router;

fn document() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).unwrap()
}

/// What `$ref` names, or the value itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            document.pointer(reference.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{reference} is not there"))
        }
        None => value,
    }
}

/// Path, method and description of each operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(move |(method, operation)| (path.clone(), method.clone(), operation.clone()))
        })
        .collect()
}

fn parameters(document: &Value, operation: &Value, place: &str) -> Vec<Value> {
    let all = operation["parameters"].as_array().cloned().unwrap_or_default();
    all.iter().map(|parameter| resolved(document, parameter).clone()).filter(|parameter| parameter["in"] == place).collect()
}

async fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let method: Method = method.to_uppercase().parse().unwrap();
    let headers = [&[("content-type", "application/json")], headers].concat();
    let router = router(api(&Config::default()));
    let deletion = json!({"where": "service = 'reviews'", "start": "now-1h", "end": "now"}).to_string();
    let body = match (&method, path.contains("/deletions")) {
        (&Method::POST, true) => deletion.clone(),
        (&Method::POST, false) => json!({"query": "select *, 1.5 as f from spans"}).to_string(),
        _ => String::new(),
    };
    if !path.contains("{id}") {
        return send(&router, method, path, &headers, body).await;
    }
    let taken = send(&router, Method::POST, "/api/mesh/v1/deletions", &headers[..1], deletion).await;
    send(&router, method, &path.replace("{id}", taken.json()["id"].as_str().unwrap()), &headers, body).await
}

/// A path that answers 200.
fn filled(path: &str) -> String {
    let path = path.replace("{service}", "reviews").replace("{trace_id}", TRACE).replace("{name}", "http.method");
    let of_range = [
        "services",
        "operations",
        "attributes",
        "values",
        "traces",
        "traceql",
        "graph",
        "diff",
        "latency",
        "heatmap",
        "v1/critical-path",
        "propagation",
    ];
    if of_range.iter().any(|end| path.ends_with(end)) { format!("{path}?{RANGE}") } else { path }
}

#[tokio::test]
async fn each_route_is_documented_with_the_methods_it_takes() {
    let document = document();
    let mut documented: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let mut routed: Vec<_> = routes().into_iter().map(|(path, _)| path.to_owned()).collect();
    documented.sort();
    routed.sort();
    assert_eq!(documented, routed);
    for path in &routed {
        let allow = ask("trace", &filled(path), &[]).await.header("allow").to_lowercase();
        let mut taken: Vec<_> = allow.split(',').filter(|method| *method != "head").collect();
        let mut described: Vec<_> = document["paths"][path].as_object().unwrap().keys().map(String::as_str).collect();
        taken.sort_unstable();
        described.sort_unstable();
        assert_eq!(taken, described, "{path}");
    }
}

#[tokio::test]
async fn documented_parameters_are_those_that_are_taken() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let mut in_path: Vec<_> = parameters(&document, &operation, "path")
            .iter()
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        let mut expected: Vec<_> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(str::to_owned).collect();
        in_path.sort();
        expected.sort();
        assert_eq!(in_path, expected, "{path}");
        if !path.starts_with("/api/") || path.ends_with("openapi.json") {
            continue;
        }
        // The refusal of an unknown one lists all that are known.
        let plain = filled(&path);
        let plain = plain.split('?').next().unwrap();
        let refused = ask(&method, &format!("{plain}?no_such_parameter=1"), &[]).await.problem(400);
        let documented: Vec<_> = parameters(&document, &operation, "query")
            .iter()
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        let known = refused.split("allowed are ").nth(1).map_or(vec![], |names| names.split(", ").collect::<Vec<_>>());
        assert_eq!(known, documented, "{path}");
        for parameter in parameters(&document, &operation, "query") {
            check_limits(plain, &parameter).await;
        }
    }
}

/// As it stands in a URL.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(byte).collect()
}

/// Values within the documented schema are taken; enumerations and numbers outside of it are not.
async fn check_limits(path: &str, parameter: &Value) {
    let name = parameter["name"].as_str().unwrap();
    let schema = &parameter["schema"];
    let mut good: Vec<String> =
        schema["enum"].as_array().into_iter().flatten().map(|value| value.as_str().unwrap().to_owned()).collect();
    let mut bad = Vec::new();
    if let (Some(min), Some(max)) = (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        good.extend([min.to_string(), max.to_string()]);
        bad.extend([(min - 1).to_string(), (max + 1).to_string()]);
    } else if !good.is_empty() {
        bad.push("other".to_owned());
    }
    good.extend(parameter["example"].as_str().or(parameter["example"][0].as_str()).map(encoded));
    for value in good {
        let answer = ask("get", &format!("{path}?{name}={value}"), &[]).await;
        let status = if name == "start" || name == "end" { 200 } else { answer.status.as_u16() };
        assert_eq!(status, 200, "{name}={value}: {answer:?}");
    }
    for value in bad {
        ask("get", &format!("{path}?{name}={value}"), &[]).await.problem(400);
    }
}

#[tokio::test]
async fn answers_have_the_documented_types_and_shapes() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let success = if operation["responses"]["200"].is_null() { "202" } else { "200" };
        for (media_type, content) in operation["responses"][success]["content"].as_object().unwrap() {
            // What is no matter of the accept header is asked for by a parameter.
            let format = if media_type == "text/vnd.graphviz" { "&format=dot" } else { "" };
            let answer = ask(&method, &format!("{}{format}", filled(&path)), &[("accept", media_type)]).await;
            assert_eq!(answer.status.as_str(), success, "{path}: {answer:?}");
            assert!(answer.header("content-type").starts_with(media_type.as_str()), "{path}: {answer:?}");
            if media_type == "application/json" {
                conforms(&document, &content["schema"], &answer.json(), &path);
            }
        }
        for status in operation["responses"].as_object().unwrap().keys() {
            resolved(&document, &operation["responses"][status]);
        }
    }
}

/// Scenario: one request for each kind of refusal that a test can cause. Guarantee: its status is documented, and its body has the documented shape.
#[tokio::test]
async fn refusals_are_documented() {
    let document = document();
    let requests = [
        ("get", "/api/mesh/v1/services", "/api/mesh/v1/services?start=x", "", 400),
        ("get", "/api/mesh/v1/services/{service}/operations", "/api/mesh/v1/services/a/operations?x=1", "", 400),
        ("get", "/api/mesh/v1/attributes", "/api/mesh/v1/attributes?limit=1", "", 400),
        ("get", "/api/mesh/v1/attributes/{name}/values", "/api/mesh/v1/attributes/a/values?scope=trace", "", 400),
        ("get", "/api/mesh/v1/traces", "/api/mesh/v1/traces?limit=0", "", 400),
        ("get", "/api/mesh/v1/traceql", "/api/mesh/v1/traceql?q=x", "", 400),
        ("get", "/api/mesh/v1/latency", "/api/mesh/v1/latency?step=1us", "", 400),
        ("get", "/api/mesh/v1/latency/heatmap", "/api/mesh/v1/latency/heatmap?buckets=3", "", 400),
        ("get", "/api/mesh/v1/graph", "/api/mesh/v1/graph?level=pod", "", 400),
        ("get", "/api/mesh/v1/graph/diff", "/api/mesh/v1/graph/diff?q=1", "", 400),
        ("get", "/api/mesh/v1/critical-path", "/api/mesh/v1/critical-path?traces=0", "", 400),
        ("get", "/api/mesh/v1/propagation", "/api/mesh/v1/propagation?traces=0", "", 400),
        ("get", "/api/mesh/v1/traces/{trace_id}/critical-path", "/api/mesh/v1/traces/x/critical-path", "", 400),
        ("get", "/api/mesh/v1/traces/{trace_id}/critical-path", "/api/mesh/v1/traces/ffff/critical-path", "", 404),
        ("get", "/api/mesh/v1/traces/{trace_id}", "/api/mesh/v1/traces/x", "", 400),
        ("get", "/api/mesh/v1/traces/{trace_id}", "/api/mesh/v1/traces/ffff", "", 404),
        ("get", "/api/mesh/v1/traces/{trace_id}", "/api/mesh/v1/traces/a1", "text/html", 406),
        ("delete", "/api/mesh/v1/traces/{trace_id}", "/api/mesh/v1/traces/x", "", 400),
        ("get", "/api/mesh/v1/deletions/{id}", "/api/mesh/v1/deletions/0-0", "", 404),
        ("get", "/api/mesh/v1/deletions/{id}", "/api/mesh/v1/deletions/..%2Fcommits", "", 404),
        ("post", "/api/mesh/v1/deletions", "/api/mesh/v1/deletions?x=1", "", 400),
        ("post", "/api/mesh/v1/sql", "/api/mesh/v1/sql?x=1", "", 400),
        ("post", "/api/mesh/v1/sql", "/api/mesh/v1/sql", "text/html", 406),
    ];
    for (method, path, asked, accept, status) in requests {
        let answer =
            if accept.is_empty() { ask(method, asked, &[]).await } else { ask(method, asked, &[("accept", accept)]).await };
        answer.problem(status);
        let described = resolved(&document, &document["paths"][path][method]["responses"][status.to_string()]);
        conforms(&document, &described["content"]["application/problem+json"]["schema"], &answer.json(), asked);
    }
}

/// Asserts that `value` fulfils `schema`, as far as the document uses JSON Schema. Of several shapes the first is what is answered to a
/// plain request.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = resolved(document, schema.get("oneOf").map_or(schema, |shapes| &shapes[0]));
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
        _ => vec![],
    };
    let fits = types.is_empty()
        || types.iter().any(|name| match *name {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{at}: type {other}"),
        });
    assert!(fits, "{at}: {value} is not {types:?}");
    if value.is_null() {
        return;
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{at}: {value}");
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(required.as_str().unwrap()).is_some(), "{at}: {required} is missing in {value}");
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(property) => conforms(document, property, member, &format!("{at}.{name}")),
            None => assert_ne!(schema["additionalProperties"], json!(false), "{at}: {name} is not documented"),
        }
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item, &format!("{at}[]"));
    }
}
