use meshlake_storage::{Scope, places};
use meshlake_traceql::{Conditions, Named};

use super::columns::scopes;
use super::matching::{Stands, stands};
use crate::file_attributes::Stand;
use crate::lookup::Needless;
use crate::types::TimeRange;
use crate::view::View;

/// The residual maps in which no attribute of a query stands, of files with spans in a range, as far as these tell. `conditions` are
/// the query's: what reads all attributes, or those of the service graph, needs every map.
pub(super) async fn needless(view: &View, attributes: &[Named], conditions: &Conditions, range: TimeRange) -> Needless {
    if conditions.all_attributes || conditions.reads_graph() {
        return Needless::default();
    }
    let keys = |named: &Named| scopes(named.scope).iter().map(|scope| (*scope, named.name.clone())).collect::<Vec<_>>();
    let asked: Stands = attributes.iter().flat_map(keys).map(|key| (key, Stand::Anywhere)).collect();
    if asked.is_empty() {
        return Needless::default();
    }
    let (known, _) = stands(view, &view.snapshot, &asked, range).await;
    let of_file = |stands: &Stands| {
        let is_needless = |scope: &Scope| !stands.iter().any(|((of, key), stand)| of == scope && is_in_map(*of, key, *stand));
        Scope::ALL.into_iter().filter(is_needless).collect()
    };
    known.into_iter().map(|(stands, file)| (file.path.clone(), of_file(&stands))).collect()
}

/// Whether an attribute may be read from the residual map: promoted ones are, too.
fn is_in_map(scope: Scope, key: &str, stand: Stand) -> bool {
    match stand {
        Stand::Absent | Stand::Alone(_) => false,
        Stand::Columns => places(scope, key).next().is_none(),
        Stand::Anywhere => true,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::resource::v1::Resource;

    use super::super::tests::{ALL, query};
    use super::*;
    use crate::testing::{START, SpanRow, TestSource, int, tenant, text};

    /// Scenario: attributes that stand in columns, in maps, and nowhere, in a file that tells and in one that does not. Guarantee: the maps
    /// of the first in which none of them stands, and no other.
    #[tokio::test]
    async fn maps_are_needless_where_nothing_stands_in_them() {
        let row = SpanRow {
            tenant: "a".to_owned(),
            trace: 1,
            span: 1,
            start: START,
            attributes: vec![int("http.status_code", 200), text("far", "x")],
            resource: Resource { attributes: vec![text("service.name", "shop")], ..Resource::default() },
            ..SpanRow::default()
        };
        let mut source = TestSource::new();
        source.add_lake_file(std::slice::from_ref(&row), true).await;
        source.add_lake_file(&[row], false).await;
        let engine = source.engine();
        use Scope::{Instrumentation, Resource as OfResource, Span};
        for (text, maps) in [
            ("{ resource.service.name = \"shop\" }", Some(vec![Span, OfResource, Instrumentation])),
            ("{ span.http.status_code = 200 && resource.near = 1 }", Some(vec![Span, OfResource, Instrumentation])),
            ("{ span.far = \"x\" }", Some(vec![OfResource, Instrumentation])),
            ("{ .far = \"x\" }", Some(vec![OfResource, Instrumentation])),
            ("{ status = error }", None),
            ("{ resource.service.name = \"shop\" && span.meshlake.entry }", None),
        ] {
            let query = query(text);
            let (attributes, conditions) = (query.attributes.clone(), query.conditions());
            let ask = async move |view: View| {
                let mut paths: Vec<String> = view.snapshot.files.iter().map(|file| file.path.clone()).collect();
                paths.sort_unstable();
                let asked = attributes.iter().flat_map(|named| scopes(named.scope)).copied().collect::<Vec<_>>();
                Ok((needless(&view, &attributes, &conditions, ALL).await, paths, asked))
            };
            let (needless, paths, asked) = engine.run(&tenant("a"), ask).await.unwrap();
            assert_eq!(needless.maps(&paths[0]), maps.as_deref(), "{text}");
            let untold = needless.maps(&paths[1]).unwrap_or_default();
            assert!(asked.iter().all(|scope| !untold.contains(scope)), "{text}");
        }
    }
}
