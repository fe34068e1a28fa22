//! The limits of numbers that multiply threads, processes or time: a slip of the finger must not stop a machine.

use std::ops::RangeInclusive;

use nimctl::worker::protocol::MAX_STREAMS;

/// Concurrent streams of a benchmark.
pub(crate) const STREAMS: RangeInclusive<i64> = 1..=MAX_STREAMS as i64;
/// Threads of one run.
pub(crate) const THREADS: RangeInclusive<i64> = 1..=1024;
/// The most threads of all streams together.
pub(crate) const MAX_THREADS: u32 = 4096;
/// Rounds of a benchmark, each with processes of its own.
pub(crate) const ROUNDS: RangeInclusive<i64> = 1..=1000;
/// Batch sizes.
pub(crate) const BATCH: RangeInclusive<u64> = 1..=1 << 24;
/// Jobs at once.
pub(crate) const JOBS: RangeInclusive<i64> = 1..=256;
/// Times of a round in milliseconds: up to an hour.
pub(crate) const MILLISECONDS: RangeInclusive<u64> = 0..=3_600_000;
/// Time limits in seconds: up to a week.
pub(crate) const SECONDS: RangeInclusive<u64> = 1..=604_800;
