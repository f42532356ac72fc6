use std::collections::BTreeMap;

use meshlake_storage::{Place, Promoted, Scope, places};

use super::super::filter::Filter;
use super::query;
use crate::file_attributes::Stand;
use crate::testing::promoted;

/// What rows of files are filtered by in which attributes stand so, as text.
fn fine(text: &str, stands: &[(Scope, &str, Stand)]) -> String {
    let query = query(text);
    let promoted = promoted();
    let promoted: Vec<&Promoted> = promoted.iter().collect();
    let stands: BTreeMap<_, _> = stands.iter().map(|(scope, key, stand)| ((*scope, (*key).to_owned()), *stand)).collect();
    let filter = Filter { attributes: &query.attributes, promoted: &promoted, stands: &stands };
    filter.fine(&query.conditions().answer).map_or_else(String::new, |expr| expr.to_string())
}

/// Scenario: filters over files of which it is known where attributes stand, and over others. Guarantee: where they stand in
/// columns, nothing else is read; where no span has one, no row passes; where that is not known, what columns do not say for
/// certain is evaluated.
#[test]
fn what_is_known_of_files_need_not_be_read() {
    use Scope::{Resource, Span};
    use Stand::{Absent, Alone, Columns};
    let evaluates = |filter: &str| filter.contains("traceql_passes");
    for (text, scope, key) in [
        ("{ resource.service.name = \"shop\" }", Resource, "service.name"),
        ("{ span.http.status_code >= 500 }", Span, "http.status_code"),
        ("{ span.http.method != nil }", Span, "http.method"),
        ("{ span.retries = 1 && name = \"x\" }", Span, "retries"),
    ] {
        let in_columns = fine(text, &[(scope, key, Columns)]);
        assert!(!evaluates(&in_columns) && !in_columns.contains("IS NULL"), "{text}: {in_columns}");
        let anywhere = fine(text, &[]);
        assert!(evaluates(&anywhere), "{text}: {anywhere}");
        assert!(fine(text, &[(scope, key, Absent)]).contains("Boolean(false)"), "{text}");
    }
    let shop = fine("{ resource.service.name = \"shop\" }", &[(Resource, "service.name", Columns)]);
    assert_eq!(shop, "service_name = Utf8(\"shop\")");
    let code = "{ span.http.status_code = \"503\" }";
    assert!(fine(code, &[(Span, "http.status_code", Columns)]).contains("origins"));
    let places: Vec<Place> = places(Span, "http.status_code").collect();
    assert_eq!(fine(code, &[(Span, "http.status_code", Alone(places[0]))]), "http_status_code = Int64(503)");
    assert!(fine(code, &[(Span, "http.status_code", Alone(places[1]))]).contains("Boolean(false)"));
    let any = "{ .service.name = \"shop\" }";
    assert!(!fine(any, &[]).contains("service_name IS NULL"));
    let of_resource = fine(any, &[(Span, "service.name", Absent), (Resource, "service.name", Columns)]);
    assert!(of_resource.contains("service_name = Utf8(\"shop\")") && evaluates(&of_resource), "{of_resource}");
    assert_eq!(fine("{ status = error && duration > 1s && kind != server }", &[]).matches("traceql_passes").count(), 0);
    assert_eq!(fine("{}", &[]), "");
}
