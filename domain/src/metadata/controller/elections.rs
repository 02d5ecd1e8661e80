//! New leaders and ISRs when a broker comes or goes.

use super::Context;
use super::partition_change::{Candidates, PartitionChange, TopicRules};
use crate::ids::{BrokerId, DirectoryId, TopicId};
use crate::metadata::records::{MetadataRecord, PartitionRecord};
use crate::metadata::topics::TopicImage;

/// The partitions that `concerns` names, each with its topic.
pub(super) fn partitions<'a>(
    context: &Context<'a>,
    concerns: impl Fn(&PartitionRecord) -> bool,
) -> impl Iterator<Item = (&'a TopicImage, &'a PartitionRecord)> {
    let topics = context.image.topics.iter_by_id();
    topics
        .flat_map(|topic| {
            topic
                .partitions
                .values()
                .map(move |partition| (topic.as_ref(), partition.as_ref()))
        })
        .filter(move |(_, partition)| concerns(partition))
}

/// How a broker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// What it acknowledged is on its disk.
    Clean,
    /// It may have lost what it had acknowledged: with ELR it is no longer eligible.
    Unclean,
    /// Before its session timed out: nobody is elected uncleanly for that.
    Early,
}

/// Takes the broker out of the ISR, and off the leadership, of the partitions that `concerns` names.
pub(super) fn remove_broker(
    context: &Context<'_>,
    broker: BrokerId,
    departure: Departure,
    concerns: impl Fn(&PartitionRecord) -> bool,
    records: &mut Vec<MetadataRecord>,
) {
    let candidates = Candidates {
        removed: Some(broker),
        added: None,
    };
    let mut rules = RulesCache::default();
    for (topic, partition) in partitions(context, concerns) {
        let rules = rules.of(context, topic);
        let mut change = PartitionChange::new(context.image, partition, rules, candidates);
        if departure != Departure::Early {
            change.election = rules.election();
        }
        if departure == Departure::Unclean {
            change.unclean_shutdown = Some(broker.0);
        }
        change.isr.retain(|member| *member != broker.0);
        records.extend(change.build().map(MetadataRecord::PartitionChange));
    }
}

/// True for partitions whose ISR has the broker.
pub(super) fn in_isr(broker: BrokerId) -> impl Fn(&PartitionRecord) -> bool {
    move |partition| partition.isr.contains(&broker.0)
}

/// True for partitions of which the broker is an eligible leader outside of the ISR.
pub(super) fn in_elr(broker: BrokerId) -> impl Fn(&PartitionRecord) -> bool {
    move |partition| {
        let elr = partition.eligible_leader_replicas.as_deref();
        elr.is_some_and(|elr| elr.contains(&broker.0)) && !partition.isr.contains(&broker.0)
    }
}

/// True for partitions whose replica on the broker is in the directory.
pub(super) fn in_directory(broker: BrokerId, directory: DirectoryId) -> impl Fn(&PartitionRecord) -> bool {
    move |partition| partition.directory(broker.0) == Some(directory)
}

/// Gives partitions without a leader one, now that the broker is there.
pub(super) fn add_broker(context: &Context<'_>, broker: BrokerId, records: &mut Vec<MetadataRecord>) {
    let candidates = Candidates {
        added: Some(broker),
        removed: None,
    };
    let mut rules = RulesCache::default();
    for (topic, partition) in partitions(context, |partition| !partition.has_leader()) {
        let rules = rules.of(context, topic);
        let mut change = PartitionChange::new(context.image, partition, rules, candidates);
        change.election = rules.election();
        records.extend(change.build().map(MetadataRecord::PartitionChange));
    }
}

/// The rules of the last topic: partitions come topic by topic.
#[derive(Default)]
pub(super) struct RulesCache(Option<(TopicId, TopicRules)>);

impl RulesCache {
    pub(super) fn of(&mut self, context: &Context<'_>, topic: &TopicImage) -> TopicRules {
        match self.0 {
            Some((id, rules)) if id == topic.id => rules,
            _ => {
                let rules = TopicRules::of(context, topic);
                self.0 = Some((topic.id, rules));
                rules
            }
        }
    }
}
