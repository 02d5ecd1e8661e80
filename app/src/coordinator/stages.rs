//! Where the time of commands goes.

use ottla_wire::{Histogram, HistogramTotals};
use tokio::time::Instant;

/// What is measured of the work of a coordinator (`CoordinatorRuntimeMetrics` in Apache Kafka).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// A command waits for its turn.
    Queue,
    /// A command is taken.
    Processing,
    /// A batch of records is appended.
    Flush,
}

impl Stage {
    /// All of them, in the order of their numbers.
    pub const ALL: [Stage; 3] = [Stage::Queue, Stage::Processing, Stage::Flush];
}

/// How long the stages took, of all shards of a coordinator together, so that it outlives each of them.
pub(super) struct Stages([Histogram; Stage::ALL.len()]);

/// [`Stages`] of a moment, in nanoseconds.
pub struct StageTotals([HistogramTotals; Stage::ALL.len()]);

impl Stages {
    pub(super) fn new() -> Self {
        Stages(Stage::ALL.map(|_| Histogram::new()))
    }

    pub(super) fn record(&self, stage: Stage, begun: Instant, done: Instant) {
        let nanos = done.saturating_duration_since(begun).as_nanos();
        if let Some(histogram) = self.0.get(stage as usize) {
            histogram.record_beside_others(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn totals(&self) -> StageTotals {
        StageTotals(self.0.each_ref().map(|histogram| {
            let mut totals = HistogramTotals::new();
            totals.add(histogram);
            totals
        }))
    }
}

impl StageTotals {
    /// The times in ms that these shares of all since `before` were at or below; zeros when there were none.
    pub fn quantiles_ms<const N: usize>(&self, before: &StageTotals, stage: Stage, quantiles: [f64; N]) -> [f64; N] {
        let (now, before) = (self.0.get(stage as usize), before.0.get(stage as usize));
        let nanos = now.map_or([0.0; N], |now| now.quantiles(before, quantiles));
        nanos.map(|nanos| nanos / 1_000_000.0)
    }
}
