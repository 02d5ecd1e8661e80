//! What one setting is.

use super::check::Check;

/// The type of a setting's value (`ConfigDef.Type` in kafka-clients); the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
#[allow(missing_docs, reason = "the names are Kafka's and say it all")]
pub enum SettingType {
    Unknown = 0,
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl SettingType {
    /// The number in DescribeConfigs (KIP-569).
    pub const fn number(self) -> i8 {
        self as i8
    }

    /// The name in error messages.
    pub const fn name(self) -> &'static str {
        match self {
            SettingType::Unknown => "UNKNOWN",
            SettingType::Boolean => "BOOLEAN",
            SettingType::String => "STRING",
            SettingType::Int => "INT",
            SettingType::Short => "SHORT",
            SettingType::Long => "LONG",
            SettingType::Double => "DOUBLE",
            SettingType::List => "LIST",
            SettingType::Class => "CLASS",
            SettingType::Password => "PASSWORD",
        }
    }

    /// True when values are shown to nobody; values of unknown settings may be secrets, too.
    pub const fn is_sensitive(self) -> bool {
        matches!(self, SettingType::Password | SettingType::Unknown)
    }
}

/// How Kafka lets a broker's setting change while it runs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Only by a restart.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker or for all.
    ClusterWide,
}

/// What Ottla does with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A change takes effect at once.
    Live,
    /// It is read when the node starts.
    Start,
    /// It is accepted, so that files made for Apache Kafka work, and has no effect.
    Ignored,
}

/// One setting of a broker or of topics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: SettingType,
    /// The value when it is not set; `None` is null.
    pub default: Option<&'static str>,
    /// Which values are allowed.
    pub check: Check,
    /// How Kafka lets it change.
    pub update: Update,
    /// What Ottla does with it.
    pub effect: Effect,
    /// Not shown unless it is set.
    pub is_internal: bool,
    /// One sentence.
    pub doc: &'static str,
}

/// The default of a setting that is null when it is not set.
pub(super) const NULL: &str = "\0";

/// A line of the catalogue.
pub(super) const fn s(
    name: &'static str,
    kind: SettingType,
    default: &'static str,
    check: Check,
    update: Update,
    effect: Effect,
    doc: &'static str,
) -> Setting {
    Setting {
        name,
        kind,
        default: if matches!(default.as_bytes(), [0]) {
            None
        } else {
            Some(default)
        },
        check,
        update,
        effect,
        is_internal: false,
        doc,
    }
}

impl Setting {
    /// The same, not shown unless it is set.
    pub(super) const fn internal(mut self) -> Setting {
        self.is_internal = true;
        self
    }

    /// True when DescribeConfigs shows that it cannot change while the broker runs.
    pub const fn is_read_only(&self) -> bool {
        matches!(self.update, Update::ReadOnly)
    }
}
