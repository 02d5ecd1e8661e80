//! `adapters/wire/src/messages/`: the messages that kafka-protocol lacks in their newest version, whole.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::rust::{Emitter, Style};
use crate::schema::{BadSchema, Kind, Message, Versions, snake_case};

/// APIs of which kafka-protocol lacks the newest version.
pub const APIS: [&str; 6] = [
    "AddRaftVoter",
    "BrokerHeartbeat",
    "DescribeLogDirs",
    "ListOffsets",
    "OffsetCommit",
    "OffsetFetch",
];

/// The request and the response of `api`, with the file's name.
pub fn messages(schemas: &[Message], api: &str) -> Result<(String, String), BadSchema> {
    let mut body = String::new();
    for suffix in ["Request", "Response"] {
        let name = format!("{api}{suffix}");
        let message = schemas
            .iter()
            .find(|m| m.name == name)
            .ok_or_else(|| BadSchema(format!("no {name}")))?;
        emit_message(&mut body, message)?;
    }
    let key = schemas
        .iter()
        .find(|m| m.kind == Kind::Request && m.name == format!("{api}Request"));
    write!(
        body,
        "impl kafka_protocol::protocol::Request for {api}Request {{\n\
         const KEY: i16 = {}; type Response = {api}Response; }}\n",
        key.and_then(|m| m.api_key).unwrap_or(-1)
    )
    .ok();
    let mut out = format!("//! {api} in all versions of Apache Kafka 4.3.\n\n");
    let uses = |names: &[&str]| -> Vec<String> {
        let word = |c: char| !c.is_alphanumeric();
        let has = |name: &&&str| body.split(word).any(|w| w == **name);
        names.iter().filter(has).map(|name| (*name).to_owned()).collect()
    };
    for (path, names) in [
        ("bytes", &["BufMut", "Bytes", "BytesMut"][..]),
        ("kafka_protocol::messages", &["BrokerId", "GroupId", "TopicName"]),
        ("kafka_protocol::protocol", &["StrBytes"]),
        (
            "ottla_domain::record::primitives",
            &["DecodeError", "EncodeError", "Reader", "Result", "UnknownTaggedFields"],
        ),
        ("uuid", &["Uuid"]),
    ] {
        let mut names = uses(names);
        if path == "bytes" {
            names.insert(0, "BufMut as _".to_owned());
        }
        if path.ends_with("primitives") {
            names.push("PutPrimitives as _".to_owned());
        }
        if !names.is_empty() {
            writeln!(out, "use {path}::{{{}}};", names.join(", ")).ok();
        }
    }
    writeln!(out, "\nuse super::kafka_message;\n\n{body}").ok();
    Ok((format!("adapters/wire/src/messages/{}.rs", snake_case(api)), out))
}

fn emit_message(out: &mut String, message: &Message) -> Result<(), BadSchema> {
    let emitter = Emitter::new(message, Style::Wire, &BTreeSet::new())?;
    let name = &message.name;
    out.push_str(&emitter.emit(&format!("`{name}` of Kafka's protocol."))?);
    let Versions { min, max } = message.valid_versions;
    let check = if emitter.is_checked() {
        "self.check(version)?;"
    } else {
        ""
    };
    // Since the first flexible version a header ends with tagged fields.
    let (plain, flexible) = if message.kind == Kind::Request { (1, 2) } else { (0, 1) };
    write!(
        out,
        "kafka_message!({name}, versions {min}..={max}, headers {plain} and from {} on {flexible});\n\n\
         impl {name} {{\n\
         fn encoded(&self, version: i16) -> Result<BytesMut, EncodeError> {{\n\
         {check} let mut out = BytesMut::new(); self.write(version, &mut out)?; Ok(out) }} }}\n\n",
        message.flexible_versions.min.max(min)
    )
    .ok();
    Ok(())
}
