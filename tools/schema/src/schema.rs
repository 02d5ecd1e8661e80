//! Kafka's message schemas (`common/message/*.json`, `common/metadata/*.json`), as Kafka's README of them describes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, de};

/// A range of versions; empty when a schema says `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    pub const NONE: Versions = Versions { min: 0, max: -1 };

    pub fn is_empty(self) -> bool {
        self.min > self.max
    }

    pub fn covers(self, other: Versions) -> bool {
        other.is_empty() || (self.min <= other.min && self.max >= other.max)
    }

    pub fn intersect(self, other: Versions) -> Versions {
        let both = Versions {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        };
        if both.is_empty() { Versions::NONE } else { both }
    }
}

impl FromStr for Versions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<i16>().map_err(|e| format!("versions {text:?}: {e}"));
        if text == "none" {
            Ok(Versions::NONE)
        } else if let Some(min) = text.strip_suffix('+') {
            Ok(Versions {
                min: number(min)?,
                max: i16::MAX,
            })
        } else if let Some((min, max)) = text.split_once('-') {
            Ok(Versions {
                min: number(min)?,
                max: number(max)?,
            })
        } else {
            let only = number(text)?;
            Ok(Versions { min: only, max: only })
        }
    }
}

impl<'de> Deserialize<'de> for Versions {
    fn deserialize<D: de::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    /// Bytes of a number, boolean or uuid.
    pub fn fixed_size(&self) -> Option<usize> {
        match self {
            Type::Bool | Type::Int8 => Some(1),
            Type::Int16 | Type::Uint16 => Some(2),
            Type::Int32 | Type::Uint32 => Some(4),
            Type::Int64 | Type::Float64 => Some(8),
            Type::Uuid => Some(16),
            _ => None,
        }
    }

    /// The structure that a field or its elements are.
    pub fn structure(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(element) => element.structure(),
            _ => None,
        }
    }
}

impl FromStr for Type {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "bool" => Type::Bool,
            "int8" => Type::Int8,
            "int16" => Type::Int16,
            "uint16" => Type::Uint16,
            "int32" => Type::Int32,
            "uint32" => Type::Uint32,
            "int64" => Type::Int64,
            "float64" => Type::Float64,
            "uuid" => Type::Uuid,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "records" => Type::Records,
            name => match name.strip_prefix("[]") {
                Some(element) => Type::Array(Box::new(element.parse()?)),
                None => Type::Struct(name.to_owned()),
            },
        })
    }
}

impl<'de> Deserialize<'de> for Type {
    fn deserialize<D: de::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Request,
    Response,
    Header,
    Data,
    Metadata,
    CoordinatorKey,
    CoordinatorValue,
}

/// One file of a schema.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    pub api_key: Option<i16>,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub name: String,
    pub valid_versions: Versions,
    #[serde(default = "none")]
    pub flexible_versions: Versions,
    #[serde(default)]
    pub fields: Vec<Field>,
    #[serde(default)]
    pub common_structs: Vec<Struct>,
}

/// A structure that several fields of a message share.
#[derive(Clone, Debug, Deserialize)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: Type,
    #[serde(default = "none")]
    pub versions: Versions,
    #[serde(default = "none")]
    pub nullable_versions: Versions,
    #[serde(default = "none")]
    pub tagged_versions: Versions,
    pub tag: Option<u32>,
    #[serde(default)]
    pub default: Option<serde_json::Value>,
    #[serde(default)]
    pub ignorable: bool,
    pub entity_type: Option<String>,
    #[serde(default)]
    pub fields: Vec<Field>,
}

fn none() -> Versions {
    Versions::NONE
}

impl Field {
    /// The schema's default as text, if it names one.
    pub fn default_text(&self) -> Option<String> {
        self.default.as_ref().map(|value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

/// A structure of a message, with the versions in which it occurs.
#[derive(Clone, Debug)]
pub struct Structure {
    pub name: String,
    pub versions: Versions,
    pub fields: Vec<Field>,
}

#[derive(Debug)]
pub struct BadSchema(pub String);

impl fmt::Display for BadSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadSchema {}

impl Message {
    /// Reads a schema: JSON with comments on lines of their own.
    pub fn parse(text: &str) -> Result<Message, serde_json::Error> {
        let json: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let mut message: Message = serde_json::from_str(&json.join("\n"))?;
        fill_versions(&mut message.fields);
        for common in &mut message.common_structs {
            fill_versions(&mut common.fields);
        }
        Ok(message)
    }

    /// The message itself and every structure in it, outermost first; fields outside of the valid versions are left out.
    pub fn structures(&self) -> Result<Vec<Structure>, BadSchema> {
        let mut found = BTreeMap::new();
        let mut order = Vec::new();
        self.visit(&self.name, &self.fields, self.valid_versions, &mut found, &mut order)?;
        let mut structures: Vec<_> = order.iter().filter_map(|name| found.remove(name)).collect();
        for Structure { versions, fields, .. } in &mut structures {
            fields.retain(|field| !field.versions.intersect(*versions).is_empty());
        }
        Ok(structures)
    }

    fn visit(
        &self,
        name: &str,
        fields: &[Field],
        versions: Versions,
        found: &mut BTreeMap<String, Structure>,
        order: &mut Vec<String>,
    ) -> Result<(), BadSchema> {
        match found.get_mut(name) {
            // A common structure that is used in several places occurs in all of their versions.
            Some(seen) => {
                seen.versions.min = seen.versions.min.min(versions.min);
                seen.versions.max = seen.versions.max.max(versions.max);
            }
            None => {
                found.insert(
                    name.to_owned(),
                    Structure {
                        name: name.to_owned(),
                        versions,
                        fields: fields.to_vec(),
                    },
                );
                order.push(name.to_owned());
            }
        }
        for field in fields {
            let versions = field.versions.intersect(versions);
            if let Some(name) = field.ty.structure().filter(|_| !versions.is_empty()) {
                self.visit(name, self.structure_fields(field, name)?, versions, found, order)?;
            }
        }
        Ok(())
    }

    /// The fields of the structure that `field` is or holds.
    pub fn structure_fields<'a>(&'a self, field: &'a Field, name: &str) -> Result<&'a [Field], BadSchema> {
        if !field.fields.is_empty() {
            return Ok(&field.fields);
        }
        let common = self.common_structs.iter().find(|common| common.name == name);
        common
            .map(|common| common.fields.as_slice())
            .ok_or_else(|| BadSchema(format!("{}: no {name}", self.name)))
    }
}

/// A field that does not say its versions has those in which it is tagged.
fn fill_versions(fields: &mut [Field]) {
    for field in fields {
        if field.versions.is_empty() {
            field.versions = field.tagged_versions;
        }
        fill_versions(&mut field.fields);
    }
}

/// `PartitionIndex` -> `partition_index`, `KRaftVersion` -> `kraft_version`.
pub fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.replace("KRaft", "Kraft").chars().collect();
    let mut out = String::new();
    for (index, &c) in chars.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|i| chars.get(i)).copied();
        let after = chars.get(index + 1);
        let starts_word =
            c.is_uppercase() && before.is_some_and(|b| !b.is_uppercase() || after.is_some_and(|a| a.is_lowercase()));
        if starts_word {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_snake_case() {
        let names = [
            "TopicId",
            "EndPoints",
            "KRaftVersion",
            "Enable2Pc",
            "LastKnownElr",
            "ACLEntry",
            "Isr",
        ];
        let expected = [
            "topic_id",
            "end_points",
            "kraft_version",
            "enable2_pc",
            "last_known_elr",
            "acl_entry",
            "isr",
        ];
        assert_eq!(names.map(snake_case), expected);
    }

    #[test]
    fn versions_are_read_and_intersected() {
        let versions = |text: &str| text.parse::<Versions>().unwrap();
        assert_eq!(versions("3"), Versions { min: 3, max: 3 });
        assert_eq!(versions("none"), Versions::NONE);
        assert_eq!(versions("2+").intersect(versions("0-4")), versions("2-4"));
        assert!(versions("0+").covers(versions("1-3")) && !versions("2+").covers(versions("1-3")));
        assert!(versions("5+").intersect(versions("0-4")).is_empty());
    }
}
