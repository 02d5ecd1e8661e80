//! Bodies of batches: a count, a codec, and bytes. Both walks over a plain body must agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_compression::Codecs;
use ottla_domain::record::compression::{Compression, CompressionType};
use ottla_domain::record::walk::{walk, walk_stream};

fuzz_target!(|input: &[u8]| {
    let [count, codec, body @ ..] = input else { return };
    let (count, codec) = (i32::from(*count), CompressionType::from_id(codec % 5).unwrap_or_default());
    let (mut direct, mut streamed) = (Vec::new(), Vec::new());
    let one = walk(count, body, |record| direct.push(record));
    let other = walk_stream(count, &mut &body[..], |record| streamed.push(record));
    assert_eq!(one.is_ok(), other.is_ok());
    assert_eq!(direct, streamed);
    if let Ok(mut stream) = Codecs.decompress(codec, body) {
        let _ = walk_stream(count, &mut stream, |_| ());
    }
});
