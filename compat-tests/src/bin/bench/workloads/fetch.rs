//! What was written before, from the page cache.
use std::thread;
use std::time::Duration;

use crate::clients::pipeline::{Limit, keep};
use crate::clients::reader::{Contents, Reader};
use crate::clients::{batches, producer};
use crate::floor;
use crate::session::{Session, counter};

const PARTITIONS: i32 = 6;
const RECORDS: usize = 64;
const CONSUMERS: usize = 2;
const TIME: Duration = Duration::from_secs(4);

/// Bytes of values in each partition.
const PARTITION_BYTES: usize = 128 << 20;

/// Of what sendfile sent for Ottla.
const SENDFILE: &str = "ottla_network_sendfile_bytes_total";

/// Both brokers.
pub fn run(session: &mut Session) {
    let batch = batches::plain(RECORDS, 1024);
    let contents = Contents {
        partitions: PARTITIONS,
        batches: (PARTITION_BYTES / RECORDS / 1024) as u64,
        records: RECORDS as u64,
        batch_bytes: batch.len(),
    };
    let mut is_written = [false; 2];
    session.side_by_side(PARTITIONS, |session, side, node, topic, counts| {
        if !std::mem::replace(&mut is_written[side as usize], true) {
            let limit = Limit {
                time: Duration::from_secs(60),
                requests: contents.batches as u32,
            };
            keep(
                &mut producer::open_all(node, topic, PARTITIONS, PARTITIONS as usize, &batch),
                5,
                limit,
            );
        }
        let mut readers: Vec<_> = (0..CONSUMERS).map(|_| Reader::open(node, topic, contents)).collect();
        let before = counter(node, SENDFILE);
        let work = session.measure(side, node, counts, || read(&mut readers));
        if counts {
            session.add(side, 0, work.cpu_each() * 1e9);
            session.add(side, 1, work.per_second() / 1e6);
        }
        if let (Some(before), Some(after)) = (before, counter(node, SENDFILE)) {
            let sent = after - before;
            match sent == work.amount {
                true => session.note("Ottla: sendfile sent every byte of records that was read.".to_owned()),
                false => session.note(format!("Ottla: {} bytes read, {sent} sent by sendfile.", work.amount)),
            }
        }
    });
    for _ in 0..session.rounds {
        session.add_floor(0, floor::send_file());
    }
}

fn read(readers: &mut [Reader]) -> u64 {
    thread::scope(|scope| {
        let readers: Vec<_> = readers
            .iter_mut()
            .map(|reader| scope.spawn(|| reader.read(TIME)))
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("reader")).sum()
    })
}
