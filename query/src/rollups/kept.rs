//! The sums of ranges that were asked for, while they may be asked for again.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::error::Result;
use meshlake_hops::rollup::{LeftOut, Measures, Numbers, Sums};
use parking_lot::Mutex;

use super::pieces::{Piece, PieceId};

/// Sums by key, and what H left out.
#[derive(Clone, Default)]
pub(crate) struct RangeSums {
    pub(crate) sums: Sums,
    pub(crate) left_out: LeftOut,
}

impl RangeSums {
    fn add(&mut self, piece: &Piece, scratch: &mut Measures) -> Result<()> {
        let (sums, mut numbers) = (&mut self.sums, Numbers::default());
        let left_out = piece.sums(scratch, |key, measures| sums.add(&piece.rollup, &mut numbers, key, measures))?;
        self.left_out.add(left_out, 1);
        Ok(())
    }

    /// The sum of pieces. `reserve` is told how many bytes it takes so far.
    pub(crate) async fn of<'p>(
        pieces: impl Iterator<Item = &'p Piece>,
        reserve: impl Fn(usize) -> Result<()>,
    ) -> Result<RangeSums> {
        let (mut range, mut scratch) = (RangeSums::default(), Measures::default());
        for piece in pieces {
            range.add(piece, &mut scratch)?;
            reserve(range.sums.bytes())?;
            tokio::task::yield_now().await;
        }
        Ok(range)
    }
}

/// Sums of files, and of which pieces; the least recently used go first.
pub(crate) struct KeptSums {
    limit: usize,
    kept: Mutex<VecDeque<(Vec<PieceId>, Arc<RangeSums>)>>,
}

impl KeptSums {
    /// At most so many bytes.
    pub(crate) fn new(limit: usize) -> KeptSums {
        KeptSums { limit, kept: Mutex::default() }
    }

    /// The sum of those pieces that last.
    pub(crate) async fn get(&self, pieces: &[Piece], reserve: impl Fn(usize) -> Result<()>) -> Result<Arc<RangeSums>> {
        let lasting = || pieces.iter().filter(|piece| piece.lasts);
        let ids: Vec<PieceId> = lasting().map(Piece::id).collect();
        if let Some(range) = self.find(&ids) {
            return Ok(range);
        }
        let range = Arc::new(RangeSums::of(lasting(), reserve).await?);
        let mut kept = self.kept.lock();
        kept.push_front((ids, range.clone()));
        while kept.iter().map(|(_, range)| range.sums.bytes()).sum::<usize>() > self.limit {
            kept.pop_back();
        }
        Ok(range)
    }

    fn find(&self, ids: &[PieceId]) -> Option<Arc<RangeSums>> {
        let mut kept = self.kept.lock();
        let place = kept.iter().position(|(of, _)| of == ids)?;
        let found = kept.remove(place)?;
        let range = found.1.clone();
        kept.push_front(found);
        Some(range)
    }
}
