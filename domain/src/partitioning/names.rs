//! What a topic may be called.

/// The longest name of a topic: folders are named after it, with a partition and a suffix behind.
pub const NAME_BYTES_MAX: usize = 249;
/// Consumer groups and their offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// Transactions.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// Share groups (KIP-932).
pub const SHARE_GROUP_STATE: &str = "__share_group_state";
/// The metadata log; never a topic that clients see.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Why a topic cannot have a name. The texts are those that Kafka's tools show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No name.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// `.` and `..` name folders already.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    /// More than [`NAME_BYTES_MAX`].
    #[error("Topic name is invalid: the length of '{0}' is longer than the max allowed length {NAME_BYTES_MAX}")]
    TooLong(String),
    /// Anything but `[a-zA-Z0-9._-]`.
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters(String),
}

/// Checks a name that a client wants to give a topic.
pub fn validate(name: &str) -> Result<(), InvalidName> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Err(InvalidName::Empty),
        "." | ".." => Err(InvalidName::Dots(name.to_owned())),
        // Kafka counts UTF-16 units before it looks at the characters.
        _ if name.encode_utf16().count() > NAME_BYTES_MAX => Err(InvalidName::TooLong(name.to_owned())),
        _ if !name.chars().all(legal) => Err(InvalidName::Characters(name.to_owned())),
        _ => Ok(()),
    }
}

/// True for the topics that brokers keep state in; clients see them flagged, and most may not write to them.
pub fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
}

/// The name with which a topic collides with others: metric names turn `.` into `_`, so `a.b` and `a_b` cannot both
/// exist. `None` when the name holds neither.
pub fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_with_kafkas_words() {
        let error = |name: &str| validate(name).unwrap_err().to_string();
        assert_eq!(error(""), "Topic name is invalid: the empty string is not allowed");
        assert_eq!(error(".."), "Topic name is invalid: '..' is not allowed");
        assert_eq!(
            error("a b"),
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' \
             and '-'"
        );
        let long = "x".repeat(250);
        assert_eq!(
            error(&long),
            format!("Topic name is invalid: the length of '{long}' is longer than the max allowed length 249")
        );
        assert_eq!(
            validate(&"é".repeat(249)),
            Err(InvalidName::Characters("é".repeat(249)))
        );
        assert_eq!(validate(&"x".repeat(249)), Ok(()));
        assert_eq!(validate("__consumer_offsets-1.X"), Ok(()));
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert_eq!(collision_key("a.b_c"), collision_key("a_b.c"));
        assert_eq!(collision_key("a-b"), None);
    }
}
