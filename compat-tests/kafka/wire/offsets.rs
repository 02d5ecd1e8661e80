//! ListOffsets (API 2), OffsetForLeaderEpoch (API 23) and DeleteRecords (API 21).
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{DeleteRecordsRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest};
use ottla_compat_tests::records::{Batch, Codec, Record};
use ottla_compat_tests::scenario::{Case, Session};
use uuid::Uuid;

use super::{Topic, Wire, list_offsets, topic_name};

pub const CASES: &[Case] = &[
    Case::code("list-offsets-versions", versions),
    Case::code("list-offsets-times", times),
    Case::code("list-offsets-errors", errors),
    Case::code("offset-for-leader-epoch", leader_epoch),
    Case::code("delete-records-versions", delete_records),
];

/// Times 0, 10, 5 | 30 | 20, 40, 40, each ms after now.
fn filled(w: &mut Wire) -> Topic {
    let topic = w.create("", 2, &[]);
    for (codec, times) in [
        (Codec::None, &[0, 10, 5][..]),
        (Codec::None, &[30]),
        (Codec::Lz4, &[20, 40, 40]),
    ] {
        let records = times.iter().map(|time| Record {
            timestamp_delta: *time,
            ..Record::value("x")
        });
        let batch = Batch {
            codec,
            ..Batch::new(w.now(), records.collect())
        };
        w.append(&topic, &batch);
    }
    topic
}

fn versions(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    for version in 1..=10 {
        let now = w.now();
        for time in [-1, -2, -3, -4, -5, now, now + 25] {
            w.title(&format!("time {time}"));
            w.call(version, &list_offsets(&topic, &[(0, time), (1, time)]));
        }
        if version >= 2 {
            w.call(version, &list_offsets(&topic, &[(0, -1)]).with_isolation_level(1));
        }
    }
    // Version 11 adds the time -6 and no field.
    for time in [-1, -2, -5, -6] {
        let answer = w
            .connection
            .call_as(11, 10, &list_offsets(&topic, &[(0, time), (1, time)]));
        w.s.answer::<ListOffsetsRequest>(11, answer);
    }
}

fn times(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    for after in [-1, 0, 1, 5, 6, 10, 11, 19, 20, 21, 30, 31, 39, 40, 41] {
        let time = w.now() + after;
        w.call(8, &list_offsets(&topic, &[(0, time)]));
    }
}

fn errors(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    let absent = Topic {
        name: "absent".into(),
        id: Uuid::nil(),
    };
    for place in [9, -1] {
        w.call(8, &list_offsets(&topic, &[(place, -1)]));
    }
    w.call(8, &list_offsets(&absent, &[(0, -1)]));
    w.call(8, &list_offsets(&topic, &[(0, -1), (0, -2)]));
    for time in [-6, -7, -100, i64::MIN, i64::MAX, 0] {
        w.title(&format!("time {time}"));
        w.call(8, &list_offsets(&topic, &[(0, time)]));
    }
    for epoch in [0, 1, 7] {
        let mut request = list_offsets(&topic, &[(0, -1)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        w.call(8, &request);
    }
    for replica in [-2, 0, 1, 7] {
        w.call(8, &list_offsets(&topic, &[(0, -1)]).with_replica_id(replica.into()));
    }
}

fn leader_epoch(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    let request = |name: &str, partition, current, epoch| {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let data = OffsetForLeaderTopic::default()
            .with_topic(topic_name(name))
            .with_partitions(vec![partition]);
        OffsetForLeaderEpochRequest::default().with_topics(vec![data])
    };
    for version in 2..=4 {
        for (current, epoch) in [(-1, 0), (0, 0), (-1, 1), (0, 5), (1, 0), (-1, -1), (-1, -2)] {
            w.title(&format!("current epoch {current}, epoch {epoch}"));
            let mut request = request(&topic.name, 0, current, epoch);
            if version >= 3 {
                request.replica_id = (-1).into();
            }
            w.call(version, &request);
        }
    }
    w.call(4, &request(&topic.name, 1, -1, 0));
    w.call(4, &request(&topic.name, 9, -1, 0));
    w.call(4, &request("absent", 0, -1, 0));
}

fn delete_records(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = filled(&mut w);
    let request = |name: &str, partitions: &[(i32, i64)]| {
        let partitions = partitions.iter().map(|(index, offset)| {
            DeleteRecordsPartition::default()
                .with_partition_index(*index)
                .with_offset(*offset)
        });
        let data = DeleteRecordsTopic::default()
            .with_name(topic_name(name))
            .with_partitions(partitions.collect());
        DeleteRecordsRequest::default()
            .with_topics(vec![data])
            .with_timeout_ms(5000)
    };
    for version in 0..=2 {
        for partitions in [&[(0, 1)][..], &[(0, 0)], &[(0, 100), (1, 0)], &[(0, -2)], &[(9, 0)]] {
            w.call(version, &request(&topic.name, partitions));
        }
        w.call(version, &request("absent", &[(0, 0)]));
    }
    w.call(8, &list_offsets(&topic, &[(0, -2)]));
    w.call(8, &list_offsets(&topic, &[(0, -4)]));
    w.call(2, &request(&topic.name, &[(0, -1)]));
    w.call(8, &list_offsets(&topic, &[(0, -2)]));
    w.call(8, &list_offsets(&topic, &[(0, -1)]));
    let now = w.now();
    w.call(8, &list_offsets(&topic, &[(0, now)]));
}
