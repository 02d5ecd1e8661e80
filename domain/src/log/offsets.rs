//! The four offsets of a log: log start <= last stable offset <= high watermark <= log end.

use crate::error::{ApiError, ErrorCode};
use crate::ids::Offset;

/// Where a log begins, what is replicated, what is decided and where it ends. The order of the four always holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOffsets {
    log_start: Offset,
    high_watermark: Offset,
    log_end: Offset,
}

impl LogOffsets {
    /// The offsets of a log as it was found: the high watermark is what was checkpointed, brought between the two ends.
    pub fn new(log_start: Offset, log_end: Offset, checkpointed_high_watermark: Offset) -> LogOffsets {
        let log_end = log_end.max(log_start);
        LogOffsets {
            log_start,
            high_watermark: checkpointed_high_watermark.clamp(log_start, log_end),
            log_end,
        }
    }

    /// The first offset that can be read; it moves by retention and by DeleteRecords.
    pub const fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The offset below which everything is on all in-sync replicas: what consumers see.
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The offset that the next record gets.
    pub const fn log_end(&self) -> Offset {
        self.log_end
    }

    /// The offset below which every transaction is decided: what consumers with isolation.level=read_committed see.
    pub fn last_stable(&self, first_unstable: Option<Offset>) -> Offset {
        first_unstable
            .map_or(self.high_watermark, |unstable| unstable.max(self.log_start))
            .min(self.high_watermark)
    }

    /// Records were appended up to `next_offset`.
    pub fn advance_log_end(&mut self, next_offset: Offset) {
        self.log_end = self.log_end.max(next_offset);
    }

    /// Sets the high watermark, brought between the two ends; it may fall, as a follower's does when its leader changes.
    pub fn set_high_watermark(&mut self, high_watermark: Offset) -> Offset {
        self.high_watermark = high_watermark.clamp(self.log_start, self.log_end);
        self.high_watermark
    }

    /// Raises the high watermark as far as the log reaches; true when it rose.
    pub fn raise_high_watermark(&mut self, high_watermark: Offset) -> bool {
        let raised = high_watermark.min(self.log_end) > self.high_watermark;
        if raised {
            self.high_watermark = high_watermark.min(self.log_end);
        }
        raised
    }

    /// Raises the log start; true when it rose. It must not pass the high watermark: OFFSET_OUT_OF_RANGE.
    pub fn raise_log_start(&mut self, log_start: Offset) -> Result<bool, ApiError> {
        if log_start > self.high_watermark {
            return Err(ErrorCode::OffsetOutOfRange.with(format!(
                "log start offset {log_start} is beyond the high watermark {}",
                self.high_watermark
            )));
        }
        let raised = log_start > self.log_start;
        self.log_start = self.log_start.max(log_start);
        Ok(raised)
    }

    /// The log was cut so that it ends at `log_end`; the other offsets follow it down.
    pub fn truncate_to(&mut self, log_end: Offset) {
        self.log_end = self.log_end.min(log_end);
        self.high_watermark = self.high_watermark.min(self.log_end);
        self.log_start = self.log_start.min(self.log_end);
    }

    /// Everything was deleted; the log is empty and begins at `offset`.
    pub fn restart_at(&mut self, offset: Offset) {
        *self = LogOffsets::new(offset, offset, offset);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Append(i64),
        SetHighWatermark(i64),
        RaiseHighWatermark(i64),
        RaiseLogStart(i64),
        Truncate(i64),
        Restart(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let offset = 0i64..50;
        prop_oneof![
            offset.clone().prop_map(Step::Append),
            offset.clone().prop_map(Step::SetHighWatermark),
            offset.clone().prop_map(Step::RaiseHighWatermark),
            offset.clone().prop_map(Step::RaiseLogStart),
            offset.clone().prop_map(Step::Truncate),
            offset.prop_map(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn the_order_always_holds(steps in proptest::collection::vec(step(), 0..40), unstable in proptest::option::of(0i64..50)) {
            let mut offsets = LogOffsets::new(Offset(3), Offset(20), Offset(0));
            for step in steps {
                match step {
                    Step::Append(to) => offsets.advance_log_end(Offset(to)),
                    Step::SetHighWatermark(to) => { offsets.set_high_watermark(Offset(to)); }
                    Step::RaiseHighWatermark(to) => {
                        let before = offsets.high_watermark();
                        prop_assert_eq!(offsets.raise_high_watermark(Offset(to)), offsets.high_watermark() > before);
                    }
                    Step::RaiseLogStart(to) => {
                        let before = offsets;
                        if offsets.raise_log_start(Offset(to)).is_err() {
                            prop_assert_eq!(offsets, before);
                        }
                    }
                    Step::Truncate(to) => offsets.truncate_to(Offset(to)),
                    Step::Restart(at) => offsets.restart_at(Offset(at)),
                }
                let stable = offsets.last_stable(unstable.map(Offset));
                prop_assert!(offsets.log_start() <= stable && stable <= offsets.high_watermark());
                prop_assert!(offsets.high_watermark() <= offsets.log_end());
            }
        }
    }

    #[test]
    fn an_open_transaction_holds_the_last_stable_offset() {
        let offsets = LogOffsets::new(Offset(5), Offset(20), Offset(15));
        assert_eq!(offsets.last_stable(None), Offset(15));
        assert_eq!(offsets.last_stable(Some(Offset(9))), Offset(9));
        assert_eq!(offsets.last_stable(Some(Offset(2))), Offset(5));
        assert_eq!(offsets.last_stable(Some(Offset(18))), Offset(15));
    }
}
