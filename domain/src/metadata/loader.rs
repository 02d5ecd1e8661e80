//! From committed batches to published images: batches are applied whole, metadata transactions at their end.

use super::image::{ApplyError, MetadataImage, Provenance};
use super::records::MetadataRecord;
use crate::ids::Offset;

/// Builds the image that readers may see. A metadata transaction (KIP-868) stays invisible until its end record, an
/// aborted one leaves no trace but the offset.
#[derive(Clone, Debug, Default)]
pub struct ImageLoader {
    published: MetadataImage,
    /// The image with the records of the open transaction.
    transaction: Option<MetadataImage>,
}

impl ImageLoader {
    /// Continues from an image, as one read from a snapshot.
    pub fn new(image: MetadataImage) -> Self {
        ImageLoader {
            published: image,
            transaction: None,
        }
    }

    /// The image of all that is committed and in no open transaction.
    pub fn image(&self) -> &MetadataImage {
        &self.published
    }

    /// True between the begin and the end of a metadata transaction.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Applies a committed batch; `provenance` names its last record. After an error the image is unusable.
    pub fn apply_batch(&mut self, records: &[MetadataRecord], provenance: Provenance) -> Result<(), ApplyError> {
        let mut left = records.len();
        for record in records {
            left -= 1;
            let this = Provenance {
                offset: Offset(
                    provenance
                        .offset
                        .0
                        .saturating_sub(i64::try_from(left).unwrap_or(i64::MAX)),
                ),
                ..provenance
            };
            match (record, &mut self.transaction) {
                (MetadataRecord::BeginTransaction(_), None) => self.transaction = Some(self.published.clone()),
                (MetadataRecord::EndTransaction(_), Some(image)) => {
                    self.published = std::mem::take(image);
                    self.transaction = None;
                }
                (MetadataRecord::AbortTransaction(_), Some(_)) => self.transaction = None,
                (record, Some(image)) => image.apply(record)?,
                (record, None) => self.published.apply(record)?,
            }
            // While a transaction is open the image stays in front of it: a snapshot must not skip it.
            if self.transaction.is_none() {
                self.published.provenance = this;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaderEpoch, Timestamp};
    use crate::metadata::records::{
        AbortTransactionRecord, BeginTransactionRecord, EndTransactionRecord, FeatureLevelRecord,
    };

    fn feature(name: &str) -> MetadataRecord {
        MetadataRecord::FeatureLevel(FeatureLevelRecord {
            name: name.to_owned(),
            feature_level: 1,
            ..FeatureLevelRecord::default()
        })
    }

    fn at(offset: i64) -> Provenance {
        Provenance {
            offset: Offset(offset),
            epoch: LeaderEpoch(1),
            timestamp: Timestamp(7),
        }
    }

    #[test]
    fn a_transaction_is_invisible_until_its_end() {
        let begin = MetadataRecord::BeginTransaction(BeginTransactionRecord::default());
        let mut loader = ImageLoader::default();
        loader
            .apply_batch(&[feature("a"), begin.clone(), feature("b")], at(2))
            .unwrap();
        assert_eq!((loader.image().feature("a"), loader.image().feature("b")), (1, 0));
        assert_eq!(loader.image().provenance, at(0));
        let end = MetadataRecord::EndTransaction(EndTransactionRecord::default());
        loader.apply_batch(&[feature("c"), end], at(4)).unwrap();
        assert_eq!((loader.image().feature("b"), loader.image().feature("c")), (1, 1));
        assert_eq!(loader.image().provenance, at(4));

        let abort = MetadataRecord::AbortTransaction(AbortTransactionRecord::default());
        loader.apply_batch(&[begin, feature("d"), abort], at(7)).unwrap();
        assert_eq!((loader.image().feature("d"), loader.in_transaction()), (0, false));
        assert_eq!(loader.image().provenance, at(7));
    }
}
