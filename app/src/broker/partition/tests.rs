use ottla_compression::Codecs;
use ottla_domain::log::config::CleanupPolicy;
use ottla_domain::ports::memory::MemoryLog;
use ottla_domain::record::records::BatchBuilder;

use super::*;
use crate::broker::InlineWrites;
use crate::clock::{SystemClock, SystemEntropy};

fn tools(durability: Durability) -> Tools {
    Tools {
        inline_writes: InlineWrites::among(2),
        clock: SystemClock::default(),
        entropy: SystemEntropy,
        compression: Box::new(Codecs),
        durability,
        trust_compressed: false,
    }
}

/// A replica that this broker leads.
fn led(config: LogConfig, durability: Durability) -> Partition<MemoryLog> {
    let opened = MemoryLog::default().after_power_failure();
    let partition = Partition::new(opened, Arc::new(config), durability);
    let leadership = Leadership {
        leader: BrokerId(1),
        epoch: LeaderEpoch(0),
        is_leader: true,
        isr_count: 1,
        others: Arc::new([BrokerId(2)]),
    };
    partition.set_leadership(leadership).unwrap();
    partition
}

fn append(partition: &Partition<MemoryLog>, records: Bytes, acks: Acks) -> Result<Appended, Option<ErrorCode>> {
    let options = AppendOptions {
        acks,
        zstd_allowed: true,
        internal_topics_allowed: false,
        term: None,
    };
    let tools = tools(partition.durability);
    let validated = partition.validate(&records, options, &tools, &*tools.compression);
    let appended = validated.and_then(|validated| partition.append(&validated, options, &tools));
    appended.map_err(|refused| refused.error.map(|refusal| refusal.error.code))
}

fn record() -> Bytes {
    let mut builder = BatchBuilder::new(Offset::ZERO);
    builder.append(Timestamp(1), None, Some(b"a"));
    builder.build().bytes().clone()
}

#[test]
fn with_fsync_ack_only_what_is_on_disk_is_shown_and_one_sync_serves_all() {
    let partition = led(LogConfig::default(), Durability::Ack);
    let unsettled = append(&partition, record(), Acks::All).unwrap().unsettled_end;
    assert_eq!(unsettled, Some(Offset(1)));
    assert!(partition.claim_sync());
    append(&partition, record(), Acks::None).unwrap();
    assert!(!partition.claim_sync());
    assert_eq!(partition.high_watermark(), Offset(0));
    partition.run_sync();
    assert_eq!(partition.high_watermark(), Offset(2));
    assert_eq!(partition.is_settled(Offset(1), Acks::All), Some(Ok(())));
    assert!(!partition.claim_sync());
    append(&partition, record(), Acks::None).unwrap();
    assert!(partition.claim_sync());
}

#[test]
fn a_replica_that_left_takes_nothing() {
    let partition = led(LogConfig::default(), Durability::None);
    append(&partition, record(), Acks::All).unwrap();
    partition.close();
    let elsewhere = ErrorCode::NotLeaderOrFollower;
    assert_eq!(append(&partition, record(), Acks::All).err(), Some(Some(elsewhere)));
    assert_eq!(partition.delete_records(Offset::NONE), Err(elsewhere));
    assert_eq!(partition.log_start_offset(), Offset(0));
}

fn read(partition: &Partition<MemoryLog>, replica: i32, offset: i64, epoch: LeaderEpoch) -> Fetched<()> {
    let request = FetchPartition {
        partition: PartitionId(0),
        current_leader_epoch: epoch,
        fetch_offset: Offset(offset),
        last_fetched_epoch: LeaderEpoch::UNKNOWN,
        log_start_offset: Offset::NONE,
        max_bytes: 100,
    };
    let reader = Reader {
        replica: BrokerId(replica),
        isolation: Isolation::ReadUncommitted,
    };
    partition.read(&request, reader, 100, true)
}

#[test]
fn only_followers_read_beyond_the_high_watermark() {
    let partition = led(LogConfig::default(), Durability::Ack);
    append(&partition, record(), Acks::Leader).unwrap();
    let read = |replica, epoch| {
        let fetched = read(&partition, replica, 0, epoch);
        (
            fetched.error,
            fetched.records.is_some_and(|records| records.size_bytes() > 0),
        )
    };
    assert_eq!(read(-1, LeaderEpoch::UNKNOWN), (ErrorCode::None, false));
    assert_eq!(read(2, LeaderEpoch::UNKNOWN), (ErrorCode::None, true));
    assert_eq!(read(1, LeaderEpoch::UNKNOWN), (ErrorCode::NotLeaderOrFollower, false));
    assert_eq!(read(3, LeaderEpoch(0)), (ErrorCode::UnknownLeaderEpoch, false));
}

#[test]
fn a_reader_out_of_range_is_told_no_offsets() {
    let partition = led(LogConfig::default(), Durability::None);
    append(&partition, record(), Acks::All).unwrap();
    let fetched = read(&partition, -1, 2, LeaderEpoch::UNKNOWN);
    assert_eq!(fetched.error, ErrorCode::OffsetOutOfRange);
    let told = [
        fetched.high_watermark,
        fetched.last_stable_offset,
        fetched.log_start_offset,
    ];
    assert_eq!(told, [Offset::NONE; 3]);
}

#[test]
fn too_few_replicas_are_told_before_bad_records() {
    let config = LogConfig {
        min_insync_replicas: 2,
        ..LogConfig::default()
    };
    let partition = led(config, Durability::None);
    let refused = |acks| append(&partition, Bytes::new(), acks).err();
    assert_eq!(refused(Acks::All), Some(Some(ErrorCode::NotEnoughReplicas)));
    assert_ne!(refused(Acks::Leader), Some(Some(ErrorCode::NotEnoughReplicas)));
    let alone = Leadership {
        others: Arc::new([]),
        ..Leadership::clone(&partition.leadership.load())
    };
    partition.set_leadership(alone).unwrap();
    assert_ne!(refused(Acks::All), Some(Some(ErrorCode::NotEnoughReplicas)));
}

#[test]
fn records_are_deleted_up_to_the_high_watermark_unless_the_topic_only_compacts() {
    let partition = led(LogConfig::default(), Durability::None);
    append(&partition, record(), Acks::All).unwrap();
    assert_eq!(partition.delete_records(Offset(2)), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(partition.delete_records(Offset(1)), Ok(Offset(1)));
    assert_eq!(partition.delete_records(Offset(0)), Ok(Offset(1)));
    let compacted = LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..LogConfig::default()
    };
    partition.set_config(Arc::new(compacted));
    assert_eq!(partition.delete_records(Offset(1)), Err(ErrorCode::PolicyViolation));
}

#[test]
fn flush_messages_syncs_before_the_answer() {
    let config = LogConfig {
        flush_messages: 2,
        ..LogConfig::default()
    };
    let partition = led(config, Durability::None);
    append(&partition, record(), Acks::Leader).unwrap();
    assert_eq!(partition.log().synced_offset(), Offset(0));
    append(&partition, record(), Acks::Leader).unwrap();
    assert_eq!(partition.log().synced_offset(), Offset(2));
    assert_eq!(partition.high_watermark(), Offset(2));
}
