//! Which records a cleaning drops because their transaction was aborted, and which markers nobody needs any more
//! (`CleanedTransactionMetadata` in Kafka).

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{Offset, ProducerId};
use crate::log::producers::AbortedTxn;
use crate::record::batch::BatchHeader;
use crate::record::control::ControlRecordType;

/// The transactions that a walk through a log is in. All of them are decided: a log is cleaned below its last stable offset
/// only.
#[derive(Debug, Default)]
pub struct CleanedTransactions {
    /// Producers of whose transaction, which was or will be committed, data was met.
    committed: BTreeSet<ProducerId>,
    /// Aborted transactions that have begun, and whether data of them was met.
    aborted: BTreeMap<ProducerId, bool>,
    /// Aborted transactions that are still to come, by first offset.
    upcoming: BTreeSet<(Offset, ProducerId)>,
}

impl CleanedTransactions {
    /// Tells of aborted transactions before the walk comes by them.
    pub fn add_aborted(&mut self, aborted: impl IntoIterator<Item = AbortedTxn>) {
        let aborted = aborted.into_iter().map(|txn| (txn.first_offset, txn.producer_id));
        self.upcoming.extend(aborted);
    }

    fn advance(&mut self, last_offset: Offset) {
        while let Some((first_offset, producer_id)) = self.upcoming.first().copied()
            && first_offset <= last_offset
        {
            self.upcoming.pop_first();
            self.aborted.entry(producer_id).or_insert(false);
        }
    }

    /// The walk came by a batch of data; true when its transaction was aborted.
    pub fn on_data(&mut self, batch: &BatchHeader) -> bool {
        self.advance(batch.last_offset());
        if !batch.attributes.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&batch.producer_id) {
            Some(met) => {
                *met = true;
                true
            }
            None => {
                self.committed.insert(batch.producer_id);
                false
            }
        }
    }

    /// The walk came by a control batch with this record; `None` when it has none, because it was cleaned already. True
    /// when it may go: no data of its transaction is left.
    pub fn on_control(&mut self, batch: &BatchHeader, record: Option<ControlRecordType>) -> bool {
        self.advance(batch.last_offset());
        match record {
            Some(ControlRecordType::Abort) => self.aborted.remove(&batch.producer_id) != Some(true),
            Some(ControlRecordType::Commit) => !self.committed.remove(&batch.producer_id),
            Some(_) => false,
            None => true,
        }
    }
}

/// Finds aborted transactions by looking at the batches of a log in order, from data of the transactions on to their
/// markers.
#[derive(Debug, Default)]
pub struct AbortedFinder {
    open: BTreeMap<ProducerId, Offset>,
    found: Vec<AbortedTxn>,
}

impl AbortedFinder {
    /// Takes in a batch of data.
    pub fn on_data(&mut self, batch: &BatchHeader) {
        if batch.attributes.is_transactional() {
            self.open.entry(batch.producer_id).or_insert(batch.base_offset);
        }
    }

    /// Takes in a control batch.
    pub fn on_control(&mut self, batch: &BatchHeader, record: Option<ControlRecordType>) {
        let Some(kind @ (ControlRecordType::Abort | ControlRecordType::Commit)) = record else {
            return;
        };
        if let Some(first_offset) = self.open.remove(&batch.producer_id)
            && kind == ControlRecordType::Abort
        {
            self.found.push(AbortedTxn {
                producer_id: batch.producer_id,
                first_offset,
                last_offset: batch.base_offset,
                last_stable_offset: batch.next_offset(),
            });
        }
    }

    /// True when a transaction is open whose data begins below `offset`.
    pub fn is_open_below(&self, offset: Offset) -> bool {
        self.open.values().any(|first_offset| *first_offset < offset)
    }

    /// The aborted transactions that were found.
    pub fn into_found(self) -> Vec<AbortedTxn> {
        self.found
    }
}
