//! The sums of lake files that were asked for together, while they may be asked for again.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::error::Result;
use meshlake_hops::rollup::{LeftOut, Measures, Numbers, Sums, Total};
use parking_lot::Mutex;

use super::piece::{Piece, PieceId};
use super::pieces::Summed;

/// Sums by key, and what H left out.
#[derive(Default)]
pub(crate) struct RangeSums {
    pub(crate) total: Total,
    pub(crate) left_out: LeftOut,
}

impl RangeSums {
    /// The sum of pieces. `reserve` is told how many bytes it takes so far.
    async fn of(summed: &Summed, pieces: &[&Piece], reserve: impl Fn(usize) -> Result<()>) -> Result<RangeSums> {
        let (mut sums, mut scratch, mut left_out) = (Sums::new(), Measures::default(), LeftOut::default());
        for piece in pieces {
            let (open, mut numbers) = (piece.totals(summed).await?, Numbers::default());
            open.sums(&mut scratch, |key, measures| sums.add(&open.keys, &mut numbers, key, measures))?;
            left_out.add(piece.left_out(), 1);
            reserve(sums.bytes())?;
            tokio::task::yield_now().await;
        }
        Ok(RangeSums { total: sums.finish(), left_out })
    }
}

/// Values that are made of pieces, by what they are made of; the least recently used go first.
pub(crate) struct Kept<K, T> {
    limit: usize,
    /// With the bytes of each.
    kept: Mutex<VecDeque<(K, Arc<T>, usize)>>,
}

impl<K: PartialEq, T> Kept<K, T> {
    /// At most so many bytes.
    pub(crate) fn new(limit: usize) -> Kept<K, T> {
        Kept { limit, kept: Mutex::default() }
    }

    pub(crate) fn find(&self, of: &K) -> Option<Arc<T>> {
        let mut kept = self.kept.lock();
        let place = kept.iter().position(|(known, ..)| known == of)?;
        let found = kept.remove(place)?;
        let value = found.1.clone();
        kept.push_front(found);
        Some(value)
    }

    pub(crate) fn keep(&self, of: K, value: T, bytes: usize) -> Arc<T> {
        let value = Arc::new(value);
        let mut kept = self.kept.lock();
        kept.push_front((of, value.clone(), bytes));
        while kept.iter().map(|(.., bytes)| bytes).sum::<usize>() > self.limit {
            kept.pop_back();
        }
        value
    }
}

/// Sums of pieces.
pub(crate) type KeptSums = Kept<Vec<PieceId>, RangeSums>;

/// The sum of pieces that last, from memory if it is there. `reserve` is told how many bytes it takes to make it.
pub(crate) async fn kept_sums(summed: &Summed, pieces: &[&Piece], reserve: impl Fn(usize) -> Result<()>) -> Result<Arc<RangeSums>> {
    let ids: Vec<PieceId> = pieces.iter().map(|piece| piece.id()).collect();
    if let Some(range) = summed.rollups.kept.find(&ids) {
        return Ok(range);
    }
    let range = RangeSums::of(summed, pieces, reserve).await?;
    let bytes = range.total.bytes() + ids.len() * size_of::<PieceId>();
    Ok(summed.rollups.kept.keep(ids, range, bytes))
}
