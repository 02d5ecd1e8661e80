//! What is produced.
use bytes::Bytes;
use ottla_compat_tests::chance::Chance;
use ottla_compat_tests::records::{Batch, Codec, Record};
use ottla_compat_tests::transcript::now_ms;

/// A value that does not compress to nothing.
pub fn value(size_bytes: usize) -> Vec<u8> {
    (0..size_bytes).map(|at| (at * 31 % 251) as u8).collect()
}

/// A batch of equal values.
pub fn plain(count: usize, value_bytes: usize) -> Bytes {
    let records = (0..count).map(|_| Record::value(value(value_bytes)));
    Batch::new(now_ms(), records.collect()).encode()
}

/// An lz4 batch of values of 1 KiB that compress as events in JSON do.
pub fn lz4(count: usize) -> Bytes {
    let mut chance = Chance::seeded(1);
    let records = (0..count).map(|_| Record::value(events(&mut chance, 1024)));
    let mut batch = Batch::new(now_ms(), records.collect());
    batch.codec = Codec::Lz4;
    batch.encode()
}

fn events(chance: &mut Chance, size_bytes: usize) -> Vec<u8> {
    let mut text = String::new();
    while text.len() < size_bytes {
        let kind = chance.pick(&["viewed", "ordered", "paid", "returned", "shipped", "rated"]);
        let (id, user, cents) = (chance.draw(), chance.below(1_000_000), chance.below(100_000));
        text +=
            &format!(r#"{{"event":"{kind}","id":"{id:016x}","user":{user},"cents":{cents},"shop":"example.com"}},"#);
    }
    text.truncate(size_bytes);
    text.into_bytes()
}
