//! `domain/src/groups/records.rs`: the records of `__consumer_offsets`.

use std::fmt::Write;

use crate::records::{emit_arbitrary, shared_names};
use crate::rust::{Emitter, Style};
use crate::schema::{BadSchema, Kind, Message};

/// The types that classic and consumer groups write. Type 0 (LegacyOffsetCommit) is read as type 1, whose key and whose
/// value in version 0 it shares.
const TYPES: [&str; 9] = [
    "OffsetCommit",
    "GroupMetadata",
    "ConsumerGroupMetadata",
    "ConsumerGroupPartitionMetadata",
    "ConsumerGroupMemberMetadata",
    "ConsumerGroupTargetAssignmentMetadata",
    "ConsumerGroupTargetAssignmentMember",
    "ConsumerGroupCurrentMemberAssignment",
    "ConsumerGroupRegularExpression",
];

/// The key and the value of one type.
struct Pair {
    name: &'static str,
    key: Message,
    value: Message,
}

/// The arm that gives the version in which Apache Kafka 4.3 writes a value (`GroupCoordinatorRecordHelpers`).
fn written_version(pair: &Pair) -> String {
    let newest = pair.value.valid_versions.max;
    match pair.name {
        "OffsetCommit" => format!(
            "Self::OffsetCommit(_, Some(value)) if value.expire_timestamp != -1 => 1, Self::OffsetCommit(..) => {newest},"
        ),
        "GroupMetadata" => "Self::GroupMetadata(..) => 3,".to_owned(),
        name => format!("Self::{name}(..) => {newest},"),
    }
}

fn pairs(schemas: &[Message]) -> Result<Vec<Pair>, BadSchema> {
    let find = |kind: Kind, name: String| {
        let found = schemas.iter().find(|m| m.kind == kind && m.name == name).cloned();
        found.ok_or_else(|| BadSchema(format!("no {name}")))
    };
    let pairs = TYPES.map(|name| {
        Ok(Pair {
            name,
            key: find(Kind::CoordinatorKey, format!("{name}Key"))?,
            value: find(Kind::CoordinatorValue, format!("{name}Value"))?,
        })
    });
    pairs.into_iter().collect()
}

fn messages(pairs: &[Pair]) -> Vec<Message> {
    let pairs = pairs.iter();
    pairs.flat_map(|pair| [pair.key.clone(), pair.value.clone()]).collect()
}

/// Makes any record of `__consumer_offsets`, for property tests.
pub fn arbitrary_group_records(schemas: &[Message]) -> Result<String, BadSchema> {
    let pairs = pairs(schemas)?;
    let messages = messages(&pairs);
    let shared = shared_names(&messages)?;
    let mut kinds = String::new();
    for Pair { name, key, value } in &pairs {
        writeln!(
            kinds,
            "(|entropy, version| GroupRecord::{name}({}::arbitrary(entropy, 0), \
             entropy.option(|entropy| {}::arbitrary(entropy, version))), {}),",
            key.name, value.name, value.valid_versions.max
        )
        .ok();
    }
    let mut impls = String::new();
    for message in &messages {
        let emitter = Emitter::new(message, Style::CoordinatorRecord, &shared)?;
        for structure in emitter.structures() {
            emit_arbitrary(&mut impls, &emitter, structure)?;
        }
    }
    Ok(format!(
        "//! Any record of `__consumer_offsets`.\n\nuse super::*;\nuse crate::record::testing::Entropy;\n\n\
         /// Makes a record, or a tombstone, whose value a version can hold.\n\
         type Make = fn(&mut Entropy, i16) -> GroupRecord;\n\n\
         /// All types of records, with the newest version of each value.\n\
         pub(super) const KINDS: &[(Make, i16)] = &[{kinds}];\n\n{impls}"
    ))
}

/// The enum of all records and their structures.
pub fn group_records(schemas: &[Message]) -> Result<String, BadSchema> {
    let pairs = pairs(schemas)?;
    let messages = messages(&pairs);
    let shared = shared_names(&messages)?;
    let mut out = String::from(
        "//! The records of `__consumer_offsets` in Kafka's persistent form.\n\
         #![allow(missing_docs, reason = \"the fields are Kafka's, described in its schemas\")]\n\n\
         use bytes::{BufMut, Bytes, BytesMut};\nuse uuid::Uuid;\n\n\
         use crate::record::primitives::{DecodeError, EncodeError, PutPrimitives, Reader, Result, UnknownTaggedFields};\n\n\
         #[cfg(test)]\nmod arbitrary;\n#[cfg(test)]\nmod tests;\n\n",
    );
    emit_enum(&mut out, &pairs);
    for message in &messages {
        let emitter = Emitter::new(message, Style::CoordinatorRecord, &shared)?;
        if emitter.is_checked() {
            return Err(BadSchema(format!(
                "{}: not every version holds every value",
                message.name
            )));
        }
        out.push_str(&emitter.emit(&format!("`{}` of `__consumer_offsets`.", message.name))?);
    }
    Ok(out)
}

fn emit_enum(out: &mut String, pairs: &[Pair]) {
    let arms = |pattern: &dyn Fn(&Pair) -> String| pairs.iter().map(pattern).collect::<String>();
    let number = |pair: &Pair| pair.key.api_key.unwrap_or(-1);
    write!(
        out,
        "/// A record of `__consumer_offsets`: its key and its value; without one it is a tombstone.\n\
         #[derive(Clone, Debug, PartialEq)]\npub enum GroupRecord {{ {variants} }}\n\n\
         /// What the bytes of a record hold.\n\
         #[derive(Clone, Debug, PartialEq)]\n\
         #[allow(clippy::large_enum_variant, reason = \"it lives for a moment, and a box costs an allocation a record\")]\n\
         pub enum Decoded {{\n\
         /// A record of a type in [`GroupRecord`].\nKnown(GroupRecord),\n\
         /// A record of another type: Kafka keeps it and skips it (`CoordinatorLoaderImpl`).\nUnknownType(i16) }}\n\n\
         /// A record of a known type that cannot be read.\n\
         #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]\n\
         #[error(\"{{part}} cannot be read: {{reason}}\")]\n\
         pub struct Unreadable {{\n\
         /// The key's or the value's name in Kafka's schemas.\npub part: &'static str,\n\
         /// What is wrong with its bytes.\npub reason: DecodeError }}\n\n\
         impl GroupRecord {{\n\
         /// The type's name in Kafka's schemas.\n\
         pub fn name(&self) -> &'static str {{ match self {{ {names} }} }}\n\n\
         /// The number that stands for the type in a key.\n\
         fn number(&self) -> i16 {{ match self {{ {numbers} }} }}\n\n\
         /// The version in which Apache Kafka 4.3 writes the value (`GroupCoordinatorRecordHelpers`).\n\
         fn value_version(&self) -> i16 {{ match self {{ {written} }} }}\n\n\
         /// Appends the key to `key` and the value to `value` as Apache Kafka 4.3 writes them (`CoordinatorRecordSerde`): the\n\
         /// type and the key's fields; the value's version and fields. False for a tombstone, whose value is null. Fails\n\
         /// when a string is too long for its field; what was appended by then is of no use.\n\
         pub fn encode(&self, key: &mut BytesMut, value: &mut BytesMut) -> Result<bool, EncodeError> {{\n\
         self.write(self.value_version(), key, value) }}\n\n\
         fn write(&self, version: i16, to_key: &mut BytesMut, to_value: &mut BytesMut) -> Result<bool, EncodeError> {{\n\
         to_key.put_i16(self.number());\n\
         match self {{ {writes} }} }}\n\n\
         /// Reads a record in any version that Apache Kafka 4.3 reads. Bytes that follow a key or value are skipped, as\n\
         /// Kafka does.\n\
         pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Decoded, Unreadable> {{\n\
         let mut key = Reader::new(key);\n\
         let number = key.i16().map_err(|reason| Unreadable {{ part: \"the type of a key\", reason }})?;\n\
         let key = &mut key;\n\
         Ok(Decoded::Known(match number {{\n\
         0 => Self::OffsetCommit(read_key(\"LegacyOffsetCommitKey\", key, OffsetCommitKey::read)?, \
         read_value(\"LegacyOffsetCommitValue\", value, 0, OffsetCommitValue::read)?),\n\
         {reads} other => return Ok(Decoded::UnknownType(other)) }})) }} }}\n\n\
         fn read_key<K>(name: &'static str, key: &mut Reader<'_>, \
         read: impl FnOnce(&mut Reader<'_>, i16) -> Result<K>) -> Result<K, Unreadable> {{\n\
         read(key, 0).map_err(|reason| Unreadable {{ part: name, reason }}) }}\n\n\
         fn read_value<V>(name: &'static str, value: Option<&[u8]>, newest: i16, \
         read: impl FnOnce(&mut Reader<'_>, i16) -> Result<V>) -> Result<Option<V>, Unreadable> {{\n\
         let read = |value| {{ let mut value = Reader::new(value); let version = value.i16()?;\n\
         if (0..=newest).contains(&version) {{ read(&mut value, version) }} else {{\n\
         Err(DecodeError::UnsupportedVersion {{ record: name, version: i32::from(version) }}) }} }};\n\
         value.map(read).transpose().map_err(|reason| Unreadable {{ part: name, reason }}) }}\n\n\
         fn write_value<V>(value: Option<&V>, version: i16, out: &mut BytesMut, \
         write: impl FnOnce(&V, i16, &mut BytesMut) -> Result<(), EncodeError>) -> Result<bool, EncodeError> {{\n\
         let Some(value) = value else {{ return Ok(false) }};\n\
         out.put_i16(version); write(value, version, out)?; Ok(true) }}\n\n",
        variants = arms(&|p| format!("{}({}, Option<{}>),", p.name, p.key.name, p.value.name)),
        names = arms(&|p| format!("Self::{}(..) => {:?},", p.name, p.name)),
        numbers = arms(&|p| format!("Self::{}(..) => {},", p.name, number(p))),
        written = arms(&written_version),
        writes = arms(&|p| format!(
            "Self::{}(key, value) => {{ key.write(0, to_key)?; \
             write_value(value.as_ref(), version, to_value, {}::write) }}",
            p.name, p.value.name
        )),
        reads = arms(&|p| format!(
            "{} => Self::{}(read_key({:?}, key, {}::read)?, read_value({:?}, value, {}, {}::read)?),",
            number(p),
            p.name,
            p.key.name,
            p.key.name,
            p.value.name,
            p.value.valid_versions.max,
            p.value.name
        )),
    )
    .ok();
}
