//! `domain/src/metadata/records.rs` and `domain/src/raft/control_records.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::rust::{Emitter, Style, condition, field_name, is_nullable, primitive};
use crate::schema::{BadSchema, Kind, Message, Structure, Type, Versions};

/// Makes any value of every metadata record, for property tests.
pub fn arbitrary_metadata_records(schemas: &[Message]) -> Result<String, BadSchema> {
    let records: Vec<Message> = schemas.iter().filter(|m| m.kind == Kind::Metadata).cloned().collect();
    let shared = shared_names(&records)?;
    let mut kinds = String::new();
    let mut impls = String::new();
    for record in &records {
        let emitter = Emitter::new(record, Style::Record, &shared)?;
        let newest = record.valid_versions.max;
        writeln!(
            kinds,
            "(|entropy, version| {}::arbitrary(entropy, version).into(), {newest}),",
            record.name
        )
        .ok();
        for structure in emitter.structures() {
            emit_arbitrary(&mut impls, &emitter, structure)?;
        }
    }
    Ok(format!(
        "//! Any value of every metadata record.\n\nuse super::*;\nuse crate::record::testing::Entropy;\n\n\
         /// Makes a record that a version can hold.\n\
         type Make = fn(&mut Entropy, i16) -> MetadataRecord;\n\n\
         /// All types of records, with the newest version of each.\n\
         pub(super) const KINDS: &[(Make, i16)] = &[{kinds}];\n\n{impls}"
    ))
}

pub fn emit_arbitrary(out: &mut String, emitter: &Emitter<'_>, structure: &Structure) -> Result<(), BadSchema> {
    let name = emitter.rust_name(&structure.name);
    let mut fields = String::new();
    for field in &structure.fields {
        let mut value = arbitrary(emitter, &field.ty);
        if is_nullable(field) {
            value = format!("entropy.option(|entropy| {value})");
        }
        let default = emitter.default_value(field)?;
        match condition(field.versions, structure.versions) {
            Some(present) => writeln!(
                fields,
                "{}: if {present} {{ {value} }} else {{ {default} }},",
                field_name(field)
            )
            .ok(),
            None => writeln!(fields, "{}: {value},", field_name(field)).ok(),
        };
    }
    if emitter.has_tagged_fields(structure) {
        match emitter.flexible(structure) {
            None => writeln!(fields, "unknown_tagged_fields: entropy.unknown_tagged_fields(),").ok(),
            Some(flexible) => writeln!(
                fields,
                "unknown_tagged_fields: if {flexible} {{ entropy.unknown_tagged_fields() }} else {{ UnknownTaggedFields::new() }},"
            )
            .ok(),
        };
    }
    let used = if fields.contains("schema_version") {
        "schema_version"
    } else {
        "_schema_version"
    };
    writeln!(
        out,
        "impl {name} {{ fn arbitrary(entropy: &mut Entropy, {used}: i16) -> Self {{ \
         {name} {{ {fields} }} }} }}\n"
    )
    .ok();
    Ok(())
}

fn arbitrary(emitter: &Emitter<'_>, ty: &Type) -> String {
    match ty {
        Type::Array(element) => format!("entropy.vec(|entropy| {})", arbitrary(emitter, element)),
        Type::Struct(name) => format!("{}::arbitrary(entropy, schema_version)", emitter.rust_name(name)),
        Type::String => "entropy.string()".to_owned(),
        Type::Bytes => "entropy.bytes()".to_owned(),
        ty => format!("entropy.{}()", primitive(ty).unwrap_or_default()),
    }
}

/// Structure names that more than one of `messages` has.
pub fn shared_names(messages: &[Message]) -> Result<BTreeSet<String>, BadSchema> {
    let mut count = BTreeMap::<String, usize>::new();
    for message in messages {
        for structure in message.structures()? {
            *count.entry(structure.name).or_default() += 1;
        }
    }
    Ok(count
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(name, _)| name)
        .collect())
}

/// Every metadata record and the enum of them all.
pub fn metadata_records(schemas: &[Message]) -> Result<String, BadSchema> {
    let records: Vec<Message> = schemas.iter().filter(|m| m.kind == Kind::Metadata).cloned().collect();
    let shared = shared_names(&records)?;
    let mut out = String::from(
        "//! The records of the metadata log in Kafka's persistent form.\n\
         #![allow(missing_docs, reason = \"the fields are Kafka's, described in its schemas\")]\n\n\
         use bytes::{BufMut, Bytes, BytesMut};\nuse uuid::Uuid;\n\n\
         use crate::record::primitives::{DecodeError, EncodeError, PutPrimitives, Reader, Result, UnknownTaggedFields};\n\n\
         #[cfg(test)]\nmod arbitrary;\n#[cfg(test)]\nmod tests;\n\n\
         /// `MetadataRecordSerde` knows this frame version only.\nconst FRAME_VERSION: u32 = 1;\n\n",
    );
    let emitters = records
        .iter()
        .map(|m| Emitter::new(m, Style::Record, &shared))
        .collect::<Result<Vec<_>, _>>()?;
    emit_enum(&mut out, &records, &emitters);
    for (record, emitter) in records.iter().zip(&emitters) {
        out.push_str(&emitter.emit(&format!("`{}` of Kafka's metadata log.", record.name))?);
    }
    Ok(out)
}

fn emit_enum(out: &mut String, records: &[Message], emitters: &[Emitter<'_>]) {
    let variant = |record: &Message| record.name.trim_end_matches("Record").to_owned();
    let arms = |pattern: &dyn Fn(&Message, &Emitter<'_>) -> String| {
        records
            .iter()
            .zip(emitters)
            .map(|(record, emitter)| pattern(record, emitter))
            .collect::<String>()
    };
    let key = |record: &Message| record.api_key.unwrap_or(-1);
    write!(
        out,
        "/// A record of the metadata log. Variants are named as in Kafka, without `Record`.\n\
         #[derive(Clone, Debug, PartialEq)]\npub enum MetadataRecord {{ {} }}\n\n\
         impl MetadataRecord {{\n\
         /// The record's name in Kafka's schemas.\n\
         pub fn name(&self) -> &'static str {{ self.kind().1 }}\n\n\
         /// The newest version of the record's type.\n\
         pub fn newest_version(&self) -> i16 {{ self.kind().2 }}\n\n\
         /// The number that stands for the type in the log, the name and the newest version.\n\
         fn kind(&self) -> (u32, &'static str, i16) {{ match self {{ {} }} }}\n\n\
         /// Appends the record as Apache Kafka writes it under metadata.version 4.3-IV0: frame version, type and version as\n\
         /// unsigned varints (`MetadataRecordSerde`), then the fields. The version is the newest, but for a\n\
         /// BrokerRegistrationChangeRecord the oldest that has its fields.\n\
         pub fn encode(&self, out: &mut BytesMut) {{\n\
         let newest = self.newest_version();\n\
         let version = match self {{\n\
         Self::BrokerRegistrationChange(record) => \
         (0..newest).find(|version| record.check(*version).is_ok()).unwrap_or(newest),\n\
         _ => newest }};\n\
         self.write(version, out); }}\n\n\
         /// As [`Self::encode`], in a version of choice; fails when that version cannot hold the record.\n\
         pub fn encode_version(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {{\n\
         if !(0..=self.newest_version()).contains(&version) {{\n\
         return Err(EncodeError::UnsupportedVersion {{ record: self.name(), version }}); }}\n\
         match self {{ {} _ => {{}} }}\n\
         self.write(version, out); Ok(()) }}\n\n\
         fn write(&self, version: i16, out: &mut BytesMut) {{\n\
         out.put_unsigned_varint(FRAME_VERSION); out.put_unsigned_varint(self.kind().0);\n\
         out.put_unsigned_varint(u32::from(version.unsigned_abs()));\n\
         match self {{ {} }} }}\n\n\
         /// Reads one record, which must fill `bytes`, in any version that Apache Kafka 4.3 reads.\n\
         pub fn decode(bytes: &[u8]) -> Result<MetadataRecord> {{\n\
         let mut reader = Reader::new(bytes);\n\
         let from = &mut reader;\n\
         let frame_version = from.unsigned_varint()?;\n\
         if frame_version != FRAME_VERSION {{ return Err(DecodeError::UnsupportedFrameVersion(frame_version)); }}\n\
         let (kind, version) = (from.unsigned_varint()?, from.unsigned_varint()? as i32);\n\
         let record = match kind {{ {} _ => return Err(DecodeError::UnknownRecordType(kind)) }};\n\
         reader.finish()?; Ok(record) }} }}\n\n\
         fn known(record: &'static str, version: i32, newest: i16) -> Result<i16> {{\n\
         i16::try_from(version).ok().filter(|version| (0..=newest).contains(version))\n\
         .ok_or(DecodeError::UnsupportedVersion {{ record, version }}) }}\n\n",
        arms(&|r, _| format!("{}({}),", variant(r), r.name)),
        arms(&|r, _| format!(
            "Self::{}(_) => ({}, {:?}, {}),",
            variant(r),
            key(r),
            r.name,
            r.valid_versions.max
        )),
        arms(&|r, e| match e.is_checked() {
            true => format!("Self::{}(record) => record.check(version)?,", variant(r)),
            false => String::new(),
        }),
        arms(&|r, _| format!("Self::{}(record) => record.write(version, out),", variant(r))),
        arms(&|r, _| format!(
            "{} => {}::read(from, known({:?}, version, {})?)?.into(),",
            key(r),
            r.name,
            r.name,
            r.valid_versions.max
        )),
    )
    .ok();
    for record in records {
        writeln!(
            out,
            "impl From<{name}> for MetadataRecord {{ fn from(record: {name}) -> Self {{ Self::{}(record) }} }}\n",
            variant(record),
            name = record.name
        )
        .ok();
    }
}

/// The values of KRaft's control records. Apache Kafka 4.3 writes and reads all of them in version 0
/// (`ControlRecordUtils`), though LeaderChangeMessage has a version 1.
pub fn control_records(schemas: &[Message]) -> Result<String, BadSchema> {
    const NAMES: [&str; 5] = [
        "LeaderChangeMessage",
        "SnapshotHeaderRecord",
        "SnapshotFooterRecord",
        "KRaftVersionRecord",
        "VotersRecord",
    ];
    let mut records = Vec::new();
    for name in NAMES {
        let message = schemas
            .iter()
            .find(|m| m.name == name)
            .ok_or_else(|| BadSchema(format!("no {name}")))?;
        records.push(Message {
            valid_versions: Versions { min: 0, max: 0 },
            ..message.clone()
        });
    }
    let shared = shared_names(&records)?;
    let mut out = String::from(
        "//! The values of KRaft's control records, in version 0: the only one that Apache Kafka 4.3 writes and reads.\n\
         #![allow(missing_docs, reason = \"the fields are Kafka's, described in its schemas\")]\n\n\
         use bytes::{BufMut, BytesMut};\nuse uuid::Uuid;\n\n\
         use crate::record::primitives::{PutPrimitives, Reader, Result, UnknownTaggedFields};\n\n\
         #[cfg(test)]\nmod tests;\n\n",
    );
    for record in &records {
        let emitter = Emitter::new(record, Style::Record, &shared)?;
        let name = &record.name;
        out.push_str(&emitter.emit(&format!("`{name}`, the value of a control record."))?);
        write!(
            out,
            "impl {name} {{\n\
             /// Appends the record's value.\n\
             pub fn encode(&self, out: &mut BytesMut) {{ self.write(0, out); }}\n\n\
             /// Reads a record's value, which must fill `bytes`.\n\
             pub fn decode(bytes: &[u8]) -> Result<Self> {{\n\
             let mut from = Reader::new(bytes); let record = Self::read(&mut from, 0)?;\n\
             from.finish()?; Ok(record) }} }}\n\n"
        )
        .ok();
    }
    Ok(out)
}
