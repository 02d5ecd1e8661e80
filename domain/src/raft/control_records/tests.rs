use std::fmt::Debug;

use super::*;

/// `bytes`, which Apache Kafka 4.3.1 wrote, are `record`.
fn written_by_kafka<T: PartialEq + Debug>(
    bytes: &[u8],
    record: T,
    decode: fn(&[u8]) -> Result<T>,
    encode: fn(&T, &mut BytesMut),
) {
    assert_eq!(decode(bytes).as_ref(), Ok(&record));
    let mut out = BytesMut::new();
    encode(&record, &mut out);
    assert_eq!(out, bytes);
    for end in 0..bytes.len() {
        assert!(decode(&bytes[..end]).is_err());
    }
    assert!(decode(&[bytes, &[0]].concat()).is_err());
}

#[test]
fn leader_change() {
    let voter = LeaderChangeMessageVoter {
        voter_id: 1,
        ..Default::default()
    };
    let record = LeaderChangeMessage {
        version: 0,
        leader_id: 1,
        voters: vec![voter.clone()],
        granting_voters: vec![voter],
        ..Default::default()
    };
    let bytes = [0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0];
    written_by_kafka(&bytes, record, LeaderChangeMessage::decode, LeaderChangeMessage::encode);
}

#[test]
fn snapshot_header_and_footer() {
    let header = SnapshotHeaderRecord {
        last_contained_log_timestamp: 0x01a2_0c44_2572,
        ..Default::default()
    };
    let bytes = [0, 0, 0, 0, 1, 0xa2, 0x0c, 0x44, 0x25, 0x72, 0];
    written_by_kafka(
        &bytes,
        header,
        SnapshotHeaderRecord::decode,
        SnapshotHeaderRecord::encode,
    );
    let footer = SnapshotFooterRecord::default();
    written_by_kafka(
        &[0, 0, 0],
        footer,
        SnapshotFooterRecord::decode,
        SnapshotFooterRecord::encode,
    );
}

#[test]
fn kraft_version() {
    let record = KRaftVersionRecord {
        kraft_version: 1,
        ..Default::default()
    };
    written_by_kafka(
        &[0, 0, 0, 1, 0],
        record,
        KRaftVersionRecord::decode,
        KRaftVersionRecord::encode,
    );
}

#[test]
fn voters() {
    let directory_id = [
        0x0e, 0xc7, 0x3a, 0xd8, 0x3b, 0xf4, 0x47, 0x7d, 0xbd, 0xe5, 0xc8, 0xae, 0x18, 0x73, 0x6f, 0xc8,
    ];
    let endpoint = Endpoint {
        name: "CONTROLLER".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 29_393,
        ..Default::default()
    };
    let record = VotersRecord {
        voters: vec![VotersRecordVoter {
            voter_id: 2,
            voter_directory_id: Uuid::from_bytes(directory_id),
            endpoints: vec![endpoint],
            kraft_version_feature: KRaftVersionFeature {
                max_supported_version: 1,
                ..Default::default()
            },
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut bytes = vec![0, 0, 2, 0, 0, 0, 2];
    bytes.extend(directory_id);
    bytes.extend(b"\x02\x0bCONTROLLER\x0a127.0.0.1\x72\xd1\0\0\0\0\x01\0\0\0");
    written_by_kafka(&bytes, record, VotersRecord::decode, VotersRecord::encode);
}
