//! From the bytes of a request to rows: decompress, transcode JSON, decode.

use std::fmt::Display;

use meshlake_config::{ByteSize, Config, Ingest};
use meshlake_storage::{Answer, Content, Decode, Frame, Refused, SpanBuilder};

use crate::compression::{CompressionError, decompress};
use crate::json;
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
}

impl Decode for Decoder {
    fn decode(&self, frame: &Frame, rows: &mut SpanBuilder) -> Answer {
        let limit = self.max_request_size.as_usize();
        let body = decompress(frame.encoding, &frame.body, limit).map_err(|error| match error {
            CompressionError::TooLarge { .. } => Refused::TooLarge(format!("{error}: see otlp.max_request_size")),
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
        let decoder = SpansDecoder::new(&self.settings, frame.tenant.as_str(), frame.received, rows);
        decoder.request(message).map_err(|error| invalid(&error))
    }
}
