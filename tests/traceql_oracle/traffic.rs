//! The random traces and queries of `traceql/tests`, at times of a day, and with keys of attributes that a store keeps in several ways.

use std::collections::BTreeSet;

use meshlake_traceql::{Array, Value};
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::common::{Attributes, Span, random};
use crate::store::{Chance, TraceId};

/// 2026-01-01T00:00:00Z, nanoseconds.
pub const START: u64 = 1_767_225_600_000_000_000;
pub const MINUTE: u64 = 60_000_000_000;

/// The keys that the generator has, and what they are called instead: what has a column of its own, shares one, or has none.
const PLAIN: [&str; 3] = ["a", "b", "c"];
const KEYS: [[&str; 3]; 4] = [
    PLAIN,
    ["http.status_code", "http.method", "service.version"],
    ["http.request.method", "http.method", "http.response.status_code"],
    HOSTS,
];
const HOSTS: [&str; 3] = ["host.name", "http.url", "db.system"];
/// The generator's times are few: a nanosecond of its own is as long as one of these.
const SCALES: [u64; 4] = [1, 1_000, 1_000_000, MINUTE];
/// When the generator's traces begin.
const FIRST: u64 = 1_000;

/// What is sent to a store, and asked of it.
pub struct Traffic {
    runner: TestRunner,
    keys: [&'static str; 3],
}

impl Traffic {
    pub fn new(chance: &mut Chance) -> Traffic {
        let seed: Vec<u8> = (0..4).flat_map(|_| chance.next().to_le_bytes()).collect();
        let runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        Traffic { runner, keys: chance.pick(&KEYS) }
    }

    fn any<T: std::fmt::Debug>(&mut self, strategy: impl Strategy<Value = T>) -> T {
        strategy.new_tree(&mut self.runner).unwrap().current()
    }

    /// The spans of some traces, in any order.
    pub fn spans(&mut self, chance: &mut Chance, traces: u64) -> Vec<(TraceId, Span)> {
        let mut all = Vec::new();
        for _ in 0..traces {
            let mut id = [1; 16];
            id[..8].copy_from_slice(&chance.next().to_le_bytes());
            let (start, scale) = (START + MINUTE + chance.below(180 * MINUTE), chance.pick(&SCALES));
            let mut seen = BTreeSet::new();
            for mut span in self.any(random::trace()).spans {
                span.start = start + (span.start - FIRST) * scale;
                self.rename(&mut span);
                // Of two spans of one id and kind, either may be the parent.
                if seen.insert((span.id, span.kind)) {
                    all.push((chance.next(), (id, span)));
                }
            }
        }
        all.sort_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, span)| span).collect()
    }

    fn rename(&self, span: &mut Span) {
        self.rename_all(&mut span.span);
        self.rename_all(&mut span.resource);
        self.rename_all(&mut span.instrumentation);
        span.events.iter_mut().for_each(|(_, _, attributes)| self.rename_all(attributes));
        span.links.iter_mut().for_each(|(_, attributes)| self.rename_all(attributes));
    }

    fn rename_all(&self, attributes: &mut Attributes) {
        // Keys are unique in OTLP; which value counts where they are not, hangs on their columns.
        let mut seen = BTreeSet::new();
        attributes.retain(|(name, _)| seen.insert(name.clone()));
        for (name, value) in attributes {
            if let Some(place) = PLAIN.iter().position(|plain| plain == name) {
                *name = self.keys[place].to_owned();
            }
            // OTLP does not know of what type the values of an empty array are.
            if matches!(value, Value::Array(array) if array.is_empty()) {
                *value = Value::Array(Array::Text(Vec::new()));
            }
        }
    }

    /// A query that asks for the keys that spans have.
    fn query(&self, text: String) -> String {
        PLAIN.iter().zip(self.keys).fold(text, |text, (plain, key)| {
            renamed(&text, &format!(".{plain}"), &format!(".{key}")).replace(&format!(".\"{plain}\""), &format!(".\"{key}\""))
        })
    }

    pub fn search(&mut self) -> String {
        self.asking(random::pipeline)
    }

    pub fn series(&mut self) -> String {
        self.asking(random::series)
    }

    fn asking(&mut self, of: fn() -> BoxedStrategy<String>) -> String {
        loop {
            let text = self.any(of());
            // Hosts and databases have nodes of their own, which `graph_oracle` knows.
            if self.keys != HOSTS || !text.contains("meshlake") {
                return self.query(text);
            }
        }
    }
}

/// The text with another name, wherever the whole of it stands.
fn renamed(text: &str, from: &str, to: &str) -> String {
    let mut parts = text.split(from);
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |all, part| {
        let name = if part.starts_with(char::is_alphanumeric) { from } else { to };
        all + name + part
    })
}
