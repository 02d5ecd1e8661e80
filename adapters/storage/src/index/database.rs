//! The RocksDB database itself: its folder, format version and column families. A damaged one is made again: at once where
//! that shows when it is opened, else on the next start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ottla_domain::ports::outbound::StorageError;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBRawIterator, ErrorKind, Options, WriteBatch,
    WriteOptions,
};

use super::IndexError;
use super::facts::IndexFacts;
use super::journals;
use crate::atomic_file;
use crate::health::{Health, OrFail};

pub(super) const LOGS: &str = "logs";
pub(super) const OFFSETS: &str = "offsets";
pub(super) const TIMES: &str = "times";
pub(super) const LOG_START: &str = "log_start";
pub(super) const EPOCHS: &str = "epochs";
pub(super) const PRODUCERS: &str = "producers";
pub(super) const CHECKPOINTS: &str = "checkpoints";
pub(super) const FAMILIES: [&str; 7] = [LOGS, OFFSETS, TIMES, LOG_START, EPOCHS, PRODUCERS, CHECKPOINTS];

/// The layout of the keys and values.
const FORMAT_VERSION: u32 = 1;
const FORMAT_FILE: &str = "format-version";

/// The database in `.ottla/`.
pub(super) struct Database {
    db: DB,
    format_file: PathBuf,
}

impl Database {
    /// Opens the database of a directory, or makes it anew where it is missing, damaged or of an older format.
    pub(super) fn open(directory: &Path, health: &Health) -> Result<Database, StorageError> {
        let path = directory.join(".ottla");
        let format_file = path.join(FORMAT_FILE);
        let format = atomic_file::read(&format_file).or_fail(health, "reading the index's format version")?;
        let version = format.as_deref().map(|text| text.trim().parse::<u32>());
        if let Some(Ok(newer @ 2..)) = version {
            return Err(StorageError::Refused(format!(
                "{} has format version {newer}, but this version of Ottla knows only {FORMAT_VERSION}; \
                 start the newer Ottla, or remove that folder to have it made again",
                path.display()
            )));
        }
        let reason = match version {
            Some(Ok(FORMAT_VERSION)) => match open_sound(&path, health)? {
                Ok(db) => return Ok(Database { db, format_file }),
                Err(damage) => damage,
            },
            Some(_) => "its format is older".to_owned(),
            None => "it is missing".to_owned(),
        };
        if path.exists() {
            tracing::warn!(path = %path.display(), reason, "the index is made again");
        }
        let db = create(&path).or_fail(health, "making the index")?;
        Ok(Database { db, format_file })
    }

    pub(super) fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let value = self.db.get_cf(self.family(family)?, key);
        value.map_err(|error| self.failed(error))
    }

    pub(super) fn iterate(&self, family: &'static str) -> Result<DBRawIterator<'_>, IndexError> {
        Ok(self.db.raw_iterator_cf(self.family(family)?))
    }

    /// Whether an iterator that is not valid is so because it came to its end.
    pub(super) fn check(&self, iterator: &DBRawIterator<'_>) -> Result<(), IndexError> {
        iterator.status().map_err(|error| self.failed(error))
    }

    /// Adds to a batch the deletion of a range, where anything is in it: every range delete slows reads down for a while.
    pub(super) fn delete_range(
        &self,
        batch: &mut WriteBatch,
        family: &'static str,
        from: &[u8],
        to: &[u8],
    ) -> Result<(), IndexError> {
        let mut iterator = self.iterate(family)?;
        iterator.seek(from);
        self.check(&iterator)?;
        if iterator.key().is_some_and(|key| key < to) {
            batch.delete_range_cf(self.family(family)?, from, to);
        }
        Ok(())
    }

    /// Writes a batch; synced, it takes along to the disk all that was written before.
    pub(super) fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), IndexError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let written = self.db.write_opt(batch, &options);
        written.map_err(|error| self.failed(error))
    }

    /// Brings all that was written to the disk.
    pub(super) fn sync(&self) -> Result<(), IndexError> {
        self.db.flush_wal(true).map_err(|error| self.failed(error))
    }

    pub(super) fn facts(&self) -> IndexFacts {
        IndexFacts::of(&self.db)
    }

    pub(super) fn family(&self, name: &'static str) -> Result<&ColumnFamily, IndexError> {
        self.db.cf_handle(name).ok_or(IndexError::Missing(name))
    }

    /// Without its format version, a damaged database is made again on the next start.
    fn failed(&self, error: rocksdb::Error) -> IndexError {
        if is_damage(&error) && fs::remove_file(&self.format_file).is_ok() {
            tracing::error!(%error, "the index is damaged; it is made again on the next start");
        }
        IndexError::Database(error)
    }
}

/// True for what making the database again repairs, and false for a disk that fails or a process out of files.
fn is_damage(error: &rocksdb::Error) -> bool {
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotFound => true,
        ErrorKind::IOError => error.as_ref().contains("No such file"),
        _ => false,
    }
}

/// Opens the database, or says what is damaged.
fn open_sound(path: &Path, health: &Health) -> Result<Result<DB, String>, StorageError> {
    let unknown = journals::find_unknown_types(&path.join("db")).or_fail(health, "reading the index")?;
    if let Some(file) = unknown {
        return Ok(Err(format!("{file} has records of unknown types")));
    }
    match open_checked(path) {
        Ok(db) => Ok(Ok(db)),
        Err(error) if is_damage(&error) => Ok(Err(error.to_string())),
        Err(error) => Err(health.fail("opening the index", error)),
    }
}

/// Opens the database and reads the families that have a few entries a log: the state that a log is opened with.
fn open_checked(path: &Path) -> Result<DB, rocksdb::Error> {
    let db = open_database(&path.join("db"), false)?;
    for name in [LOGS, LOG_START, EPOCHS, PRODUCERS, CHECKPOINTS] {
        if let Some(family) = db.cf_handle(name) {
            let mut iterator = db.raw_iterator_cf(family);
            iterator.seek_to_first();
            while iterator.valid() {
                iterator.next();
            }
            iterator.status()?;
        }
    }
    Ok(db)
}

/// Makes an empty database; the format version is written last, so that a crash in between is made good next time.
fn create(path: &Path) -> io::Result<DB> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(path)?;
    let db = open_database(&path.join("db"), true).map_err(io::Error::other)?;
    atomic_file::write(&path.join(FORMAT_FILE), format!("{FORMAT_VERSION}\n").as_bytes())?;
    atomic_file::sync_parent(path)?;
    Ok(db)
}

/// Small caches and buffers: a log has one entry of 50 bytes for each 4 KiB.
fn open_database(path: &PathBuf, create: bool) -> Result<DB, rocksdb::Error> {
    let cache = Cache::new_lru_cache(4 << 20);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_cache_index_and_filter_blocks(true);

    let mut options = Options::default();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_block_based_table_factory(&table);
    options.set_db_write_buffer_size(4 << 20);
    options.set_write_buffer_size(1 << 20);
    options.set_max_write_buffer_number(2);
    options.set_max_total_wal_size(16 << 20);
    options.set_max_background_jobs(2);
    options.set_max_open_files(64);
    options.set_max_file_opening_threads(1);
    options.set_keep_log_file_num(1);
    options.set_log_level(rocksdb::LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_target_file_size_base(8 << 20);
    let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
    DB::open_cf_descriptors(&options, path, families)
}
