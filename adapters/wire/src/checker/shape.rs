//! How the generated table describes requests.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

/// From the first to the last version, both included; empty when the first is larger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Versions(pub i16, pub i16);

impl Versions {
    const NONE: Versions = Versions(0, -1);

    pub(super) fn contains(self, version: i16) -> bool {
        (self.0..=self.1).contains(&version)
    }
}

#[derive(Debug)]
pub(super) struct Request {
    pub api_key: i16,
    /// Kafka's name of the API.
    pub name: &'static str,
    pub versions: Versions,
    /// Versions with compact lengths and tagged fields (KIP-482).
    pub flexible: Versions,
    /// Whether the message is one of ours, which copy strings and bytes out of the frame instead of pointing into it.
    pub ours: bool,
    pub body: &'static Structure,
}

#[derive(Debug)]
pub(super) struct Structure {
    /// Memory of the decoded structure itself, without what its strings and arrays point to.
    pub size_bytes: usize,
    /// In the order in which they are written.
    pub fields: &'static [Field],
}

#[derive(Debug)]
pub(super) struct Field {
    /// The name in Kafka's schema.
    pub name: &'static str,
    pub versions: Versions,
    pub nullable: Versions,
    /// The tag, and the versions in which the field is a tagged one.
    tag: (u32, Versions),
    pub shape: Shape,
}

pub(super) const fn field(name: &'static str, versions: Versions, shape: Shape) -> Field {
    Field {
        name,
        versions,
        nullable: Versions::NONE,
        tag: (0, Versions::NONE),
        shape,
    }
}

impl Field {
    pub(super) const fn nullable(self, nullable: Versions) -> Field {
        Field { nullable, ..self }
    }

    pub(super) const fn tagged(self, tag: u32, versions: Versions) -> Field {
        Field {
            tag: (tag, versions),
            ..self
        }
    }

    /// The tag under which the field is written in `version`, if it is a tagged one there.
    pub(super) fn tag_in(&self, version: i16) -> Option<u32> {
        let (tag, versions) = self.tag;
        versions.contains(version).then_some(tag)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A number, boolean or uuid of so many bytes.
    Fixed(usize),
    String,
    /// Bytes or records.
    Bytes,
    Structure(&'static Structure),
    Array(&'static Shape),
}

impl Shape {
    /// Memory of one decoded element of an array.
    pub(super) fn element_size_bytes(self) -> usize {
        match self {
            Shape::Fixed(size_bytes) => size_bytes,
            Shape::String => size_of::<StrBytes>(),
            Shape::Bytes => size_of::<Bytes>(),
            Shape::Structure(structure) => structure.size_bytes,
            Shape::Array(_) => size_of::<Vec<()>>(),
        }
    }
}
