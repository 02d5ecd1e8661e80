use proptest::prelude::*;

use super::arbitrary::KINDS;
use super::*;
use crate::record::primitives::StringTooLong;
use crate::record::testing::{Entropy, hex};

fn records() -> impl Strategy<Value = (MetadataRecord, i16)> {
    let versions = KINDS
        .iter()
        .flat_map(|(make, newest)| (0..=*newest).map(move |version| (*make, version)));
    let one = prop::sample::select(versions.collect::<Vec<_>>());
    (one, prop::collection::vec(any::<u8>(), 0..600))
        .prop_map(|((make, version), entropy)| (make(&mut Entropy::new(entropy), version), version))
}

fn encoded(record: &MetadataRecord, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    record.encode_version(version, &mut out).unwrap();
    out
}

proptest! {
    // Several for each version of each record.
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn every_version_of_every_record_round_trips((record, version) in records()) {
        let bytes = encoded(&record, version);
        prop_assert_eq!(&MetadataRecord::decode(&bytes).unwrap(), &record);
        let mut newest = BytesMut::new();
        record.encode(&mut newest);
        prop_assert_eq!(&MetadataRecord::decode(&newest).unwrap(), &record);
    }

    #[test]
    fn truncated_and_longer_records_are_errors((record, version) in records()) {
        let bytes = encoded(&record, version);
        for end in 0..bytes.len() {
            prop_assert!(MetadataRecord::decode(&bytes[..end]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(MetadataRecord::decode(&longer), Err(DecodeError::TrailingBytes(1)));
    }

    #[test]
    fn damaged_records_never_panic(
        (record, version) in records(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&record, version);
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(record) = MetadataRecord::decode(&bytes) {
            record.encode(&mut BytesMut::new());
        }
    }
}

/// Records that Apache Kafka 4.3.1 wrote to its metadata log and snapshots.
const WRITTEN_BY_KAFKA: &[(&str, &str)] = &[
    (
        "AccessControlEntryRecord",
        "0112005f13248deece4803bf8a6dfee8c08f360207676f6c64656e0309557365723a626f62022a030300",
    ),
    (
        "BeginTransactionRecord",
        "01170001001212426f6f747374726170207265636f726473",
    ),
    (
        "BrokerRegistrationChangeRecord",
        "01110000000001000000000000000b010001ff",
    ),
    (
        "BrokerRegistrationChangeRecord",
        "01110000000001000000000000000b01000101",
    ),
    (
        "BrokerRegistrationChangeRecord",
        "01110100000001000000000000000b01010101",
    ),
    (
        "BrokerRegistrationChangeRecord",
        "01110300000001000000000000000b01030101",
    ),
    ("ClearElrRecord", "011c0007676f6c64656e00"),
    (
        "ClientQuotaRecord",
        "010e00020a636c69656e742d6964000013636f6e73756d65725f627974655f7261746540a00000000000000000",
    ),
    (
        "ClientQuotaRecord",
        "010e0002057573657206616c696365001370726f64756365725f627974655f7261746500000000000000000100",
    ),
    (
        "ConfigRecord",
        "0104000207676f6c64656e0f636c65616e75702e706f6c69637908636f6d7061637400",
    ),
    (
        "ConfigRecord",
        "0104000207676f6c64656e0f636c65616e75702e706f6c6963790000",
    ),
    ("EndTransactionRecord", "01180000"),
    ("FeatureLevelRecord", "010c00116d657461646174612e76657273696f6e001e00"),
    ("NoOpRecord", "01140000"),
    (
        "PartitionChangeRecord",
        "0105020000000018274c7c3fb749d7922fc97d815cb513040001010104ffffffff0605020000000107050200000001",
    ),
    (
        "PartitionChangeRecord",
        "0105020000000018274c7c3fb749d7922fc97d815cb5130400050200000001010400000001060101070101",
    ),
    (
        "PartitionRecord",
        "0103020000000118274c7c3fb749d7922fc97d815cb513020000000102000000010101000000010000000000000000025444\
         f23e0db6c0789ab329e9af0b2e2900",
    ),
    ("ProducerIdsRecord", "010f0000000001000000000000000b00000000000003e800"),
    (
        "RegisterBrokerRecord",
        "0100040000000100cfe20a4f95c343fe979474654412c7e1000000000000000b020a504c41494e544558540a3132372e302e\
         302e317208000000080e73686172652e76657273696f6e0000000100116d657461646174612e76657273696f6e0007001e00\
         21656c696769626c652e6c65616465722e7265706c696361732e76657273696f6e0000000100147472616e73616374696f6e\
         2e76657273696f6e00000002001073747265616d732e76657273696f6e00000001000e67726f75702e76657273696f6e0000\
         0001000e6b726166742e76657273696f6e0000000100000100010011025444f23e0db6c0789ab329e9af0b2e29",
    ),
    (
        "RegisterBrokerRecord",
        "0100040000000100cfe20a4f95c343fe979474654412c7e1000000000000000b020a504c41494e544558540a3132372e302e\
         302e317208000000080e67726f75702e76657273696f6e00000001000e6b726166742e76657273696f6e00000001000e7368\
         6172652e76657273696f6e0000000100116d657461646174612e76657273696f6e0007001e001073747265616d732e766572\
         73696f6e0000000100147472616e73616374696f6e2e76657273696f6e000000020021656c696769626c652e6c6561646572\
         2e7265706c696361732e76657273696f6e0000000100000000020011025444f23e0db6c0789ab329e9af0b2e29010101",
    ),
    (
        "RegisterControllerRecord",
        "011b0000000001ff847406954a46d2be762e6aa081936f00020b434f4e54524f4c4c45520a3132372e302e302e3172090000\
         00080e67726f75702e76657273696f6e00000001000e6b726166742e76657273696f6e0000000100116d657461646174612e\
         76657273696f6e0007001e000e73686172652e76657273696f6e00000001001073747265616d732e76657273696f6e000000\
         0100147472616e73616374696f6e2e76657273696f6e000000020021656c696769626c652e6c65616465722e7265706c6963\
         61732e76657273696f6e000000010000",
    ),
    (
        "RemoveAccessControlEntryRecord",
        "0113005f13248deece4803bf8a6dfee8c08f3600",
    ),
    ("RemoveTopicRecord", "010900d97b747d951d40c794e7b0315070422c00"),
    ("RemoveUserScramCredentialRecord", "01160006616c6963650100"),
    ("TopicRecord", "01020007676f6c64656e18274c7c3fb749d7922fc97d815cb51300"),
    (
        "UserScramCredentialRecord",
        "010b0006616c696365011a6d69766774306d7663397a74316961687030666862356c6e7121842dd10020f7b27fb91058a7c5\
         09ac589e3110d3e110e2d05ecf4b457ca89f212156d6f9de0175b6512c612424a40b3f19483156aa25c53b164afc5fcd1e56\
         1c850000100000",
    ),
];

#[test]
fn what_kafka_wrote_is_read_and_written_back_byte_for_byte() {
    for (name, text) in WRITTEN_BY_KAFKA {
        let record = MetadataRecord::decode(&hex(text)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(record.name(), *name);
        let mut out = BytesMut::new();
        record.encode(&mut out);
        assert_eq!(out, hex(text), "{name}");
    }
}

fn written_by_kafka(name: &str) -> MetadataRecord {
    let (_, text) = WRITTEN_BY_KAFKA.iter().find(|(written, _)| *written == name).unwrap();
    MetadataRecord::decode(&hex(text)).unwrap()
}

#[test]
fn fields_are_read_as_kafka_wrote_them() {
    let uuid = |text: &str| Uuid::parse_str(text).unwrap();
    let topic_id = uuid("18274c7c-3fb7-49d7-922f-c97d815cb513");
    let topic = TopicRecord {
        name: "golden".to_owned(),
        topic_id,
        ..Default::default()
    };
    assert_eq!(written_by_kafka("TopicRecord"), topic.into());
    let partition = PartitionRecord {
        partition_id: 1,
        topic_id,
        replicas: vec![1],
        isr: vec![1],
        leader: 1,
        leader_epoch: 0,
        partition_epoch: 0,
        directories: vec![uuid("5444f23e-0db6-c078-9ab3-29e9af0b2e29")],
        ..Default::default()
    };
    assert_eq!(written_by_kafka("PartitionRecord"), partition.into());
    let change = PartitionChangeRecord {
        topic_id,
        partition_id: 0,
        isr: Some(vec![]),
        leader: -1,
        eligible_leader_replicas: Some(vec![1]),
        last_known_elr: Some(vec![1]),
        ..Default::default()
    };
    assert_eq!(written_by_kafka("PartitionChangeRecord"), change.into());
    let feature = FeatureLevelRecord {
        name: "metadata.version".to_owned(),
        feature_level: 30,
        ..Default::default()
    };
    assert_eq!(written_by_kafka("FeatureLevelRecord"), feature.into());
    let MetadataRecord::RegisterBroker(broker) = written_by_kafka("RegisterBrokerRecord") else {
        panic!()
    };
    assert_eq!(
        (broker.broker_id, broker.broker_epoch, broker.rack, broker.fenced),
        (1, 11, None, true)
    );
    let end_point = BrokerEndpoint {
        name: "PLAINTEXT".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 29_192,
        ..Default::default()
    };
    assert_eq!(broker.end_points, [end_point]);
    assert_eq!(broker.log_dirs, [uuid("5444f23e-0db6-c078-9ab3-29e9af0b2e29")]);
}

#[test]
fn defaults_are_those_of_the_schemas() {
    let change = PartitionChangeRecord::default();
    assert_eq!(
        (change.leader, change.isr, change.leader_recovery_state),
        (-2, None, -1)
    );
    let broker = RegisterBrokerRecord::default();
    assert_eq!(
        (broker.fenced, broker.rack, broker.cordoned_log_dirs),
        (true, Some(String::new()), None)
    );
    assert_eq!(ProducerIdsRecord::default().broker_epoch, -1);
}

#[test]
fn unknown_types_versions_and_frames_are_errors() {
    assert_eq!(
        MetadataRecord::decode(&[0, 2, 0]),
        Err(DecodeError::UnsupportedFrameVersion(0))
    );
    assert_eq!(
        MetadataRecord::decode(&[1, 6, 0]),
        Err(DecodeError::UnknownRecordType(6))
    );
    let newer = DecodeError::UnsupportedVersion {
        record: "TopicRecord",
        version: 1,
    };
    assert_eq!(MetadataRecord::decode(&[1, 2, 1]), Err(newer));
    assert_eq!(
        MetadataRecord::decode(&[1, 2]),
        Err(DecodeError::Truncated {
            needed: 1,
            remaining: 0
        })
    );
}

#[test]
fn a_version_that_would_lose_a_field_is_refused() {
    let record: MetadataRecord = PartitionRecord {
        eligible_leader_replicas: Some(vec![1]),
        ..Default::default()
    }
    .into();
    let lost = EncodeError::FieldNotInVersion {
        field: "EligibleLeaderReplicas",
        version: 1,
    };
    assert_eq!(record.encode_version(1, &mut BytesMut::new()), Err(lost));
    let unsupported = EncodeError::UnsupportedVersion {
        record: "PartitionRecord",
        version: 3,
    };
    assert_eq!(record.encode_version(3, &mut BytesMut::new()), Err(unsupported));
}

#[test]
fn a_long_config_value_fits() {
    let value = "v".repeat(100_000);
    assert!(matches!(
        BytesMut::new().put_string(&value),
        Err(StringTooLong { size_bytes: 100_000 })
    ));
    let record: MetadataRecord = ConfigRecord {
        value: Some(value),
        ..Default::default()
    }
    .into();
    assert_eq!(MetadataRecord::decode(&encoded(&record, 0)), Ok(record));
}
