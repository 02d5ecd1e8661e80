//! The group coordinator of this broker: the groups of the partitions of `__consumer_offsets` that it leads.

use std::sync::Arc;

use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::groups::commands::{Command, GroupCommand, ListGroups, ListedGroup, Reply};
use ottla_domain::groups::context::Patterns;
use ottla_domain::groups::partition::partition_for;
use ottla_domain::groups::settings::GroupSettings;
use ottla_domain::groups::shard::GroupShard;
use ottla_domain::groups::totals::GroupTotals;
use ottla_domain::ids::{BrokerId, PartitionId};
use ottla_domain::metadata::config::effective::NodeConfig;
use ottla_domain::metadata::controller::topics::NewTopic;
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::partitioning::names::CONSUMER_OFFSETS;
use ottla_domain::ports::inbound::GroupApi;
use ottla_domain::ports::outbound::LogStore;
use regex::RegexBuilder;
use tokio::runtime::Handle;

use crate::broker::BrokerSettings;
use crate::coordinator::{Coordinator, CoordinatorSettings};
use crate::services::Services;

/// The largest program that a pattern of topics may become: patterns come from clients.
const PATTERN_MAX_BYTES: usize = 1 << 20;

/// The groups of this broker.
pub type Groups<S> = Coordinator<S, GroupShard>;

/// A coordinator without groups, which counts in `totals`.
pub fn coordinator<S: LogStore>(settings: BrokerSettings, totals: Arc<GroupTotals>, runtime: Handle) -> Groups<S> {
    let image = MetadataImage::default();
    let number = |name: &str| settings.effective(&image).number(name);
    let coordinator = CoordinatorSettings {
        topic: CONSUMER_OFFSETS,
        load_buffer_bytes: usize::try_from(number("offsets.load.buffer.size")).unwrap_or(usize::MAX),
        commit_timeout_ms: u64::try_from(number("offsets.commit.timeout.ms")).unwrap_or(0),
    };
    let make = move |image: &Arc<MetadataImage>| {
        let settings = settings.clone();
        let read = move |image: &MetadataImage| {
            let log = settings.log_config(image, CONSUMER_OFFSETS);
            GroupSettings::new(&settings.effective(image), log.max_message_bytes as usize)
        };
        GroupShard::new(Box::new(read), Arc::new(TopicPatterns), Arc::clone(&totals), image)
    };
    Coordinator::new(coordinator, make, runtime)
}

/// The topic of offsets as it is made when the first client asks for a coordinator.
fn offsets_topic(config: &NodeConfig<'_>) -> NewTopic {
    let setting = |name: &str, value: String| (name.to_owned(), Some(value));
    NewTopic {
        name: CONSUMER_OFFSETS.to_owned(),
        partitions: i32::try_from(config.number("offsets.topic.num.partitions")).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(config.number("offsets.topic.replication.factor")).unwrap_or(i16::MAX),
        assignments: Vec::new(),
        configs: vec![
            setting("cleanup.policy", "compact".to_owned()),
            setting("compression.type", "producer".to_owned()),
            setting(
                "segment.bytes",
                config.number("offsets.topic.segment.bytes").to_string(),
            ),
        ],
    }
}

/// The partition that a group belongs to; `None` while there is no topic of offsets.
fn partition_of(image: &MetadataImage, group_id: &str) -> Option<PartitionId> {
    let topic = image.topics.by_name(CONSUMER_OFFSETS)?;
    Some(partition_for(
        group_id,
        i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
    ))
}

impl<S: LogStore> GroupApi for Services<S> {
    async fn find_group_coordinator(&self, group_id: &str) -> Result<BrokerId, ApiError> {
        let image = self.broker.image();
        let Some(partition) = partition_of(&image, group_id) else {
            let topic = offsets_topic(&self.broker.settings().effective(&image));
            let started = self
                .auto_creation
                .create_internal(&self.broker, &self.controller, topic);
            return Err(match started {
                Ok(()) => ErrorCode::CoordinatorNotAvailable.into(),
                Err(reason) => ErrorCode::CoordinatorNotAvailable.with(reason),
            });
        };
        let leader = image
            .topics
            .by_name(CONSUMER_OFFSETS)
            .and_then(|topic| topic.partition(partition))
            .map_or(BrokerId::NONE, |partition| BrokerId(partition.leader));
        match leader.is_broker() {
            true => Ok(leader),
            false => Err(ErrorCode::CoordinatorNotAvailable.into()),
        }
    }

    async fn group<C: GroupCommand>(&self, command: C) -> Result<C::Reply, ErrorCode> {
        let partition = partition_of(&self.broker.image(), command.group_id()).ok_or(ErrorCode::NotCoordinator)?;
        let reply = self.groups.submit(partition, command.into_command()).await?;
        C::reply(reply).ok_or(ErrorCode::UnknownServerError)
    }

    async fn list_groups(&self, filter: ListGroups) -> Result<Vec<ListedGroup>, ErrorCode> {
        let mut listed = Vec::new();
        for partition in self.groups.partitions() {
            match self.groups.submit(partition, Command::ListGroups(filter.clone())).await {
                Ok(Reply::ListGroups(groups)) => listed.extend(groups),
                // Another broker has it by now, and lists it.
                Err(ErrorCode::NotCoordinator) => {}
                Ok(_) => return Err(ErrorCode::UnknownServerError),
                Err(code) => return Err(code),
            }
        }
        Ok(listed)
    }
}

/// Regular expressions whose cost is linear in what they are matched with, as RE2's.
struct TopicPatterns;

impl Patterns for TopicPatterns {
    fn matching(&self, pattern: &str, names: &mut dyn Iterator<Item = &Arc<str>>) -> Result<Vec<Arc<str>>, String> {
        let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_MAX_BYTES).build();
        // On its own first, so that the message shows what the client sent, and brackets cannot be closed.
        compile(pattern).map_err(|error| error.to_string())?;
        let whole = compile(&format!(r"\A(?:{pattern})\z")).map_err(|error| error.to_string())?;
        Ok(names.filter(|name| whole.is_match(name)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(pattern: &str) -> Result<Vec<Arc<str>>, String> {
        let names: Vec<Arc<str>> = ["foo", "foobar", "bar"].map(Arc::from).into();
        TopicPatterns.matching(pattern, &mut names.iter())
    }

    #[test]
    fn patterns_match_whole_names() {
        let names = |pattern: &str| {
            matching(pattern)
                .unwrap()
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("foo"), ["foo"]);
        assert_eq!(names("foo.*"), ["foo", "foobar"]);
        assert_eq!(names("foo|bar"), ["foo", "bar"]);
        assert_eq!(names("FOO"), [] as [&str; 0]);
        assert_eq!(names("(?i)FOO"), ["foo"]);
    }

    #[test]
    fn bad_patterns_are_told_of() {
        for pattern in ["foo[", "a)(b", "(a{1000}){1000}{1000}", "(?<x"] {
            assert!(matching(pattern).is_err(), "{pattern}");
        }
        assert!(matching("foo[").unwrap_err().contains("foo["));
    }
}
