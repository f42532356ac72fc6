//! From the bytes of a request to rows: decompress, transcode JSON, decode.

use std::fmt::Display;

use meshlake_config::{ByteSize, Config, Ingest, Otlp};
use meshlake_storage::{Answer, Content, Decode, Frame, Refused, SpanBuilder};

use crate::compression::{CompressionError, decompress};
use crate::json;
use crate::room::Room;
use crate::spans::SpansDecoder;

/// The collector's decoder: the same for a request that arrives and for one that is replayed from the journal.
#[derive(Clone, Debug)]
pub struct Decoder {
    settings: Ingest,
    max_request_size: ByteSize,
}

impl Decoder {
    /// A decoder with the limits and identity settings of `config`.
    pub fn new(config: &Config) -> Decoder {
        Decoder { settings: config.ingest.clone(), max_request_size: config.otlp.max_request_size }
    }

    fn decode_within(&self, limit: ByteSize, frame: &Frame, rows: &mut SpanBuilder) -> Answer {
        let body = decompress(frame.encoding, &frame.body, limit.as_usize()).map_err(|error| match error {
            CompressionError::TooLarge { .. } => Refused::TooLarge(error.to_string()),
            CompressionError::Corrupt { .. } => Refused::Invalid(error.to_string()),
        })?;
        let invalid = |error: &dyn Display| Refused::Invalid(error.to_string());
        let transcoded;
        let message = match frame.content {
            Content::Protobuf => &*body,
            Content::Json => {
                transcoded = json::to_protobuf(&body).map_err(|error| invalid(&error))?;
                &*transcoded
            }
        };
        let room = Room::of_request(frame.body.len(), message.len());
        let decoder = SpansDecoder::new(&self.settings, frame.tenant.as_str(), frame.received, room, rows);
        decoder.request(message).map_err(|error| invalid(&error))
    }
}

impl Decode for Decoder {
    fn decode(&self, frame: &Frame, rows: &mut SpanBuilder) -> Answer {
        self.decode_within(self.max_request_size, frame, rows)
    }

    fn replay(&self, frame: &Frame, rows: &mut SpanBuilder) -> Answer {
        self.decode_within(Otlp::MAX_REQUEST_SIZE, frame, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshlake_config::Tenant;
    use meshlake_storage::Encoding;

    /// Scenario: a request was acknowledged, then `otlp.max_request_size` is lowered and the journal replayed. Guarantee: the
    /// limit refuses what comes, never what was acknowledged.
    #[test]
    fn a_lowered_limit_loses_nothing() {
        let mut config = Config::default();
        config.otlp.max_request_size = ByteSize::kib(1);
        let decoder = Decoder::new(&config);
        // An unknown field of 2 KiB.
        let message = [&[0x12, 0x80, 0x10][..], &[0; 2 << 10]].concat();
        let body = zstd::encode_all(&*message, 1).unwrap().into();
        let frame = Frame { tenant: Tenant::default(), content: Content::Protobuf, encoding: Encoding::Zstd, received: 0, body };
        let mut rows = SpanBuilder::default();
        assert!(matches!(decoder.decode(&frame, &mut rows), Err(Refused::TooLarge(_))));
        assert!(decoder.replay(&frame, &mut rows).is_ok());
    }
}
