//! Identifiers, offsets and epochs as newtypes, so that one is never passed for another.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                $name(value)
            }
        }
    };
}

number!(
    /// `node.id`: brokers and controllers share one space of numbers. -1 stands for none.
    BrokerId(i32)
);
number!(
    /// The number of a partition within its topic, from 0.
    PartitionId(i32)
);
number!(
    /// How often the leadership of a partition (or of the metadata quorum) has changed; -1 stands for unknown.
    LeaderEpoch(i32)
);
number!(
    /// How often a partition's replicas, ISR or leader have changed (KIP-497).
    PartitionEpoch(i32)
);
number!(
    /// The offset of a broker's registration record in the metadata log; -1 stands for unknown (KIP-631).
    BrokerEpoch(i64)
);
number!(
    /// The id of an idempotent or transactional producer; -1 stands for a producer without one (KIP-98).
    ProducerId(i64)
);
number!(
    /// Fences older instances of a producer; -1 stands for none (KIP-98).
    ProducerEpoch(i16)
);
number!(
    /// The position of a record in a partition's log.
    Offset(i64)
);
number!(
    /// Milliseconds since the Unix epoch: what records carry and retention reads. -1 stands for none.
    Timestamp(i64)
);
number!(
    /// Nanoseconds of a monotonic clock: what timeouts read, so that a clock step expires nothing.
    Mono(u64)
);

impl BrokerId {
    /// True for a broker. Of the replica ids that are none, -1 is a consumer's and -2 a consumer's that debugs.
    pub fn is_broker(self) -> bool {
        self.0 >= 0
    }

    /// No broker: the leader of a partition without one.
    pub const NONE: BrokerId = BrokerId(-1);
}

impl LeaderEpoch {
    /// The epoch of a client that does not know one: it is not checked (KIP-320).
    pub const UNKNOWN: LeaderEpoch = LeaderEpoch(-1);
}

impl BrokerEpoch {
    /// No registration.
    pub const UNKNOWN: BrokerEpoch = BrokerEpoch(-1);
}

impl ProducerId {
    /// A producer that is not idempotent.
    pub const NONE: ProducerId = ProducerId(-1);
}

impl ProducerEpoch {
    /// The epoch of a producer that is not idempotent.
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);
}

impl Offset {
    /// No offset: what answers carry when there is none.
    pub const NONE: Offset = Offset(-1);
    /// The first offset of a log that never lost its head.
    pub const ZERO: Offset = Offset(0);

    /// The next offset.
    #[must_use]
    pub const fn next(self) -> Offset {
        Offset(self.0.saturating_add(1))
    }

    /// This many records further.
    #[must_use]
    pub const fn plus(self, records: i64) -> Offset {
        Offset(self.0.saturating_add(records))
    }
}

impl Timestamp {
    /// No timestamp.
    pub const NONE: Timestamp = Timestamp(-1);
}

impl Mono {
    /// This many milliseconds later; a negative delay is none.
    #[must_use]
    pub fn plus_ms(self, delay_ms: i64) -> Mono {
        Mono(
            self.0
                .saturating_add(u64::try_from(delay_ms).unwrap_or(0).saturating_mul(1_000_000)),
        )
    }

    /// Whole milliseconds since `earlier`; zero when it is later.
    pub fn ms_since(self, earlier: Mono) -> i64 {
        i64::try_from(self.0.saturating_sub(earlier.0) / 1_000_000).unwrap_or(i64::MAX)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            /// All bits zero: absent.
            pub const ZERO: $name = $name(Uuid::nil());

            /// True when absent.
            pub fn is_zero(self) -> bool {
                self.0.is_nil()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&uuid_to_string(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&uuid_to_string(self.0))
            }
        }

        impl From<Uuid> for $name {
            fn from(value: Uuid) -> Self {
                $name(value)
            }
        }

        impl FromStr for $name {
            type Err = InvalidUuid;

            fn from_str(text: &str) -> Result<Self, InvalidUuid> {
                uuid_from_string(text).map($name)
            }
        }
    };
}

id!(
    /// Names one life of a topic: a topic created again under the same name has another (KIP-516).
    TopicId
);
id!(
    /// Names a log directory of a broker or controller (KIP-858).
    DirectoryId
);

impl DirectoryId {
    /// A directory was chosen before directories had ids, and is not known yet (KIP-858).
    pub const MIGRATING: DirectoryId = DirectoryId(Uuid::from_u128(0));
    /// The broker has not said yet which directory holds the replica (KIP-858).
    pub const UNASSIGNED: DirectoryId = DirectoryId(Uuid::from_u128(1));
    /// Some directory that is offline (KIP-858).
    pub const LOST: DirectoryId = DirectoryId(Uuid::from_u128(2));

    /// True for the first hundred ids, which stand for states and are never given to a directory.
    pub fn is_reserved(self) -> bool {
        self.0.as_u128() < 100
    }
}

/// A text that is no UUID in Kafka's form: 22 characters of URL-safe base64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no UUID of 22 URL-safe base64 characters")]
pub struct InvalidUuid(pub String);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Writes a UUID as Kafka's tools do: URL-safe base64 without padding, as `MkU3OEVBNTcwNTJENDM2Qg`.
pub fn uuid_to_string(uuid: Uuid) -> String {
    let bits = uuid.as_u128();
    // 128 bits are 21 characters of 6 bits and one of the last two bits, shifted left.
    let sextet = |index: u32| {
        let six = if index == 21 {
            (bits << 4) & 0x30
        } else {
            (bits >> (122 - 6 * index)) & 0x3f
        };
        ALPHABET.get(six as usize).copied().unwrap_or(b'A') as char
    };
    (0..22).map(sextet).collect()
}

/// Reads a UUID that [`uuid_to_string`] or one of Kafka's tools wrote.
pub fn uuid_from_string(text: &str) -> Result<Uuid, InvalidUuid> {
    let invalid = || InvalidUuid(text.to_owned());
    if text.len() != 22 {
        return Err(invalid());
    }
    let mut bits: u128 = 0;
    for (index, byte) in text.bytes().enumerate() {
        let six = ALPHABET.iter().position(|known| *known == byte).ok_or_else(invalid)? as u128;
        bits = if index == 21 {
            (bits << 2) | (six >> 4)
        } else {
            (bits << 6) | six
        };
    }
    Ok(Uuid::from_u128(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_written_as_kafka_writes_them() {
        let bytes = *b"2E78EA57052D436B";
        assert_eq!(uuid_to_string(Uuid::from_bytes(bytes)), "MkU3OEVBNTcwNTJENDM2Qg");
        assert_eq!(uuid_from_string("MkU3OEVBNTcwNTJENDM2Qg").unwrap().as_bytes(), &bytes);
        assert!(uuid_from_string("MkU3OEVBNTcwNTJENDM2Q").is_err());
        assert!(uuid_from_string("MkU3OEVBNTcwNTJENDM2Q+").is_err());
    }

    #[test]
    fn time_never_runs_backwards() {
        assert_eq!(Mono(5_000_000).ms_since(Mono(9_000_000)), 0);
        assert_eq!(Mono(5).plus_ms(-3), Mono(5));
        assert_eq!(Mono(0).plus_ms(2).ms_since(Mono(0)), 2);
    }
}
