//! Decodes Produce requests (versions 3 to 13): records stay slices of the frame.
//!
//! kafka-protocol would do, but it does not know our domain types.

use bytes::Bytes;
use ottla_domain::ids::{PartitionId, TopicId};
use ottla_domain::ports::inbound::{ProduceTopic, TopicRef};
use ottla_domain::record::primitives::{DecodeError, Reader};

/// The first version with compact encodings and tagged fields.
const FLEXIBLE_FROM: i16 = 9;
/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 13;

/// A Produce request as it came in.
#[derive(Debug)]
pub(crate) struct ProduceRequest {
    pub(crate) transactional_id: Option<String>,
    /// -1, 0 or 1; other numbers are for the handler to refuse.
    pub(crate) acks: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) topics: Vec<ProduceTopic>,
}

/// Reads a request body. What follows it is ignored, as Kafka does.
pub(crate) fn decode(body: &Bytes, version: i16) -> Result<ProduceRequest, DecodeError> {
    let reader = &mut Reader::new(body);
    let flexible = version >= FLEXIBLE_FROM;
    let transactional_id = if flexible {
        reader.compact_nullable_string()?
    } else {
        reader.nullable_string()?
    }
    .map(str::to_owned);
    let acks = reader.i16()?;
    let timeout_ms = reader.i32()?;
    let topics = array(reader, flexible, |reader| topic(reader, body, version))?;
    skip_tagged_fields(reader, flexible)?;
    Ok(ProduceRequest {
        transactional_id,
        acks,
        timeout_ms,
        topics,
    })
}

fn topic(reader: &mut Reader<'_>, body: &Bytes, version: i16) -> Result<ProduceTopic, DecodeError> {
    let flexible = version >= FLEXIBLE_FROM;
    let topic = if version >= TOPIC_IDS_FROM {
        TopicRef::Id(TopicId(reader.uuid()?))
    } else if flexible {
        TopicRef::Name(reader.compact_string()?.into())
    } else {
        TopicRef::Name(reader.string()?.into())
    };
    let partitions = array(reader, flexible, |reader| {
        let partition = PartitionId(reader.i32()?);
        let records = if flexible {
            reader.compact_nullable_bytes()?
        } else {
            reader.nullable_bytes()?
        };
        skip_tagged_fields(reader, flexible)?;
        Ok((partition, records.map(|records| body.slice_ref(records))))
    })?;
    skip_tagged_fields(reader, flexible)?;
    Ok(ProduceTopic { topic, partitions })
}

/// Elements of an array that must not be null.
fn array<'a, T>(
    reader: &mut Reader<'a>,
    flexible: bool,
    element: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = if flexible {
        reader.compact_array_length()?
    } else {
        reader.array_length()?
    };
    reader.elements(count.ok_or(DecodeError::UnexpectedNull)?, element)
}

/// Produce has no tagged fields of its own, and what newer clients may add is not kept.
fn skip_tagged_fields(reader: &mut Reader<'_>, flexible: bool) -> Result<(), DecodeError> {
    if flexible {
        reader.tagged_fields(|_, value| value.take(value.remaining()).map(|_| true))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kafka_protocol::messages::produce_request as kafka;
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), len).prop_map(Bytes::from)
    }

    fn tagged() -> impl Strategy<Value = BTreeMap<i32, Bytes>> {
        btree_map(0..200i32, bytes(0..20), 0..3)
    }

    fn name() -> impl Strategy<Value = StrBytes> {
        "[a-zä.]{0,150}".prop_map(StrBytes::from_string)
    }

    fn partition(flexible: bool) -> impl Strategy<Value = kafka::PartitionProduceData> {
        (any::<i32>(), proptest::option::of(bytes(0..300)), tagged()).prop_map(move |(index, records, tagged)| {
            kafka::PartitionProduceData::default()
                .with_index(index)
                .with_records(records)
                .with_unknown_tagged_fields(if flexible { tagged } else { BTreeMap::new() })
        })
    }

    fn request(version: i16) -> impl Strategy<Value = kafka::ProduceRequest> {
        let flexible = version >= FLEXIBLE_FROM;
        let topic = (name(), any::<u128>(), vec(partition(flexible), 0..4), tagged()).prop_map(
            move |(name, id, partitions, tagged)| {
                let topic = kafka::TopicProduceData::default().with_partition_data(partitions);
                let topic = if version >= TOPIC_IDS_FROM {
                    topic.with_topic_id(Uuid::from_u128(id))
                } else {
                    topic.with_name(name.into())
                };
                topic.with_unknown_tagged_fields(if flexible { tagged } else { BTreeMap::new() })
            },
        );
        let head = (proptest::option::of(name()), any::<i16>(), any::<i32>());
        (head, vec(topic, 0..4), tagged()).prop_map(move |((id, acks, timeout_ms), topics, tagged)| {
            kafka::ProduceRequest::default()
                .with_transactional_id(id.map(Into::into))
                .with_acks(acks)
                .with_timeout_ms(timeout_ms)
                .with_topic_data(topics)
                .with_unknown_tagged_fields(if flexible { tagged } else { BTreeMap::new() })
        })
    }

    fn expected(request: &kafka::ProduceRequest, version: i16) -> ProduceRequest {
        let topic = |topic: &kafka::TopicProduceData| ProduceTopic {
            topic: if version >= TOPIC_IDS_FROM {
                TopicRef::Id(TopicId(topic.topic_id))
            } else {
                TopicRef::Name(topic.name.as_str().into())
            },
            partitions: topic
                .partition_data
                .iter()
                .map(|partition| (PartitionId(partition.index), partition.records.clone()))
                .collect(),
        };
        ProduceRequest {
            transactional_id: request.transactional_id.as_ref().map(|id| id.to_string()),
            acks: request.acks,
            timeout_ms: request.timeout_ms,
            topics: request.topic_data.iter().map(topic).collect(),
        }
    }

    proptest! {
        #[test]
        fn reads_what_kafka_protocol_writes(
            (version, request) in (3..=13i16).prop_flat_map(|version| (Just(version), request(version))),
        ) {
            let mut body = Vec::new();
            request.encode(&mut body, version).unwrap();
            let body = Bytes::from(body);
            let decoded = decode(&body, version).unwrap();
            prop_assert_eq!(format!("{decoded:?}"), format!("{:?}", expected(&request, version)));
            for (_, records) in decoded.topics.iter().flat_map(|topic| &topic.partitions) {
                let records = records.as_deref().unwrap_or_default();
                prop_assert!(records.is_empty() || body.as_ptr_range().contains(&records.as_ptr()), "copied");
            }
        }

        #[test]
        fn refuses_what_is_cut_and_ignores_what_follows(
            (version, request) in (3..=13i16).prop_flat_map(|version| (Just(version), request(version))),
        ) {
            let mut body = Vec::new();
            request.encode(&mut body, version).unwrap();
            body.push(0);
            let body = Bytes::from(body);
            prop_assert!(decode(&body, version).is_ok());
            for end in 0..body.len() - 1 {
                prop_assert!(decode(&body.slice(..end), version).is_err());
            }
        }

        #[test]
        fn noise_is_no_panic(body in vec(any::<u8>(), 0..200), version in 3..=13i16) {
            let _ = decode(&Bytes::from(body), version);
        }
    }
}
