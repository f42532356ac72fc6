//! Metrics in the text format that Prometheus reads without OpenMetrics.

use std::fmt::Write;

/// OpenMetrics text of counters, gauges and histograms as Prometheus text 0.0.4: there a counter's family has the name of its
/// samples, and neither units nor the end are told.
pub(crate) fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // HELP comes before TYPE, which tells its name.
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
        } else if !line.starts_with("# ") {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::{Registry, Unit};

    use super::*;

    /// Scenario: a metric of each kind that the process has. Guarantee: the text is what the format's description asks for.
    #[test]
    fn every_kind_has_its_form() {
        let mut registry = Registry::default();
        let counts = Family::<Vec<(&str, &str)>, Counter>::default();
        counts.get_or_create(&vec![("reason", "# TYPE x counter")]).inc();
        registry.register("refused", "Requests refused", counts);
        let seconds = Histogram::new([0.5]);
        seconds.observe(0.25);
        registry.register("sync_seconds", "Time to sync", seconds);
        registry.register_with_unit("live", "Spans in memory", Unit::Bytes, Gauge::<i64>::default());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let expected = "# HELP refused_total Requests refused.\n\
             # TYPE refused_total counter\n\
             refused_total{reason=\"# TYPE x counter\"} 1\n\
             # HELP sync_seconds Time to sync.\n\
             # TYPE sync_seconds histogram\n\
             sync_seconds_sum 0.25\n\
             sync_seconds_count 1\n\
             sync_seconds_bucket{le=\"0.5\"} 1\n\
             sync_seconds_bucket{le=\"+Inf\"} 1\n\
             # HELP live_bytes Spans in memory.\n\
             # TYPE live_bytes gauge\n\
             live_bytes 0\n";
        assert_eq!(prometheus(&text), expected);
    }
}
