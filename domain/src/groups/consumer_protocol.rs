//! What consumers of the classic protocol say and are told in bytes that only they read otherwise (`ConsumerProtocol`):
//! subscriptions and assignments, with topics by name.

use bytes::{BufMut, Bytes, BytesMut};

use super::assignors::Partitions;
use super::commands::Assignment;
use crate::ids::PartitionId;
use crate::metadata::image::MetadataImage;
use crate::record::primitives::{DecodeError, EncodeError, PutPrimitives, Reader};

/// The newest version; newer ones begin alike.
const NEWEST: i16 = 3;

type Topics<'a> = Vec<(&'a str, Vec<PartitionId>)>;

/// `ConsumerProtocolSubscription`: the metadata of a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subscription<'a> {
    pub(super) topics: Vec<&'a str>,
    pub(super) owned_partitions: Topics<'a>,
    pub(super) rack_id: Option<&'a str>,
}

/// `ConsumerProtocolAssignment`: what the leader gave a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MemberAssignment<'a> {
    pub(super) partitions: Topics<'a>,
    pub(super) user_data: &'a [u8],
}

/// The version that subscriptions and assignments begin with.
pub(super) fn version(bytes: &[u8]) -> Result<i16, DecodeError> {
    read_version(&mut Reader::new(bytes))
}

fn read_version(from: &mut Reader<'_>) -> Result<i16, DecodeError> {
    match from.i16()? {
        version @ 0.. => Ok(version.min(NEWEST)),
        version => Err(DecodeError::UnsupportedVersion {
            record: "ConsumerProtocol",
            version: i32::from(version),
        }),
    }
}

/// What subscriptions of all versions begin with, behind the version: the topics, and user data.
fn read_beginning<'a>(from: &mut Reader<'a>) -> Result<Vec<&'a str>, DecodeError> {
    let topics = from.array(|from| from.string())?;
    from.nullable_bytes()?;
    Ok(topics)
}

/// The topics of a subscription, whatever its version and whatever follows them, as Kafka's coordinator reads it.
pub(super) fn subscribed_topics(bytes: &[u8]) -> Result<Vec<&str>, DecodeError> {
    let mut from = Reader::new(bytes);
    from.i16()?;
    read_beginning(&mut from)
}

fn read_topics<'a>(from: &mut Reader<'a>) -> Result<Topics<'a>, DecodeError> {
    from.array(|from| Ok((from.string()?, from.array(|from| Ok(PartitionId(from.i32()?)))?)))
}

impl<'a> Subscription<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        let version = read_version(&mut from)?;
        let topics = read_beginning(&mut from)?;
        let owned_partitions = if version >= 1 {
            read_topics(&mut from)?
        } else {
            Vec::new()
        };
        if version >= 2 {
            // The generation that the member got them in.
            from.i32()?;
        }
        let rack_id = if version >= 3 { from.nullable_string()? } else { None };
        Ok(Subscription {
            topics,
            owned_partitions,
            rack_id: rack_id.filter(|rack| !rack.is_empty()),
        })
    }
}

impl<'a> MemberAssignment<'a> {
    /// A member that never synced has no bytes, and no partitions.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(MemberAssignment {
                partitions: Vec::new(),
                user_data: &[],
            });
        }
        let mut from = Reader::new(bytes);
        read_version(&mut from)?;
        Ok(MemberAssignment {
            partitions: read_topics(&mut from)?,
            user_data: from.nullable_bytes()?.unwrap_or_default(),
        })
    }
}

/// The partitions of topics that exist, by their ids.
pub(super) fn by_id(topics: &Topics<'_>, image: &MetadataImage) -> Partitions {
    let mut partitions = Partitions::new();
    for (name, numbers) in topics {
        if let Some(topic) = image.topics.by_name(name)
            && !numbers.is_empty()
        {
            let known = partitions.entry(topic.id).or_default();
            known.extend(numbers);
            known.sort_unstable();
            known.dedup();
        }
    }
    partitions
}

/// [`by_id`] as members say what they have.
pub(super) fn owned(subscription: &Subscription<'_>, image: &MetadataImage) -> Assignment {
    by_id(&subscription.owned_partitions, image).into_iter().collect()
}

/// The bytes that tell a member its partitions, in the version of its subscription.
pub(super) fn write_assignment(
    partitions: &Partitions,
    version: i16,
    image: &MetadataImage,
) -> Result<Bytes, EncodeError> {
    let topics: Vec<(&str, &[PartitionId])> = partitions
        .iter()
        .filter_map(|(topic, partitions)| Some((&*image.topics.by_id(*topic)?.name, partitions.as_slice())))
        .collect();
    let mut out = BytesMut::new();
    out.put_i16(version);
    out.put_array_length(Some(topics.len()));
    for (name, partitions) in topics {
        out.put_string(name)?;
        out.put_array_length(Some(partitions.len()));
        for partition in partitions {
            out.put_i32(partition.0);
        }
    }
    // No user data.
    out.put_i32(-1);
    Ok(out.freeze())
}
