use proptest::prelude::*;

use super::arbitrary::KINDS;
use super::*;
use crate::record::testing::{Entropy, hex};

fn records() -> impl Strategy<Value = (GroupRecord, i16)> {
    let versions = KINDS
        .iter()
        .flat_map(|(make, newest)| (0..=*newest).map(move |version| (*make, version)));
    let one = prop::sample::select(versions.collect::<Vec<_>>());
    (one, prop::collection::vec(any::<u8>(), 0..600))
        .prop_map(|((make, version), entropy)| (make(&mut Entropy::new(entropy), version), version))
}

/// The key and the value that `write` makes of a record.
fn written(
    write: impl FnOnce(&mut BytesMut, &mut BytesMut) -> Result<bool, EncodeError>,
) -> (BytesMut, Option<BytesMut>) {
    let (mut key, mut value) = (BytesMut::new(), BytesMut::new());
    let has_value = write(&mut key, &mut value).unwrap();
    assert!(has_value || value.is_empty());
    (key, has_value.then_some(value))
}

fn encoded(record: &GroupRecord, version: i16) -> (BytesMut, Option<BytesMut>) {
    written(|key, value| record.write(version, key, value))
}

fn known(key: &[u8], value: Option<&[u8]>) -> GroupRecord {
    match GroupRecord::decode(key, value) {
        Ok(Decoded::Known(record)) => record,
        other => panic!("{other:?}"),
    }
}

proptest! {
    // Several for each version of each record.
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn every_version_of_every_record_round_trips((record, version) in records()) {
        let (key, value) = encoded(&record, version);
        prop_assert_eq!(known(&key, value.as_deref()), record);
    }

    #[test]
    fn truncated_records_are_errors_and_longer_ones_are_not((record, version) in records()) {
        let (key, value) = encoded(&record, version);
        for end in 0..key.len() {
            prop_assert!(GroupRecord::decode(&key[..end], value.as_deref()).is_err());
        }
        for end in 0..value.as_ref().map_or(0, |value| value.len()) {
            prop_assert!(GroupRecord::decode(&key, value.as_ref().map(|value| &value[..end])).is_err());
        }
        let longer = |bytes: &[u8]| [bytes, &[0]].concat();
        prop_assert_eq!(known(&longer(&key), value.as_deref().map(longer).as_deref()), record);
    }

    #[test]
    fn damaged_records_never_panic(
        (record, version) in records(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut key, mut value) = encoded(&record, version);
        for (index, byte) in damage {
            let bytes = value.as_mut().unwrap_or(&mut key);
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(Decoded::Known(record)) = GroupRecord::decode(&key, value.as_deref()) {
            record.encode(&mut BytesMut::new(), &mut BytesMut::new()).unwrap();
        }
    }
}

/// Keys and values, or none for a tombstone, that Apache Kafka 4.3.1 made of records in the versions that it writes.
const WRITTEN_BY_KAFKA: &[(&str, &str, Option<&str>)] = &[
    (
        "OffsetCommit",
        "000100016700017400000007",
        Some("000400000000000003e800000005056d6574610000018bcfe5680001001018274c7c3fb749d7922fc97d815cb513"),
    ),
    (
        "OffsetCommit",
        "000100016700017400000007",
        Some("000400000000000003e8ffffffff010000018bcfe5680000"),
    ),
    (
        "OffsetCommit",
        "000100016700017400000007",
        Some("000100000000000003e800046d6574610000018bcfe568000000018bcfee8fc0"),
    ),
    ("OffsetCommit", "000100016700017400000007", None),
    (
        "GroupMetadata",
        "0002000167",
        Some(
            "00030008636f6e73756d657200000003000572616e676500036d2d310000018bcfe568000000000200036d2d310001690001\
             63000a2f3132372e302e302e310000ea600000afc8000000020102000000010300036d2d32ffff000163000a2f3132372e30\
             2e302e310000ea600000afc80000000000000000",
        ),
    ),
    (
        "GroupMetadata",
        "0002000167",
        Some("0003000000000000ffffffff0000018bcfe5680000000000"),
    ),
    ("GroupMetadata", "0002000167", None),
    (
        "ConsumerGroupMetadata",
        "0003000167",
        Some("00000000000901000800000000075bcd15"),
    ),
    ("ConsumerGroupMetadata", "0003000167", Some("00000000000900")),
    (
        "ConsumerGroupPartitionMetadata",
        "0004000167",
        Some("00000218274c7c3fb749d7922fc97d815cb51302740000000202000000000302610262000000"),
    ),
    (
        "ConsumerGroupMemberMetadata",
        "000500016700036d2d31",
        Some("000000027202630b2f3132372e302e302e31030274027504742e2a000493e008756e69666f726d00"),
    ),
    (
        "ConsumerGroupMemberMetadata",
        "000500016700036d2d31",
        Some("000000027202630b2f3132372e302e302e31030274027504742e2a000493e008756e69666f726d01000100"),
    ),
    (
        "ConsumerGroupMemberMetadata",
        "000500016700036d2d31",
        Some("000002690002630b2f3132372e302e302e310100ffffffff00010011010000afc8020672616e67650300010000"),
    ),
    (
        "ConsumerGroupTargetAssignmentMetadata",
        "0006000167",
        Some("0000000000090100080000018bcfe56800"),
    ),
    (
        "ConsumerGroupTargetAssignmentMember",
        "000700016700036d2d31",
        Some("00000218274c7c3fb749d7922fc97d815cb5130300000000000000010000"),
    ),
    (
        "ConsumerGroupCurrentMemberAssignment",
        "000800016700036d2d31",
        Some(
            "00000000000900000008010218274c7c3fb749d7922fc97d815cb513030000000000000001010009030000000800000009\
             0218274c7c3fb749d7922fc97d815cb51302000000020000",
        ),
    ),
    (
        "ConsumerGroupRegularExpression",
        "00100001670003742e2a",
        Some("00000302740275000000000000002c0000018bcfe5680000"),
    ),
    ("ConsumerGroupRegularExpression", "00100001670003742e2a", None),
];

#[test]
fn what_kafka_wrote_is_read_and_written_back_byte_for_byte() {
    for (name, key, value) in WRITTEN_BY_KAFKA {
        let (key, value) = (hex(key), value.map(hex));
        let record = known(&key, value.as_deref());
        assert_eq!(record.name(), *name);
        let (key_again, value_again) = written(|key, value| record.encode(key, value));
        assert_eq!(key_again, key, "{name}");
        assert_eq!(value_again.as_deref(), value.as_deref(), "{name}");
    }
}

#[test]
fn old_versions_written_by_kafka_are_read() {
    let (key, legacy_key) = (hex("000100016700017400000007"), hex("000000016700017400000007"));
    let commit = |leader_epoch, expire_timestamp| {
        let key = OffsetCommitKey {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            partition: 7,
        };
        let value = OffsetCommitValue {
            offset: 1_000,
            leader_epoch,
            metadata: "meta".to_owned(),
            commit_timestamp: 1_700_000_000_000,
            expire_timestamp,
            ..Default::default()
        };
        GroupRecord::OffsetCommit(key, Some(value))
    };
    let version_0 = hex("000000000000000003e800046d6574610000018bcfe56800");
    assert_eq!(known(&legacy_key, Some(&version_0)), commit(-1, -1));
    assert_eq!(known(&key, Some(&version_0)), commit(-1, -1));
    let version_1 = hex("000100000000000003e800046d6574610000018bcfe568000000018bcfee8fc0");
    assert_eq!(known(&key, Some(&version_1)), commit(-1, 1_700_000_600_000));
    let version_3 = hex("000300000000000003e80000000500046d6574610000018bcfe56800");
    assert_eq!(known(&key, Some(&version_3)), commit(5, -1));

    let group = |text: &str| match known(&hex("0002000167"), Some(&hex(text))) {
        GroupRecord::GroupMetadata(_, Some(group)) => group,
        other => panic!("{other:?}"),
    };
    let version_0 = group(
        "00000008636f6e73756d657200000003000572616e676500036d2d310000000100036d2d31000163000a2f3132372e302e302e31\
         0000afc80000000201020000000103",
    );
    let version_4 = group(
        "000409636f6e73756d6572000000030672616e6765046d2d310000018bcfe5680002046d2d31026902630b2f3132372e302e302e\
         310000ea600000afc80301020203000000",
    );
    assert_eq!(
        (version_0.leader.as_deref(), version_0.current_state_timestamp),
        (Some("m-1"), -1)
    );
    assert_eq!(version_0.members[0].rebalance_timeout, -1);
    assert_eq!(version_4.current_state_timestamp, 1_700_000_000_000);
    let member = &version_4.members[0];
    assert_eq!((member.rebalance_timeout, member.session_timeout), (60_000, 45_000));
    assert_eq!(
        (member.group_instance_id.as_deref(), member.client_host.as_str()),
        (Some("i"), "/127.0.0.1")
    );
    assert_eq!(
        (&member.subscription[..], &member.assignment[..]),
        (&[1, 2][..], &[3][..])
    );
}

#[test]
fn other_types_are_told_apart_from_damage() {
    let share_group = (hex("000b000167"), hex("000000000002000000000000000000"));
    assert_eq!(
        GroupRecord::decode(&share_group.0, Some(&share_group.1)),
        Ok(Decoded::UnknownType(11))
    );
    assert_eq!(
        GroupRecord::decode(&hex("7fff"), None),
        Ok(Decoded::UnknownType(i16::MAX))
    );

    let error = |key: &str, value: Option<&str>| {
        GroupRecord::decode(&hex(key), value.map(hex).as_deref())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("00", None),
        "the type of a key cannot be read: 2 bytes needed, 1 left"
    );
    assert_eq!(
        error("00020002", None),
        "GroupMetadataKey cannot be read: 2 bytes needed, 0 left"
    );
    assert_eq!(
        error("0003000167", Some("00010000000900")),
        "ConsumerGroupMetadataValue cannot be read: unsupported version 1 of ConsumerGroupMetadataValue"
    );
    assert_eq!(
        error("000000016700017400000007", Some("00010000")),
        "LegacyOffsetCommitValue cannot be read: unsupported version 1 of LegacyOffsetCommitValue"
    );
    assert_eq!(
        error("0003000167", Some("00000000")),
        "ConsumerGroupMetadataValue cannot be read: 4 bytes needed, 2 left"
    );
}

#[test]
fn a_group_id_that_does_not_fit_is_refused() {
    let key = GroupMetadataKey {
        group: "g".repeat(32_768),
    };
    let record = GroupRecord::GroupMetadata(key, None);
    assert!(record.encode(&mut BytesMut::new(), &mut BytesMut::new()).is_err());
}
