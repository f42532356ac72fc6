//! Content negotiation: which of the types we can write does the client want (RFC 9110, section 12.5.1).

use http::{HeaderMap, header};

use crate::problem::{Kind, Problem};

/// The offer with the highest quality in the `Accept` headers; the first of equals, and the first of all without the header.
///
/// # Errors
/// 406 where the client takes none of the offers.
pub(crate) fn choose(headers: &HeaderMap, offers: &[&'static str]) -> Result<&'static str, Problem> {
    let ranges: Vec<Range> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();
    let first = offers.first().copied();
    if ranges.is_empty() {
        return first.ok_or_else(|| refused(offers));
    }
    let mut best = None;
    let mut best_quality = 0;
    for offer in offers {
        let quality = quality(&ranges, offer);
        if quality > best_quality {
            (best, best_quality) = (Some(*offer), quality);
        }
    }
    best.ok_or_else(|| refused(offers))
}

fn refused(offers: &[&'static str]) -> Problem {
    Problem::new(
        Kind::NotAcceptable,
        format!("no type of the accept header can be written here: available are {}", offers.join(", ")),
    )
}

/// What the most specific range that covers the offer says of it, in thousandths.
fn quality(ranges: &[Range], offer: &str) -> u16 {
    ranges
        .iter()
        .filter_map(|range| Some((range.specificity(offer)?, range.quality)))
        .max_by_key(|(specificity, _)| *specificity)
        .map_or(0, |(_, quality)| quality)
}

/// One media range of an `Accept` header. Parameters other than `q` are ignored: none of ours has any that a client must know.
struct Range {
    media: String,
    /// Thousandths.
    quality: u16,
}

impl Range {
    fn parse(text: &str) -> Option<Range> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|media| media.contains('/'))?.to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = match quality {
            None => 1_000,
            Some(text) => thousandths(text)?,
        };
        Some(Range { media, quality })
    }

    fn specificity(&self, offer: &str) -> Option<u8> {
        match self.media.strip_suffix("/*") {
            Some("*") => Some(0),
            Some(family) => offer.split_once('/').filter(|(offered, _)| *offered == family).map(|_| 1),
            None => (self.media == offer).then_some(2),
        }
    }
}

/// A quality value: 0 to 1 with up to three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let value = text.parse::<f32>().ok().filter(|value| (0.0..=1.0).contains(value))?;
    // In 0 to 1000 by the check above.
    Some((value * 1_000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [&str; 3] = ["application/json", "text/csv", "application/vnd.apache.arrow.stream"];

    fn chosen(accept: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        choose(&headers, &OFFERS).ok()
    }

    #[test]
    fn the_clients_wish_decides_and_our_order_breaks_ties() {
        assert_eq!(choose(&HeaderMap::new(), &OFFERS).ok(), Some("application/json"));
        for (accept, expected) in [
            ("*/*", Some("application/json")),
            ("text/csv", Some("text/csv")),
            ("Text/CSV; charset=utf-8", Some("text/csv")),
            ("text/*", Some("text/csv")),
            ("application/json;q=0.1, text/csv;q=0.9", Some("text/csv")),
            ("text/csv, application/json", Some("application/json")),
            ("*/*, application/json;q=0", Some("text/csv")),
            ("application/*;q=0.5, application/json;q=0.4", Some("application/vnd.apache.arrow.stream")),
            ("text/html, application/xhtml+xml, */*;q=0.8", Some("application/json")),
            ("text/html", None),
            ("application/json;q=0", None),
            ("application/json;q=2, text/csv", Some("text/csv")),
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
    }

    #[test]
    fn several_headers_count_as_one() {
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT, "text/html".parse().unwrap());
        headers.append(header::ACCEPT, "text/csv".parse().unwrap());
        assert_eq!(choose(&headers, &OFFERS).ok(), Some("text/csv"));
    }
}
