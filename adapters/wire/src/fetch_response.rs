//! Encodes Fetch responses (versions 4 to 18): records stay where they are, in memory or in a file.
//!
//! kafka-protocol would copy all records into one buffer; everything around them is as it would write it.

use bytes::{BufMut, BytesMut};
use ottla_domain::ids::{BrokerId, Offset};
use ottla_domain::ports::inbound::{FetchReply, Fetched, TopicRef};
use ottla_domain::ports::outbound::RecordSlice;
use ottla_domain::record::primitives::{PutPrimitives, StringTooLong};

use crate::response::{Part, Response};

/// The first version with compact encodings and tagged fields.
const FLEXIBLE_FROM: i16 = 12;
/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 13;

/// Where a leader named in the response is reached (KIP-951).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeEndpoint {
    pub(crate) node: BrokerId,
    pub(crate) host: String,
    pub(crate) port: i32,
    pub(crate) rack: Option<String>,
}

/// The whole frame of a response; `endpoints` are told from version 16.
pub(crate) fn encode<R>(
    correlation_id: i32,
    version: i16,
    reply: FetchReply<R>,
    endpoints: &[NodeEndpoint],
) -> Result<Response<R>, StringTooLong> {
    let mut frame = Frame {
        version,
        flexible: version >= FLEXIBLE_FROM,
        bytes: BytesMut::with_capacity(256),
        holes: Vec::new(),
    };
    let out = &mut frame.bytes;
    out.put_i32(0); // the frame's length, known at the end
    out.put_i32(correlation_id);
    if frame.flexible {
        out.put_u8(0);
    }
    out.put_i32(0); // throttle time
    if version >= 7 {
        out.put_i16(reply.error.number());
        out.put_i32(reply.session_id);
    }
    frame.length(Some(reply.topics.len()));
    for (topic, partitions) in reply.topics {
        frame.topic(&topic, partitions)?;
    }
    frame.endpoints(endpoints)?;
    Ok(frame.finish())
}

struct Frame<R> {
    version: i16,
    flexible: bool,
    bytes: BytesMut,
    /// Records and their places in `bytes`.
    holes: Vec<(usize, RecordSlice<R>)>,
}

impl<R> Frame<R> {
    fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.bytes.put_compact_array_length(length);
        } else {
            self.bytes.put_array_length(length);
        }
    }

    fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.bytes.put_u8(0);
        }
    }

    fn topic(&mut self, topic: &TopicRef, partitions: Vec<Fetched<R>>) -> Result<(), StringTooLong> {
        match topic {
            TopicRef::Id(id) if self.version >= TOPIC_IDS_FROM => self.bytes.put_uuid(id.0),
            // The session answers in the terms of its requests, so this is an id of no use to an old client.
            TopicRef::Id(_) if self.flexible => self.bytes.put_compact_string(""),
            TopicRef::Id(_) => self.bytes.put_string("")?,
            TopicRef::Name(_) if self.version >= TOPIC_IDS_FROM => self.bytes.put_uuid(uuid::Uuid::nil()),
            TopicRef::Name(name) if self.flexible => self.bytes.put_compact_string(name),
            TopicRef::Name(name) => self.bytes.put_string(name)?,
        }
        self.length(Some(partitions.len()));
        for partition in partitions {
            self.partition(partition);
        }
        self.no_tagged_fields();
        Ok(())
    }

    fn partition(&mut self, partition: Fetched<R>) {
        let out = &mut self.bytes;
        out.put_i32(partition.partition.0);
        out.put_i16(partition.error.number());
        out.put_i64(partition.high_watermark.0);
        out.put_i64(partition.last_stable_offset.0);
        if self.version >= 5 {
            out.put_i64(partition.log_start_offset.0);
        }
        self.length(partition.aborted.as_ref().map(Vec::len));
        for (producer, first_offset) in partition.aborted.iter().flatten() {
            self.bytes.put_i64(producer.0);
            self.bytes.put_i64(first_offset.0);
            self.no_tagged_fields();
        }
        if self.version >= 11 {
            self.bytes.put_i32(partition.preferred_read_replica.0);
        }
        self.length(partition.records.as_ref().map(RecordSlice::size_bytes));
        if let Some(records) = partition.records.filter(|records| records.size_bytes() > 0) {
            self.holes.push((self.bytes.len(), records));
        }
        if self.flexible {
            let epoch_and_offset = |epoch: i32, Offset(offset)| {
                let mut value = BytesMut::with_capacity(13);
                value.put_i32(epoch);
                value.put_i64(offset);
                value.put_u8(0);
                value
            };
            let mut tagged = Vec::new();
            if let Some((epoch, end_offset)) = partition.diverging_epoch {
                tagged.push((0, epoch_and_offset(epoch.0, end_offset)));
            }
            if let Some((leader, epoch)) = partition.current_leader {
                let mut value = BytesMut::with_capacity(9);
                value.put_i32(leader.0);
                value.put_i32(epoch.0);
                value.put_u8(0);
                tagged.push((1, value));
            }
            if let Some((end_offset, epoch)) = partition.snapshot_id {
                let mut value = BytesMut::with_capacity(13);
                value.put_i64(end_offset.0);
                value.put_i32(epoch.0);
                value.put_u8(0);
                tagged.push((2, value));
            }
            self.bytes.put_tagged_fields(&tagged, &[]);
        }
    }

    fn endpoints(&mut self, endpoints: &[NodeEndpoint]) -> Result<(), StringTooLong> {
        if self.version < 16 || endpoints.is_empty() {
            self.no_tagged_fields();
            return Ok(());
        }
        let mut value = BytesMut::new();
        value.put_compact_array_length(Some(endpoints.len()));
        for endpoint in endpoints {
            value.put_i32(endpoint.node.0);
            value.put_compact_string(&endpoint.host);
            value.put_i32(endpoint.port);
            value.put_compact_nullable_string(endpoint.rack.as_deref());
            value.put_u8(0);
        }
        self.bytes.put_tagged_fields(&[(0, value)], &[]);
        Ok(())
    }

    fn finish(mut self) -> Response<R> {
        let records: usize = self.holes.iter().map(|(_, records)| records.size_bytes()).sum();
        // Below 2 GiB: the fetch's limits are numbers of 31 bits.
        let size_bytes = (self.bytes.len() - 4 + records) as u32;
        if let Some(prefix) = self.bytes.first_chunk_mut() {
            *prefix = size_bytes.to_be_bytes();
        }
        let mut bytes = self.bytes.freeze();
        let mut parts = Vec::with_capacity(2 * self.holes.len() + 1);
        let mut written = 0;
        for (at, records) in self.holes {
            parts.push(Part::Bytes(bytes.split_to(at - written)));
            written = at;
            parts.push(match records {
                RecordSlice::Memory(bytes) => Part::Bytes(bytes),
                RecordSlice::File {
                    region,
                    position,
                    size_bytes,
                } => Part::File {
                    region,
                    position,
                    size_bytes: u64::from(size_bytes),
                },
            });
        }
        if !bytes.is_empty() {
            parts.push(Part::Bytes(bytes));
        }
        Response { parts }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::fetch_response as kafka;
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use ottla_domain::error::ErrorCode;
    use ottla_domain::ids::{LeaderEpoch, PartitionId, ProducerId, TopicId};
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    /// A file region in these tests: the bytes that it stands for.
    type Region = Bytes;

    fn records() -> impl Strategy<Value = RecordSlice<Region>> {
        (vec(any::<u8>(), 0..200), any::<bool>()).prop_map(|(bytes, file)| {
            let bytes = Bytes::from(bytes);
            if file {
                RecordSlice::File {
                    size_bytes: bytes.len() as u32,
                    region: bytes,
                    position: 7,
                }
            } else {
                RecordSlice::Memory(bytes)
            }
        })
    }

    fn partition() -> impl Strategy<Value = Fetched<Region>> {
        let numbers = (
            any::<i32>(),
            0..ErrorCode::ALL.len(),
            any::<i64>(),
            any::<i64>(),
            any::<i64>(),
        );
        let epochs = (0..i32::MAX, 0..i64::MAX);
        let extras = (
            of(epochs.clone()),
            of((0..i32::MAX, 0..i32::MAX)),
            of(epochs),
            of(vec((any::<i64>(), any::<i64>()), 0..3)),
            any::<i32>(),
            of(records()),
        );
        (numbers, extras).prop_map(
            |((partition, error, hw, lso, start), (diverging, leader, snapshot, aborted, replica, records))| Fetched {
                partition: PartitionId(partition),
                error: ErrorCode::ALL[error],
                high_watermark: Offset(hw),
                last_stable_offset: Offset(lso),
                log_start_offset: Offset(start),
                diverging_epoch: diverging.map(|(epoch, offset)| (LeaderEpoch(epoch), Offset(offset))),
                current_leader: leader.map(|(id, epoch)| (BrokerId(id), LeaderEpoch(epoch))),
                snapshot_id: snapshot.map(|(epoch, offset)| (Offset(offset), LeaderEpoch(epoch))),
                aborted: aborted.map(|all| {
                    all.iter()
                        .map(|(id, first)| (ProducerId(*id), Offset(*first)))
                        .collect()
                }),
                preferred_read_replica: BrokerId(replica),
                records,
            },
        )
    }

    fn reply(version: i16) -> impl Strategy<Value = FetchReply<Region>> {
        let topic = ("[a-zé.]{0,150}", any::<u128>()).prop_map(move |(name, id)| {
            if version >= TOPIC_IDS_FROM {
                TopicRef::Id(TopicId(uuid::Uuid::from_u128(id)))
            } else {
                TopicRef::Name(name.into())
            }
        });
        let topics = vec((topic, vec(partition(), 0..4)), 0..4);
        (0..ErrorCode::ALL.len(), any::<i32>(), topics).prop_map(|(error, session_id, topics)| FetchReply {
            error: ErrorCode::ALL[error],
            session_id,
            topics,
        })
    }

    fn endpoint() -> impl Strategy<Value = NodeEndpoint> {
        (any::<i32>(), "[a-z]{0,9}", any::<i32>(), of("[a-z]{0,9}")).prop_map(|(node, host, port, rack)| NodeEndpoint {
            node: BrokerId(node),
            host,
            port,
            rack,
        })
    }

    fn kafka_partition(fetched: &Fetched<Region>, version: i16) -> kafka::PartitionData {
        let mut partition = kafka::PartitionData::default()
            .with_partition_index(fetched.partition.0)
            .with_error_code(fetched.error.number())
            .with_high_watermark(fetched.high_watermark.0)
            .with_last_stable_offset(fetched.last_stable_offset.0)
            .with_log_start_offset(fetched.log_start_offset.0)
            .with_aborted_transactions(fetched.aborted.as_ref().map(|all| {
                let one = |(id, first): &(ProducerId, Offset)| {
                    kafka::AbortedTransaction::default()
                        .with_producer_id(id.0.into())
                        .with_first_offset(first.0)
                };
                all.iter().map(one).collect()
            }))
            .with_records(fetched.records.as_ref().map(|records| match records {
                RecordSlice::Memory(bytes) | RecordSlice::File { region: bytes, .. } => bytes.clone(),
            }));
        if version >= 11 {
            partition.preferred_read_replica = fetched.preferred_read_replica.0.into();
        }
        if version >= FLEXIBLE_FROM {
            if let Some((epoch, end)) = fetched.diverging_epoch {
                partition.diverging_epoch = kafka::EpochEndOffset::default()
                    .with_epoch(epoch.0)
                    .with_end_offset(end.0);
            }
            if let Some((leader, epoch)) = fetched.current_leader {
                partition.current_leader = kafka::LeaderIdAndEpoch::default()
                    .with_leader_id(leader.0.into())
                    .with_leader_epoch(epoch.0);
            }
            if let Some((end, epoch)) = fetched.snapshot_id {
                partition.snapshot_id = kafka::SnapshotId::default().with_epoch(epoch.0).with_end_offset(end.0);
            }
        }
        partition
    }

    fn kafka_frame(version: i16, reply: &FetchReply<Region>, endpoints: &[NodeEndpoint]) -> Vec<u8> {
        let topic = |(topic, partitions): &(TopicRef, Vec<Fetched<Region>>)| {
            let one = kafka::FetchableTopicResponse::default()
                .with_partitions(partitions.iter().map(|one| kafka_partition(one, version)).collect());
            match topic {
                TopicRef::Id(id) => one.with_topic_id(id.0),
                TopicRef::Name(name) => one.with_topic(StrBytes::from_string(name.to_string()).into()),
            }
        };
        let mut response = kafka::FetchResponse::default().with_responses(reply.topics.iter().map(topic).collect());
        if version >= 7 {
            response.error_code = reply.error.number();
            response.session_id = reply.session_id;
        }
        if version >= 16 {
            response.node_endpoints = endpoints
                .iter()
                .map(|endpoint| {
                    kafka::NodeEndpoint::default()
                        .with_node_id(endpoint.node.0.into())
                        .with_host(StrBytes::from_string(endpoint.host.clone()))
                        .with_port(endpoint.port)
                        .with_rack(endpoint.rack.clone().map(StrBytes::from_string))
                })
                .collect();
        }
        let mut body = Vec::new();
        response.encode(&mut body, version).unwrap();
        let mut frame = Vec::new();
        let header: &[u8] = if version >= FLEXIBLE_FROM {
            &[0, 0, 0, 9, 0]
        } else {
            &[0, 0, 0, 9]
        };
        frame.extend(((header.len() + body.len()) as u32).to_be_bytes());
        frame.extend(header);
        frame.extend(body);
        frame
    }

    proptest! {
        #[test]
        fn writes_what_kafka_protocol_writes(
            (version, reply) in (4..=18i16).prop_flat_map(|version| (Just(version), reply(version))),
            endpoints in vec(endpoint(), 0..3),
        ) {
            let expected = kafka_frame(version, &reply, &endpoints);
            let response = encode(9, version, reply, &endpoints).unwrap();
            let mut written = Vec::new();
            for part in response.parts {
                match part {
                    Part::Bytes(bytes) => written.extend(bytes),
                    Part::File { region, position, size_bytes } => {
                        prop_assert_eq!((position, size_bytes), (7, region.len() as u64));
                        written.extend(region);
                    }
                }
            }
            prop_assert_eq!(written, expected);
        }
    }
}
