//! What a cleaning must know of transactions. Aborted ones are found by looking ahead, where there are any at all: the
//! batches that follow, up to their markers, will be read soon anyway.

use std::sync::Arc;

use ottla_domain::ids::Offset;
use ottla_domain::log::compaction::{AbortedFinder, CleanedTransactions};
use ottla_domain::ports::outbound::CleaningError;
use ottla_domain::record::batch::{BatchHeader, HEADER_SIZE_BYTES};
use ottla_domain::record::control::ControlRecordType;
use ottla_domain::record::records::Records;

use super::{Job, uncleanable};
use crate::log::Log;
use crate::scan::Step;
use crate::segment::Segment;

/// The transactions along a walk through the log.
pub(super) struct Transactions<'a> {
    /// All of the log: the marker of a transaction may lie behind what is cleaned.
    segments: &'a [Arc<Segment>],
    met: CleanedTransactions,
    /// Up to here aborted transactions are known.
    known_until: Offset,
}

impl<'a> Transactions<'a> {
    pub(super) fn new(segments: &'a [Arc<Segment>]) -> Self {
        Transactions {
            segments,
            met: CleanedTransactions::default(),
            known_until: Offset::ZERO,
        }
    }

    /// Takes in the next batch of the walk; true when it is not needed, see [`CleanedTransactions`].
    pub(super) fn can_discard(
        &mut self,
        job: &Job<'_>,
        segment: &Segment,
        header: &BatchHeader,
        body: &[u8],
    ) -> Result<bool, CleaningError> {
        if header.attributes.is_control() {
            let record = control_type(segment, header, body)?;
            return Ok(self.met.on_control(header, record));
        }
        if header.attributes.is_transactional() && header.base_offset >= self.known_until {
            self.look_ahead(job, header.base_offset)?;
        }
        Ok(self.met.on_data(header))
    }

    /// Finds the aborted transactions with data from `from` to the end of its segment.
    fn look_ahead(&mut self, job: &Job<'_>, from: Offset) -> Result<(), CleaningError> {
        let segments = Log::segments_from(self.segments, from);
        let until = segments.get(1).map_or(Offset(i64::MAX), |next| next.base_offset);
        let mut finder = AbortedFinder::default();
        for segment in segments {
            if segment.base_offset >= until && !finder.is_open_below(until) {
                break;
            }
            let located = segment.locate(&job.log.index, from, job.log.interval_bytes());
            let Ok(start) = job.or_fail(located, "reading a segment of")? else {
                continue;
            };
            let mut scanner = segment.sweep(start.position, segment.size_bytes());
            while let Step::Batch(batch) = job.or_fail(scanner.next(), "reading a segment of")? {
                let header = &batch.header;
                if header.base_offset >= until && !finder.is_open_below(until) {
                    break;
                }
                if header.attributes.is_control() {
                    let bytes = job.or_fail(scanner.load(&batch), "reading a segment of")?;
                    let body = bytes.get(HEADER_SIZE_BYTES..).unwrap_or_default();
                    finder.on_control(header, control_type(segment, header, body)?);
                } else {
                    finder.on_data(header);
                }
            }
            job.pace(scanner.read_bytes())?;
        }
        self.known_until = until;
        self.met.add_aborted(finder.into_found());
        Ok(())
    }
}

/// What the record of a control batch is; `None` where compaction took it.
fn control_type(
    segment: &Segment,
    header: &BatchHeader,
    body: &[u8],
) -> Result<Option<ControlRecordType>, CleaningError> {
    let mut records = Records::new(header, body).map_err(|error| uncleanable(segment, header, error))?;
    let Some(record) = records.next() else {
        return Ok(None);
    };
    let record = record.map_err(|error| uncleanable(segment, header, error))?;
    let key = record.key.unwrap_or_default();
    let kind = ControlRecordType::parse_key(key).map_err(|error| uncleanable(segment, header, error))?;
    Ok(Some(kind))
}
