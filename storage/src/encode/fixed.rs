//! Values of a fixed width: numbers, times and ids.

use std::borrow::Cow;
use std::hash::Hash;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use parquet::data_type::FixedLenByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};

/// A value as Parquet has it. In their order, statistics of its columns are kept.
pub(super) trait Fixed: Copy + Ord + Hash + Send + 'static {
    /// Itself in Parquet's PLAIN encoding.
    type Plain: AsRef<[u8]>;
    /// Bytes of that.
    const WIDTH: usize;

    /// The values of rows, and of those without one any; none if rows are of another type.
    fn values(rows: &dyn Array) -> Option<Cow<'_, [Self]>>;

    fn plain(self) -> Self::Plain;

    /// The statistics of values between two of them.
    fn statistics(bounds: Option<(Self, Self)>, nulls: u64) -> Statistics;
}

impl Fixed for i32 {
    type Plain = [u8; 4];
    const WIDTH: usize = 4;

    fn values(rows: &dyn Array) -> Option<Cow<'_, [i32]>> {
        if let Some(rows) = rows.as_primitive_opt::<Int16Type>() {
            return Some(rows.values().iter().map(|value| i32::from(*value)).collect());
        }
        Some(Cow::Borrowed(rows.as_primitive_opt::<Int32Type>()?.values()))
    }

    fn plain(self) -> [u8; 4] {
        self.to_le_bytes()
    }

    fn statistics(bounds: Option<(i32, i32)>, nulls: u64) -> Statistics {
        signed(bounds, nulls).into()
    }
}

impl Fixed for i64 {
    type Plain = [u8; 8];
    const WIDTH: usize = 8;

    fn values(rows: &dyn Array) -> Option<Cow<'_, [i64]>> {
        let numbers = rows.as_primitive_opt::<Int64Type>().map(|rows| rows.values());
        let times = || rows.as_primitive_opt::<TimestampMicrosecondType>().map(|rows| rows.values());
        numbers.or_else(times).map(|values| Cow::Borrowed(&**values))
    }

    fn plain(self) -> [u8; 8] {
        self.to_le_bytes()
    }

    fn statistics(bounds: Option<(i64, i64)>, nulls: u64) -> Statistics {
        signed(bounds, nulls).into()
    }
}

impl<const N: usize> Fixed for [u8; N] {
    type Plain = [u8; N];
    const WIDTH: usize = N;

    fn values(rows: &dyn Array) -> Option<Cow<'_, [[u8; N]]>> {
        let rows = rows.as_fixed_size_binary_opt().filter(|rows| *rows.data_type() == DataType::FixedSizeBinary(N as i32))?;
        Some(Cow::Borrowed(rows.value_data().as_chunks().0))
    }

    fn plain(self) -> [u8; N] {
        self
    }

    fn statistics(bounds: Option<([u8; N], [u8; N])>, nulls: u64) -> Statistics {
        let bound = |value: [u8; N]| FixedLenByteArray::from(value.to_vec());
        let (min, max) = bounds.map(|(min, max)| (bound(min), bound(max))).unzip();
        Statistics::new(min, max, None, Some(nulls), false)
    }
}

/// Statistics of signed numbers, which stand where older readers look for them too.
fn signed<T>(bounds: Option<(T, T)>, nulls: u64) -> ValueStatistics<T> {
    let (min, max) = bounds.unzip();
    ValueStatistics::new(min, max, None, Some(nulls), false).with_backwards_compatible_min_max(true)
}
