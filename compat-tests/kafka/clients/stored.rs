//! The headers of the batches that a broker stored, as it gives them to anyone who fetches.
use bytes::Buf;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::requests::{Topic, at, fetch};

#[derive(Clone, Copy, Debug)]
pub struct StoredBatch {
    pub codec: i16,
    pub log_append_time: bool,
    pub producer_id: i64,
    pub base_sequence: i32,
    pub count: i32,
}

/// All batches of a partition.
pub fn batches(on: &mut Connection, topic: &Topic, partition: i32) -> Vec<StoredBatch> {
    let mut batches = Vec::new();
    let mut next = 0;
    loop {
        let answer = on.call(12, &fetch(12, topic, vec![at(partition, next)])).unwrap();
        let answer = &answer.responses[0].partitions[0];
        assert_eq!(answer.error_code, 0, "{answer:?}");
        let mut bytes = answer.records.clone().unwrap_or_default();
        let before = next;
        while bytes.len() >= 61 {
            let base_offset = bytes.get_i64();
            let length = bytes.get_i32() as usize;
            if bytes.len() < length {
                break;
            }
            let mut header = bytes.split_to(length);
            header.advance(4);
            assert_eq!(header.get_i8(), 2, "magic");
            header.advance(4);
            let attributes = header.get_i16();
            next = base_offset + i64::from(header.get_i32()) + 1;
            header.advance(16);
            let producer_id = header.get_i64();
            header.advance(2);
            batches.push(StoredBatch {
                codec: attributes & 7,
                log_append_time: attributes & 8 != 0,
                producer_id,
                base_sequence: header.get_i32(),
                count: header.get_i32(),
            });
        }
        if next == before {
            return batches;
        }
    }
}
