//! Columns without a value: half of those of a span, which nobody needs to read.

use parquet::basic::Type;
use parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

/// The statistics of a chunk of which no more is told than how many of its values are null.
pub(super) fn statistics(column: Type, nulls: u64) -> Statistics {
    let nulls = Some(nulls);
    match column {
        Type::BOOLEAN => Statistics::new::<bool>(None, None, None, nulls, false),
        Type::INT32 => Statistics::new::<i32>(None, None, None, nulls, false),
        Type::INT64 => Statistics::new::<i64>(None, None, None, nulls, false),
        Type::INT96 => Statistics::new::<Int96>(None, None, None, nulls, false),
        Type::FLOAT => Statistics::new::<f32>(None, None, None, nulls, false),
        Type::DOUBLE => Statistics::new::<f64>(None, None, None, nulls, false),
        Type::BYTE_ARRAY => Statistics::new::<ByteArray>(None, None, None, nulls, false),
        Type::FIXED_LEN_BYTE_ARRAY => Statistics::new::<FixedLenByteArray>(None, None, None, nulls, false),
    }
}

/// For each column of a file of this crate whether a row may have a value: not if each row group says of each leaf that all its
/// values are null. (Elsewhere that could be lists without items too; here it is said of columns without a value only.)
pub(crate) fn columns_with_values(footer: &ParquetMetaData) -> Vec<bool> {
    let schema = footer.file_metadata().schema_descr();
    let mut valued = vec![false; schema.root_schema().get_fields().len()];
    for group in footer.row_groups() {
        for (leaf, column) in group.columns().iter().enumerate() {
            let nulls = column.statistics().and_then(Statistics::null_count_opt);
            valued[schema.get_column_root_idx(leaf)] |= nulls != Some(column.num_values() as u64);
        }
    }
    valued
}
