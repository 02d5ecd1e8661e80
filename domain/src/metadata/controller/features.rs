//! Feature levels (KIP-584, KIP-1022), and what a new cluster starts with.

use std::collections::BTreeMap;
use std::fmt;

use super::partition_change::ELR_VERSION;
use super::{Command, Context, Outcome, Settings};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::image::{
    ConfigResource, ConfigResourceType, GROUP_VERSION, KRAFT_VERSION, METADATA_VERSION, MetadataImage,
};
use crate::metadata::records::{
    AbortTransactionRecord, BeginTransactionRecord, ConfigRecord, EndTransactionRecord, FeatureLevelRecord,
    MetadataRecord, NoOpRecord,
};

/// Levels of a feature, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange(pub i16, pub i16);

impl VersionRange {
    /// True for a level within the range.
    pub const fn contains(self, level: i16) -> bool {
        self.0 <= level && level <= self.1
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 {
            self.0.fmt(f)
        } else {
            write!(f, "{}-{}", self.0, self.1)
        }
    }
}

/// The level of `metadata.version` that Apache Kafka 4.3 calls 4.3-IV0: the newest, and the only one that Ottla's records
/// are written for.
pub const METADATA_VERSION_LATEST: i16 = 30;
/// The newest level of `group.version`: consumer groups are on.
pub const GROUP_VERSION_LATEST: i16 = 1;
/// 3.3-IV3, the oldest level that Apache Kafka 4.3 knows.
pub const METADATA_VERSION_OLDEST: i16 = 7;

/// The feature levels that this version of Ottla can work with. A feature whose promise is not kept yet is absent.
pub const SUPPORTED: [(&str, VersionRange); 4] = [
    (ELR_VERSION, VersionRange(0, 1)),
    (GROUP_VERSION, VersionRange(0, GROUP_VERSION_LATEST)),
    (KRAFT_VERSION, VersionRange(0, 1)),
    (
        METADATA_VERSION,
        VersionRange(METADATA_VERSION_OLDEST, METADATA_VERSION_LATEST),
    ),
];

/// Kafka's name of a level of `metadata.version`, as `4.3-IV0`.
pub fn metadata_version_name(level: i16) -> Option<&'static str> {
    const NAMES: [&str; 24] = [
        "3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2", "3.7-IV0", "3.7-IV1",
        "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0", "4.0-IV1", "4.0-IV2", "4.0-IV3", "4.1-IV0",
        "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0",
    ];
    let index = level.checked_sub(METADATA_VERSION_OLDEST)?;
    NAMES.get(usize::try_from(index).ok()?).copied()
}

fn level_record(name: &str, level: i16) -> MetadataRecord {
    MetadataRecord::FeatureLevel(FeatureLevelRecord {
        name: name.to_owned(),
        feature_level: level,
        ..FeatureLevelRecord::default()
    })
}

/// What a new active controller writes first: what a new cluster begins with, in one metadata transaction, or the end of
/// a transaction that its predecessor left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activate {
    /// A metadata transaction is open in the log.
    pub in_transaction: bool,
}

impl Activate {
    /// What a new cluster begins with when nobody chose otherwise, as `bootstrap.checkpoint` holds it.
    pub fn bootstrap_records() -> Vec<MetadataRecord> {
        vec![
            level_record(METADATA_VERSION, METADATA_VERSION_LATEST),
            level_record(GROUP_VERSION, GROUP_VERSION_LATEST),
        ]
    }

    /// The records to append before anything else; they contain transaction markers, which
    /// [`crate::metadata::loader::ImageLoader`] reads and [`MetadataImage::apply`] does not.
    pub fn records(self, committed: &MetadataImage, settings: &Settings) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        if self.in_transaction {
            records.push(MetadataRecord::AbortTransaction(AbortTransactionRecord {
                reason: Some("Controller failover".to_owned()),
                ..AbortTransactionRecord::default()
            }));
        }
        if committed.feature(METADATA_VERSION) == 0 {
            records.push(MetadataRecord::BeginTransaction(BeginTransactionRecord {
                name: Some("Bootstrap records".to_owned()),
                ..BeginTransactionRecord::default()
            }));
            records.extend_from_slice(&settings.bootstrap);
            let enables_elr = |record: &MetadataRecord| matches!(record, MetadataRecord::FeatureLevel(level) if level.name == ELR_VERSION && level.feature_level > 0);
            if settings.bootstrap.iter().any(enables_elr) {
                records.push(min_isr_record("", Some(settings.default_min_isr().to_owned())));
            }
            records.push(MetadataRecord::EndTransaction(EndTransactionRecord::default()));
        }
        records
    }
}

/// Writes a record that changes nothing, so that consumers of the log see it advance (`metadata.max.idle.interval.ms`,
/// KIP-835).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteNoOp;

impl Command for WriteNoOp {
    type Reply = ();

    fn evaluate(self, _: &mut Context<'_>) -> Result<Outcome<()>, ApiError> {
        Ok(Outcome {
            records: vec![MetadataRecord::NoOp(NoOpRecord::default())],
            reply: (),
        })
    }
}

/// Which way a feature may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeType {
    /// A number that Kafka 4.3 does not define.
    Unknown,
    /// Up only.
    Upgrade,
    /// Down, if nothing is lost.
    SafeDowngrade,
    /// Down, even if something is lost.
    UnsafeDowngrade,
}

impl UpgradeType {
    /// The type with this number.
    pub const fn from_number(number: i8) -> Self {
        match number {
            1 => UpgradeType::Upgrade,
            2 => UpgradeType::SafeDowngrade,
            3 => UpgradeType::UnsafeDowngrade,
            _ => UpgradeType::Unknown,
        }
    }
}

/// One feature of UpdateFeatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature.
    pub name: String,
    /// The level that it is to have; 0 turns it off.
    pub level: i16,
    /// Which way it may go.
    pub upgrade_type: UpgradeType,
}

/// UpdateFeatures: all of them or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateFeatures {
    /// The changes.
    pub updates: Vec<FeatureUpdate>,
    /// Only say whether it could be done.
    pub validate_only: bool,
}

impl Command for UpdateFeatures {
    type Reply = ();

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<()>, ApiError> {
        let (image, settings) = (context.image, context.settings);
        let mut proposed: BTreeMap<&str, i16> = image
            .features
            .iter()
            .map(|(name, level)| (name.as_str(), *level))
            .collect();
        proposed.extend(self.updates.iter().map(|update| (update.name.as_str(), update.level)));
        let mut records = Vec::new();
        for update in &self.updates {
            let record = update.evaluate(image, settings, &proposed).map_err(|error| {
                let why = error.message.unwrap_or_default();
                let what = "The update failed for all features since the following feature had an error: ";
                error.code.with(format!("{what}{why}"))
            })?;
            records.extend(record);
        }
        if proposed.get(ELR_VERSION).is_some_and(|level| *level > 0) && image.feature(ELR_VERSION) == 0 {
            let mut safe = elr_safety_records(context);
            safe.append(&mut records);
            records = safe;
        }
        Ok(Outcome { records, reply: () }.validated(self.validate_only))
    }
}

impl FeatureUpdate {
    fn evaluate(
        &self,
        image: &MetadataImage,
        settings: &Settings,
        proposed: &BTreeMap<&str, i16>,
    ) -> Result<Option<MetadataRecord>, ApiError> {
        let (name, level) = (self.name.as_str(), self.level);
        let invalid = |why: String| {
            let message = format!("Invalid update version {level} for feature {name}. {why}");
            Err(ErrorCode::InvalidUpdateVersion.with(message))
        };
        if self.upgrade_type == UpgradeType::Unknown {
            return invalid("The controller does not support the given upgrade type.".to_owned());
        }
        let current = if name == KRAFT_VERSION {
            settings.kraft_version
        } else {
            image.feature(name)
        };
        if level < 0 {
            return invalid("A feature version cannot be less than 0.".to_owned());
        }
        if let Some(why) = reason_not_supported(image, settings, name, level) {
            return invalid(why);
        }
        if level < current && self.upgrade_type == UpgradeType::Upgrade {
            let why = "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                       unsafe downgrade.";
            return invalid(why.to_owned());
        }
        if level > current && self.upgrade_type != UpgradeType::Upgrade {
            return invalid("Can't downgrade to a newer version.".to_owned());
        }
        match name {
            METADATA_VERSION if level < current => {
                let why = match self.upgrade_type {
                    UpgradeType::UnsafeDowngrade => "Unsafe metadata downgrade is not supported in this version.",
                    _ => "Refusing to perform the requested downgrade because it might delete metadata information.",
                };
                let message = format!("Unsupported metadata.version downgrade from {current} to {level}. {why}");
                Err(ErrorCode::InvalidUpdateVersion.with(message))
            }
            METADATA_VERSION => Ok(Some(level_record(name, level))),
            KRAFT_VERSION if level == current => Ok(None),
            KRAFT_VERSION if level < current => invalid("Can't downgrade the version of this feature.".to_owned()),
            KRAFT_VERSION => invalid("Upgrading this feature is not supported yet.".to_owned()),
            _ => {
                // KIP-966: the only feature here that needs another.
                let needed = 23;
                let has = proposed.get(METADATA_VERSION).copied().unwrap_or(0);
                if name == ELR_VERSION && level > 0 && has < needed {
                    return invalid(format!(
                        "{name} could not be set to {level} because it depends on metadata.version level {needed}"
                    ));
                }
                Ok(Some(level_record(name, level)))
            }
        }
    }
}

/// Why not every node of the cluster can work with a level.
fn reason_not_supported(image: &MetadataImage, settings: &Settings, name: &str, level: i16) -> Option<String> {
    let refusal = |who: String, range: VersionRange| {
        if range.contains(level) {
            None
        } else if range.1 == 0 {
            Some(format!("{who} does not support this feature."))
        } else {
            Some(format!("{who} only supports versions {range}"))
        }
    };
    let none = VersionRange(0, 0);
    let own = SUPPORTED
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(none, |(_, range)| *range);
    if let Some(why) = refusal(format!("Local controller {}", settings.node_id), own) {
        return Some(why);
    }
    for (id, broker) in image.brokers.iter() {
        let range = broker.features.iter().find(|feature| feature.name == name);
        let range = range.map(|feature| VersionRange(feature.min_supported_version, feature.max_supported_version));
        if let Some(why) = refusal(format!("Broker {id}"), range.unwrap_or(none)) {
            return Some(why);
        }
    }
    for (id, controller) in image.controllers.iter().filter(|(id, _)| **id != settings.node_id) {
        let range = controller.features.iter().find(|feature| feature.name == name);
        let range = range.map(|feature| VersionRange(feature.min_supported_version, feature.max_supported_version));
        if let Some(why) = refusal(format!("Controller {id}"), range.unwrap_or(none)) {
            return Some(why);
        }
    }
    let mut others = settings.voters.iter().filter(|id| **id != settings.node_id);
    let missing = others.find(|id| !image.controllers.contains_key(id))?;
    Some(format!(
        "controller {missing} has not registered, and may not support this feature"
    ))
}

/// ELR needs one min.insync.replicas for all brokers (KIP-966).
fn elr_safety_records(context: &Context<'_>) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    let default = context.image.config(&ConfigResource::cluster_default());
    if default.is_none_or(|default| !default.contains_key(MIN_ISR)) {
        records.push(min_isr_record("", Some(context.settings.default_min_isr().to_owned())));
    }
    for (resource, configs) in context.image.configs.iter() {
        let is_broker = resource.kind == ConfigResourceType::Broker && !resource.name.is_empty();
        if is_broker && configs.contains_key(MIN_ISR) {
            records.push(min_isr_record(&resource.name, None));
        }
    }
    records
}

fn min_isr_record(broker: &str, value: Option<String>) -> MetadataRecord {
    MetadataRecord::Config(ConfigRecord {
        resource_type: ConfigResourceType::Broker.number(),
        resource_name: broker.to_owned(),
        name: MIN_ISR.to_owned(),
        value,
        ..ConfigRecord::default()
    })
}

impl Settings {
    /// The static min.insync.replicas of this node.
    fn default_min_isr(&self) -> &str {
        self.properties.get(MIN_ISR).map_or("1", |text| text.trim())
    }
}

/// The setting that ELR depends on.
pub(super) const MIN_ISR: &str = "min.insync.replicas";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::BrokerId;

    #[test]
    fn a_cluster_that_begins_with_elr_pins_min_isr() {
        let elr = level_record(ELR_VERSION, 1);
        let mut settings = Settings {
            node_id: BrokerId(1),
            cluster_id: String::new(),
            properties: Arc::new([(MIN_ISR.to_owned(), "2".to_owned())].into()),
            voters: [BrokerId(1)].into(),
            kraft_version: 1,
            bootstrap: Activate::bootstrap_records().into(),
        };
        let activate = Activate { in_transaction: false };
        let begins_with = |settings: &Settings| {
            let mut records = activate.records(&MetadataImage::default(), settings);
            records.remove(0);
            records.pop();
            records
        };
        assert_eq!(begins_with(&settings), Activate::bootstrap_records());
        settings.bootstrap = [Activate::bootstrap_records(), vec![elr.clone()]].concat().into();
        let mut expected = settings.bootstrap.to_vec();
        expected.push(min_isr_record("", Some("2".to_owned())));
        assert_eq!(begins_with(&settings), expected);
    }
}
