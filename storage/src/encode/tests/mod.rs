//! Files of random rows, read back by Parquet's own reader.

mod numbers;
mod texts;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::properties::WriterProperties;

use super::FileWriter;

/// Bytes that are put at once: files have a few of them, and row groups end within.
const PART: usize = 1_000;

/// All compressions of layouts.
fn compressions() -> [Compression; 3] {
    [Compression::UNCOMPRESSED, Compression::LZ4_RAW, Compression::ZSTD(ZstdLevel::try_new(1).unwrap())]
}

/// The file of these rows.
fn file(schema: SchemaRef, layout: WriterProperties, batches: &[RecordBatch]) -> Bytes {
    let write = async {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("file");
        let mut writer = FileWriter::new(store.clone(), path.clone(), PART, schema, layout).unwrap();
        for batch in batches {
            writer.write(batch).await.unwrap();
        }
        let size = writer.finish().await.unwrap();
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(size, bytes.len() as u64);
        bytes
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(write)
}

/// What a file says of itself, and its rows.
fn read(bytes: Bytes) -> (Arc<ParquetMetaData>, Vec<RecordBatch>) {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let metadata = ArrowReaderMetadata::load(&bytes, options).unwrap();
    let footer = metadata.metadata().clone();
    let rows = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata).build().unwrap();
    (footer, rows.map(Result::unwrap).collect())
}
