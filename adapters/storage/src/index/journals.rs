//! Looks at the files that RocksDB reads record by record when it opens, before it does.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// RocksDB's journals are divided into blocks of this size, which no record crosses.
const BLOCK_BYTES: usize = 32 * 1024;
/// CRC, length and type.
const HEADER_BYTES: usize = 7;
/// Zero is room that was not used; whole, first, middle and last pieces of records follow.
const TYPE_MAX: u8 = 4;

/// A manifest or write-ahead log in the database's folder with records of types that nothing of ours writes. RocksDB reads
/// them before it checks their CRC, and some at the end of a file again and again for ever.
pub(super) fn find_unknown_types(folder: &Path) -> io::Result<Option<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if (name.starts_with("MANIFEST-") || name.ends_with(".log")) && has_unknown_types(File::open(entry.path())?)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn has_unknown_types(mut journal: impl Read) -> io::Result<bool> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    loop {
        block.clear();
        let read = journal.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if read == 0 {
            return Ok(false);
        }
        let mut rest = &block[..];
        while let Some(([_, _, _, _, low, high, kind], records)) = rest.split_first_chunk::<HEADER_BYTES>() {
            if *kind > TYPE_MAX {
                return Ok(true);
            }
            // Behind a length that is wrong, RocksDB skips the block.
            rest = records
                .get(usize::from(u16::from_le_bytes([*low, *high]))..)
                .unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, size: u16) -> Vec<u8> {
        let [low, high] = size.to_le_bytes();
        [vec![1, 2, 3, 4, low, high, kind], vec![9; usize::from(size)]].concat()
    }

    #[test]
    fn types_are_found_in_every_block_and_at_the_end() {
        let filler = record(1, 32_000);
        // What does not fit into a block any more is not used.
        let padding = vec![0; BLOCK_BYTES - filler.len() - 2 * HEADER_BYTES - 20];
        let whole = [&record(1, 20)[..], &filler, &record(4, 0), &padding].concat();
        assert_eq!(whole.len(), BLOCK_BYTES);
        let known = [&whole[..], &record(2, 3), &record(3, 0), &record(0, 0)].concat();
        assert!(!has_unknown_types(&known[..]).unwrap());
        for kind in [5, 8, 11, 131] {
            assert!(has_unknown_types(&[&known[..], &record(kind, 1)].concat()[..]).unwrap());
        }
        // Behind a length that leads out of the block, and in a header that is cut.
        let wrong = [&record(1, 9)[..8], &record(200, 1)].concat();
        assert!(!has_unknown_types(&wrong[..]).unwrap());
        assert!(!has_unknown_types(&record(5, 0)[..6]).unwrap());
    }
}
