//! Any bytes as a request.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use meshlake_collector::Decoder;
use meshlake_config::{ByteSize, Config, Tenant};
use meshlake_storage::{Content, Decode, Encoding, Frame, SpanBuilder};

static DECODER: LazyLock<Decoder> = LazyLock::new(|| {
    let mut config = Config::default();
    // What a few bytes may become when they are decompressed, so that each run is short.
    config.otlp.max_request_size = ByteSize::mib(1);
    Decoder::new(&config)
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let frame = Frame {
        tenant: Tenant::default(),
        content: if choice & 1 == 0 { Content::Protobuf } else { Content::Json },
        encoding: [Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Identity][usize::from(choice >> 1 & 3)],
        received: 0,
        body: body.to_vec().into(),
    };
    let mut rows = SpanBuilder::default();
    if DECODER.decode(&frame, &mut rows).is_err() {
        rows.truncate(0);
    }
    rows.finish().expect("columns of any request make a batch");
});
