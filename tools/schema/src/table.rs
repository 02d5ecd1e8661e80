//! `adapters/wire/src/checker/table.rs`: what the request checker knows of each request.

use std::fmt::Write;

use crate::messages;
use crate::schema::{BadSchema, Kind, Message, Structure, Type, Versions, snake_case};

/// Requests that neither kafka-protocol nor `adapters/wire/src/messages` has.
const ABSENT: [&str; 2] = ["StreamsGroupHeartbeatRequest", "StreamsGroupDescribeRequest"];

pub fn table(schemas: &[Message]) -> Result<String, BadSchema> {
    let mut requests: Vec<&Message> = schemas
        .iter()
        .filter(|m| m.kind == Kind::Request && !m.valid_versions.is_empty() && !ABSENT.contains(&m.name.as_str()))
        .collect();
    requests.sort_by_key(|m| m.api_key);
    let mut rows = String::new();
    let mut structures = String::new();
    for request in requests {
        let api = request.name.trim_end_matches("Request");
        let is_ours = messages::APIS.contains(&api);
        let module = if is_ours {
            format!("ours::{}", snake_case(api))
        } else {
            format!("theirs::{}", snake_case(&request.name).replace("kraft", "k_raft"))
        };
        writeln!(
            rows,
            "Request {{ api_key: {}, name: {api:?}, versions: {}, flexible: {}, ours: {is_ours}, body: &{} }},",
            request.api_key.unwrap_or(-1),
            versions(request.valid_versions),
            versions(request.flexible_versions.intersect(request.valid_versions)),
            static_name(request, &request.name),
        )
        .ok();
        for structure in request.structures()? {
            emit_structure(&mut structures, request, &module, &structure)?;
        }
    }
    Ok(format!(
        "//! The fields of every request of Apache Kafka 4.3.\n\n\
         use kafka_protocol::messages as theirs;\n\n\
         use super::shape::{{Request, Shape, Structure, Versions, field}};\nuse crate::messages as ours;\n\n\
         /// Sorted by api key.\npub(super) static REQUESTS: &[Request] = &[\n{rows}];\n\n{structures}"
    ))
}

fn versions(versions: Versions) -> String {
    format!("Versions({}, {})", versions.min, versions.max)
}

fn static_name(message: &Message, structure: &str) -> String {
    let request = snake_case(&message.name);
    if structure == message.name {
        request.to_uppercase()
    } else {
        format!("{}_{}", request.trim_end_matches("_request"), snake_case(structure)).to_uppercase()
    }
}

fn emit_structure(out: &mut String, message: &Message, module: &str, structure: &Structure) -> Result<(), BadSchema> {
    let name = static_name(message, &structure.name);
    writeln!(
        out,
        "static {name}: Structure = Structure {{ size_bytes: size_of::<{module}::{}>(), fields: &[",
        structure.name
    )
    .ok();
    for field in &structure.fields {
        let present = field.versions.intersect(structure.versions);
        let nullable = field.nullable_versions.intersect(present);
        let tagged = field.tagged_versions.intersect(present);
        write!(
            out,
            "field({:?}, {}, {})",
            field.name,
            versions(present),
            shape(message, &field.ty)?
        )
        .ok();
        if !nullable.is_empty() {
            write!(out, ".nullable({})", versions(nullable)).ok();
        }
        if let Some(tag) = field.tag.filter(|_| !tagged.is_empty()) {
            write!(out, ".tagged({tag}, {})", versions(tagged)).ok();
        }
        out.push_str(",\n");
    }
    out.push_str("] };\n\n");
    Ok(())
}

fn shape(message: &Message, ty: &Type) -> Result<String, BadSchema> {
    Ok(match ty {
        Type::String => "Shape::String".to_owned(),
        Type::Bytes | Type::Records => "Shape::Bytes".to_owned(),
        Type::Struct(name) => format!("Shape::Structure(&{})", static_name(message, name)),
        Type::Array(element) => format!("Shape::Array(&{})", shape(message, element)?),
        ty => {
            let size = ty
                .fixed_size()
                .ok_or_else(|| BadSchema(format!("{}: {ty:?}", message.name)))?;
            format!("Shape::Fixed({size})")
        }
    })
}
