//! How long something takes, again and again.

use std::{
    fmt,
    time::{Duration, Instant},
};

use meshlake_benches::Process;

/// How long one question is asked at most.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Times of repetitions.
#[derive(Debug, Default)]
pub(crate) struct Timings {
    wall: Vec<Duration>,
    /// Of all threads of the process.
    cpu: Vec<Duration>,
}

impl Timings {
    /// Asks once, which fills caches, and then up to `repetitions` times, but not after a minute. Returns the first answer as well.
    ///
    /// # Errors
    /// That of `ask`; the CPU time cannot be read.
    pub(crate) async fn take<T, E>(repetitions: usize, ask: impl AsyncFn() -> Result<T, E>) -> anyhow::Result<(T, Self)>
    where
        anyhow::Error: From<E>,
    {
        let first = ask().await?;
        let own = Process::own();
        let mut timings = Self::default();
        let begin = Instant::now();
        while timings.wall.len() < repetitions && (timings.wall.is_empty() || begin.elapsed() < TIME_MAX) {
            let (cpu, began) = (own.cpu_of_threads()?, Instant::now());
            let answer = ask().await?;
            timings.wall.push(began.elapsed());
            timings.cpu.push(own.cpu_of_threads()?.saturating_sub(cpu));
            drop(answer);
        }
        timings.wall.sort_unstable();
        timings.cpu.sort_unstable();
        Ok((first, timings))
    }
}

/// Milliseconds at a nearest rank.
fn at(sorted: &[Duration], quantile: f64) -> f64 {
    let rank = ((sorted.len() as f64 * quantile).ceil() as usize).max(1) - 1;
    sorted.get(rank).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

impl fmt::Display for Timings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wall, cpu } = self;
        write!(
            out,
            "p50 {:.2} ms, p99 {:.2} ms; CPU p50 {:.2} ms, p99 {:.2} ms",
            at(wall, 0.5),
            at(wall, 0.99),
            at(cpu, 0.5),
            at(cpu, 0.99)
        )?;
        write!(out, " ({} times)", wall.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: times of 1 to 200 ms, one time, none. Guarantee: the median and the 99th percentile are nearest ranks; none is no number.
    #[test]
    fn quantiles_are_nearest_ranks() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!((at(&sorted, 0.5), at(&sorted, 0.99)), (100.0, 198.0));
        assert_eq!((at(&sorted[..1], 0.5), at(&sorted[..1], 0.99)), (1.0, 1.0));
        assert!(at(&[], 0.5).is_nan());
    }
}
