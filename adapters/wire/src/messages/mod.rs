//! Messages of Apache Kafka 4.3 that kafka-protocol lacks in their newest version. They have that crate's shape and
//! traits, so that a newer version of it can take their place.
#![allow(missing_docs, reason = "the fields are Kafka's, described in its schemas")]

pub mod add_raft_voter;
pub mod broker_heartbeat;
pub mod describe_log_dirs;
pub mod list_offsets;
pub mod offset_commit;
pub mod offset_fetch;

/// kafka-protocol's traits for a message with `encoded` and `read`.
macro_rules! kafka_message {
    ($name:ident, versions $min:literal..=$max:literal,
     headers $plain:literal and from $first_flexible:literal on $flexible:literal) => {
        impl kafka_protocol::protocol::Message for $name {
            const VERSIONS: kafka_protocol::protocol::VersionRange =
                kafka_protocol::protocol::VersionRange { min: $min, max: $max };
            const DEPRECATED_VERSIONS: Option<kafka_protocol::protocol::VersionRange> = None;
        }

        impl kafka_protocol::protocol::HeaderVersion for $name {
            fn header_version(version: i16) -> i16 {
                if version >= $first_flexible {
                    $flexible
                } else {
                    $plain
                }
            }
        }

        impl kafka_protocol::protocol::Encodable for $name {
            fn encode<B: kafka_protocol::protocol::buf::ByteBufMut>(
                &self,
                buf: &mut B,
                version: i16,
            ) -> anyhow::Result<()> {
                $crate::messages::supported::<Self>(stringify!($name), version)?;
                buf.put_slice(&self.encoded(version)?);
                Ok(())
            }

            fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
                $crate::messages::supported::<Self>(stringify!($name), version)?;
                Ok(self.encoded(version)?.len())
            }
        }

        impl kafka_protocol::protocol::Decodable for $name {
            fn decode<B: kafka_protocol::protocol::buf::ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {
                $crate::messages::supported::<Self>(stringify!($name), version)?;
                let bytes = buf.peek_bytes(0..buf.remaining());
                let mut from = Reader::new(&bytes);
                let message = Self::read(&mut from, version)?;
                buf.advance(bytes.len() - from.remaining());
                Ok(message)
            }
        }
    };
}
pub(crate) use kafka_message;

fn supported<M: kafka_protocol::protocol::Message>(
    record: &'static str,
    version: i16,
) -> Result<(), ottla_domain::record::primitives::EncodeError> {
    if (M::VERSIONS.min..=M::VERSIONS.max).contains(&version) {
        Ok(())
    } else {
        Err(ottla_domain::record::primitives::EncodeError::UnsupportedVersion { record, version })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use bytes::BytesMut;
    use kafka_protocol::messages as theirs;
    use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};
    use uuid::Uuid;

    use super::*;

    fn bytes(message: &impl Encodable, version: i16) -> BytesMut {
        let mut out = BytesMut::new();
        message.encode(&mut out, version).unwrap();
        assert_eq!(message.compute_size(version).unwrap(), out.len());
        out
    }

    const CAUGHT_UP: &str = "kafka-protocol has caught up: drop ours";

    /// Both write the same in every version that kafka-protocol has, and ours reads back what it wrote in all versions.
    /// Whether kafka-protocol lacks the newest.
    fn same<O, T>(ours: impl Fn(i16) -> O, theirs: impl Fn(i16) -> T) -> bool
    where
        O: Message + Encodable + Decodable + HeaderVersion + PartialEq + Debug,
        T: Message + Encodable + HeaderVersion,
    {
        for version in O::VERSIONS.min..=O::VERSIONS.max {
            let written = bytes(&ours(version), version);
            if version <= T::VERSIONS.max {
                assert_eq!(written, bytes(&theirs(version), version), "version {version}");
                assert_eq!(O::header_version(version), T::header_version(version));
            }
            let mut rest = written.freeze();
            rest = [&rest[..], b"next"].concat().into();
            assert_eq!(
                O::decode(&mut rest, version).unwrap(),
                ours(version),
                "version {version}"
            );
            assert_eq!(&rest[..], b"next");
        }
        let mut out = BytesMut::new();
        assert!(ours(O::VERSIONS.min).encode(&mut out, O::VERSIONS.max + 1).is_err());
        assert!(O::decode(&mut &[0u8; 64][..], O::VERSIONS.max + 1).is_err());
        O::VERSIONS.max > T::VERSIONS.max
    }

    macro_rules! list_offsets {
        ($messages:path) => {
            |version: i16| {
                use $messages::*;
                let partition = ListOffsetsPartition::default()
                    .with_partition_index(3)
                    .with_timestamp(-2);
                let partition = if version >= 4 {
                    partition.with_current_leader_epoch(7)
                } else {
                    partition
                };
                let request = ListOffsetsRequest::default()
                    .with_replica_id(theirs::BrokerId(-1))
                    .with_topics(vec![
                        ListOffsetsTopic::default()
                            .with_name(theirs::TopicName(StrBytes::from_static_str("topic")))
                            .with_partitions(vec![partition]),
                    ]);
                let request = if version >= 2 {
                    request.with_isolation_level(1)
                } else {
                    request
                };
                if version >= 10 {
                    request.with_timeout_ms(9)
                } else {
                    request
                }
            }
        };
    }

    macro_rules! list_offsets_response {
        ($messages:path) => {
            |version: i16| {
                use $messages::*;
                let partition = ListOffsetsPartitionResponse::default()
                    .with_error_code(5)
                    .with_offset(11);
                let partition = if version >= 4 {
                    partition.with_leader_epoch(2)
                } else {
                    partition
                };
                let response = ListOffsetsResponse::default().with_topics(vec![
                    ListOffsetsTopicResponse::default()
                        .with_name(theirs::TopicName(StrBytes::from_static_str("topic")))
                        .with_partitions(vec![partition]),
                ]);
                if version >= 2 {
                    response.with_throttle_time_ms(1)
                } else {
                    response
                }
            }
        };
    }

    #[test]
    fn list_offsets() {
        let request = same(list_offsets!(list_offsets), list_offsets!(theirs::list_offsets_request));
        let response = same(
            list_offsets_response!(list_offsets),
            list_offsets_response!(theirs::list_offsets_response),
        );
        assert!(request || response, "{CAUGHT_UP}");
        assert_eq!(list_offsets::ListOffsetsRequest::KEY, theirs::ListOffsetsRequest::KEY);
    }

    macro_rules! describe_log_dirs {
        ($messages:path) => {
            |_: i16| {
                use $messages::*;
                DescribeLogDirsRequest::default().with_topics(Some(vec![
                    DescribableLogDirTopic::default()
                        .with_topic(theirs::TopicName(StrBytes::from_static_str("topic")))
                        .with_partitions(vec![0, 5]),
                ]))
            }
        };
    }

    macro_rules! describe_log_dirs_response {
        ($messages:path) => {
            |version: i16| {
                use $messages::*;
                let dir = DescribeLogDirsResult::default()
                    .with_log_dir(StrBytes::from_static_str("/data"))
                    .with_topics(vec![DescribeLogDirsTopic::default().with_partitions(vec![
                        DescribeLogDirsPartition::default().with_partition_size(1 << 40).with_is_future_key(true),
                    ])]);
                let dir = if version >= 4 { dir.with_total_bytes(100).with_usable_bytes(50) } else { dir };
                let response = DescribeLogDirsResponse::default().with_results(vec![dir]);
                if version >= 3 { response.with_error_code(56) } else { response }
            }
        };
    }

    #[test]
    fn describe_log_dirs() {
        let request = same(
            describe_log_dirs!(describe_log_dirs),
            describe_log_dirs!(theirs::describe_log_dirs_request),
        );
        let response = same(
            describe_log_dirs_response!(describe_log_dirs),
            describe_log_dirs_response!(theirs::describe_log_dirs_response),
        );
        assert!(request || response, "{CAUGHT_UP}");
        let all = describe_log_dirs::DescribeLogDirsRequest::default().with_topics(None);
        let all_too = theirs::DescribeLogDirsRequest::default().with_topics(None);
        assert_eq!(bytes(&all, 1), bytes(&all_too, 1));
        assert_eq!(bytes(&all, 4), bytes(&all_too, 4));

        let cordoned = describe_log_dirs::DescribeLogDirsResult::default().with_is_cordoned(true);
        let response = describe_log_dirs::DescribeLogDirsResponse::default().with_results(vec![cordoned]);
        assert_eq!(bytes(&response, 5).len(), bytes(&response, 4).len() + 1);
    }

    macro_rules! broker_heartbeat {
        ($messages:path) => {
            |version: i16| {
                use $messages::*;
                let request = BrokerHeartbeatRequest::default()
                    .with_broker_id(theirs::BrokerId(4))
                    .with_broker_epoch(77)
                    .with_current_metadata_offset(1000)
                    .with_want_shut_down(true);
                if version >= 1 {
                    request.with_offline_log_dirs(vec![Uuid::from_u128(9)])
                } else {
                    request
                }
            }
        };
    }

    #[test]
    fn broker_heartbeat() {
        let request = same(
            broker_heartbeat!(broker_heartbeat),
            broker_heartbeat!(theirs::broker_heartbeat_request),
        );
        let response = same(
            |_| broker_heartbeat::BrokerHeartbeatResponse::default().with_is_caught_up(true),
            |_| theirs::BrokerHeartbeatResponse::default().with_is_caught_up(true),
        );
        assert!(request || response, "{CAUGHT_UP}");
        let cordoned = broker_heartbeat::BrokerHeartbeatRequest::default().with_cordoned_log_dirs(Some(vec![]));
        assert!(
            bytes(&cordoned, 2).ends_with(&[1, 1, 1, 1]),
            "one tagged field, tag 1, one byte, an empty array"
        );
        assert!(
            cordoned.encode(&mut BytesMut::new(), 1).is_err(),
            "version 1 would lose the field"
        );
    }

    macro_rules! add_raft_voter {
        ($messages:path) => {
            |_: i16| {
                use $messages::*;
                AddRaftVoterRequest::default()
                    .with_cluster_id(None)
                    .with_timeout_ms(30)
                    .with_voter_id(3)
                    .with_voter_directory_id(Uuid::from_u128(1 << 90))
                    .with_listeners(vec![
                        Listener::default()
                            .with_host(StrBytes::from_static_str("host"))
                            .with_port(65_000),
                    ])
            }
        };
    }

    #[test]
    fn add_raft_voter() {
        let request = same(
            add_raft_voter!(add_raft_voter),
            add_raft_voter!(theirs::add_raft_voter_request),
        );
        let response = same(
            |_| add_raft_voter::AddRaftVoterResponse::default().with_error_message(None),
            |_| theirs::AddRaftVoterResponse::default().with_error_message(None),
        );
        assert!(request || response, "{CAUGHT_UP}");
    }

    macro_rules! offset_commit {
        ($messages:path) => {
            |version: i16| {
                use $messages::*;
                let mut partition = OffsetCommitRequestPartition::default()
                    .with_partition_index(3)
                    .with_committed_offset(1 << 40)
                    .with_committed_metadata(Some(StrBytes::from_static_str("note")));
                let mut request = OffsetCommitRequest::default()
                    .with_group_id(theirs::GroupId(StrBytes::from_static_str("group")))
                    .with_generation_id_or_member_epoch(5)
                    .with_member_id(StrBytes::from_static_str("member"));
                if version <= 4 {
                    request.retention_time_ms = 60_000;
                }
                if version >= 6 {
                    partition.committed_leader_epoch = 7;
                }
                if version >= 7 {
                    request.group_instance_id = Some(StrBytes::from_static_str("instance"));
                }
                let mut topic = OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
                if version <= 9 {
                    topic.name = theirs::TopicName(StrBytes::from_static_str("topic"));
                }
                request.with_topics(vec![topic])
            }
        };
    }

    macro_rules! offset_commit_response {
        ($messages:path) => {
            |version: i16| {
                use $messages::*;
                let partition = OffsetCommitResponsePartition::default()
                    .with_partition_index(3)
                    .with_error_code(25);
                let mut topic = OffsetCommitResponseTopic::default().with_partitions(vec![partition]);
                if version <= 9 {
                    topic.name = theirs::TopicName(StrBytes::from_static_str("topic"));
                }
                OffsetCommitResponse::default().with_topics(vec![topic])
            }
        };
    }

    #[test]
    fn offset_commit() {
        let request = same(
            offset_commit!(offset_commit),
            offset_commit!(theirs::offset_commit_request),
        );
        let response = same(
            offset_commit_response!(offset_commit),
            offset_commit_response!(theirs::offset_commit_response),
        );
        assert!(request || response, "{CAUGHT_UP}");
        let by_id = offset_commit::OffsetCommitRequestTopic::default().with_topic_id(Uuid::from_u128(9));
        let request = offset_commit::OffsetCommitRequest::default().with_topics(vec![by_id]);
        assert_eq!(
            bytes(&request, 10).len(),
            bytes(&request, 9).len() + 15,
            "16 bytes in place of an empty name"
        );
    }

    macro_rules! offset_fetch {
        ($messages:path) => {
            |version: i16| {
                use $messages::*;
                let name = theirs::TopicName(StrBytes::from_static_str("topic"));
                let mut request = OffsetFetchRequest::default();
                if version >= 7 {
                    request.require_stable = true;
                }
                if version <= 7 {
                    request.group_id = theirs::GroupId(StrBytes::from_static_str("group"));
                    let topic = OffsetFetchRequestTopic::default()
                        .with_name(name)
                        .with_partition_indexes(vec![4, 5]);
                    return request.with_topics(Some(vec![topic]));
                }
                let mut topic = OffsetFetchRequestTopics::default().with_partition_indexes(vec![4, 5]);
                if version <= 9 {
                    topic.name = name;
                }
                let mut group = OffsetFetchRequestGroup::default()
                    .with_group_id(theirs::GroupId(StrBytes::from_static_str("group")))
                    .with_topics(Some(vec![topic]));
                if version >= 9 {
                    group.member_id = Some(StrBytes::from_static_str("member"));
                    group.member_epoch = 6;
                }
                request.with_groups(vec![group, OffsetFetchRequestGroup::default().with_topics(None)])
            }
        };
    }

    macro_rules! offset_fetch_response {
        ($messages:path) => {
            |version: i16| {
                use $messages::*;
                let name = theirs::TopicName(StrBytes::from_static_str("topic"));
                if version <= 7 {
                    let mut partition = OffsetFetchResponsePartition::default()
                        .with_committed_offset(11)
                        .with_metadata(None);
                    if version >= 5 {
                        partition.committed_leader_epoch = 2;
                    }
                    let topic = OffsetFetchResponseTopic::default()
                        .with_name(name)
                        .with_partitions(vec![partition]);
                    let response = OffsetFetchResponse::default().with_topics(vec![topic]);
                    return if version >= 2 {
                        response.with_error_code(16)
                    } else {
                        response
                    };
                }
                let partition = OffsetFetchResponsePartitions::default()
                    .with_committed_offset(11)
                    .with_committed_leader_epoch(2);
                let mut topic = OffsetFetchResponseTopics::default().with_partitions(vec![partition]);
                if version <= 9 {
                    topic.name = name;
                }
                OffsetFetchResponse::default().with_groups(vec![
                    OffsetFetchResponseGroup::default()
                        .with_group_id(theirs::GroupId(StrBytes::from_static_str("group")))
                        .with_topics(vec![topic]),
                ])
            }
        };
    }

    #[test]
    fn offset_fetch() {
        let request = same(offset_fetch!(offset_fetch), offset_fetch!(theirs::offset_fetch_request));
        let response = same(
            offset_fetch_response!(offset_fetch),
            offset_fetch_response!(theirs::offset_fetch_response),
        );
        assert!(request || response, "{CAUGHT_UP}");
    }
}
