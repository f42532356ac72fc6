//! What H reads of the attributes that have no column of their own.

use meshlake_hops::End;
use meshlake_storage::{Found, ResidualMap};

/// The attributes of one span. Of a key that is given twice the first value counts.
#[derive(Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) source: End<'a>,
    pub(crate) destination: End<'a>,
    pub(crate) retry_count: Option<i64>,
    pub(crate) source_principal: &'a str,
    db_name: &'a str,
    db_namespace: &'a str,
    pub(crate) messaging_system: &'a str,
    messaging_operation: &'a str,
    messaging_operation_type: &'a str,
}

impl<'a> Attributes<'a> {
    /// Those of a row; none where it has nothing that is read, as most have.
    pub(crate) fn read(map: &ResidualMap<'a>, row: usize) -> Option<Attributes<'a>> {
        let mut entries = map.entries_of(row, may_be_read).peekable();
        entries.peek()?;
        let mut attributes = Attributes::default();
        for (key, value) in entries {
            match (key, value) {
                ("retry.count", Some(Found::Int(count))) => attributes.note_retry(Some(count)),
                ("retry.count", Some(Found::Text(count))) => attributes.note_retry(count.parse().ok()),
                (_, Some(Found::Text(text))) => attributes.note(key, text),
                _ => {}
            }
        }
        Some(attributes)
    }

    fn note_retry(&mut self, count: Option<i64>) {
        self.retry_count = self.retry_count.or(count);
    }

    fn note(&mut self, key: &str, text: &'a str) {
        let field = if let Some(part) = key.strip_prefix("istio.source_") {
            part_of(&mut self.source, part)
        } else if let Some(part) = key.strip_prefix("istio.destination_") {
            part_of(&mut self.destination, part)
        } else {
            match key {
                "db.name" => Some(&mut self.db_name),
                "db.namespace" => Some(&mut self.db_namespace),
                "source.principal" => Some(&mut self.source_principal),
                "messaging.system" => Some(&mut self.messaging_system),
                "messaging.operation" => Some(&mut self.messaging_operation),
                "messaging.operation.type" => Some(&mut self.messaging_operation_type),
                _ => None,
            }
        };
        if let Some(field) = field.filter(|field| field.is_empty()) {
            *field = text;
        }
    }

    /// `db.namespace`, before it was called so `db.name`.
    pub(crate) fn db_namespace(&self) -> &'a str {
        if self.db_namespace.is_empty() { self.db_name } else { self.db_namespace }
    }

    /// `messaging.operation.type`, before it was called so `messaging.operation`.
    pub(crate) fn messaging_operation(&self) -> &'a str {
        if self.messaging_operation_type.is_empty() { self.messaging_operation } else { self.messaging_operation_type }
    }
}

/// Whether H may read an attribute: of most their first bytes tell that it does not.
fn may_be_read(key: &str) -> bool {
    let prefix = match key.as_bytes().first() {
        Some(b'i') => "istio.",
        Some(b'r') => "retry.",
        Some(b's') => "source.",
        Some(b'd') => "db.",
        Some(b'm') => "messaging.",
        _ => return false,
    };
    key.starts_with(prefix)
}

fn part_of<'a, 'e>(end: &'e mut End<'a>, part: &str) -> Option<&'e mut &'a str> {
    match part {
        "cluster_id" => Some(&mut end.cluster),
        "namespace" => Some(&mut end.namespace),
        "workload" => Some(&mut end.workload),
        "canonical_service" => Some(&mut end.service),
        "app_version" => Some(&mut end.version),
        _ => None,
    }
}

/// The text of a resource attribute.
pub(crate) fn text<'a>(map: &ResidualMap<'a>, row: usize, wanted: &str) -> &'a str {
    let texts = map.entries_of(row, |key| key == wanted).filter_map(|(_, value)| match value {
        Some(Found::Text(text)) => Some(text),
        _ => None,
    });
    texts.into_iter().next().unwrap_or_default()
}
