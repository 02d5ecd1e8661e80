//! How a group is shown.

use std::sync::Arc;

use super::ConsumerGroup;
use super::member::{Member, Owned};
use crate::groups::assignors::Partitions;
use crate::groups::commands::{DescribedConsumer, DescribedConsumerGroup, GroupFacts, ListedGroup};
use crate::groups::settings::GroupSettings;
use crate::ids::{PartitionId, TopicId};
use crate::metadata::image::MetadataImage;

impl ConsumerGroup {
    /// Its id.
    pub fn group_id(&self) -> &Arc<str> {
        &self.group_id
    }

    /// The group's state: `Empty`, `Assigning`, `Reconciling` or `Stable`.
    pub fn state(&self) -> &'static str {
        self.state.name()
    }

    /// The group has no members.
    pub fn is_empty(&self) -> bool {
        self.state.members.is_empty()
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.state.members.len()
    }

    /// What the members hold in memory.
    pub fn size_bytes(&self) -> usize {
        self.state.size_bytes()
    }

    /// What a member holds besides its partitions, or else the static one of this instance; 0 for a new one.
    pub fn member_bytes(&self, member_id: &str, instance_id: Option<&str>) -> usize {
        let of_instance = || Some(self.state.static_member(instance_id?)?.1);
        let member = self.state.members.get(member_id).or_else(of_instance);
        member.map_or(0, Member::size_bytes)
    }

    /// The group as ListGroups shows it.
    pub fn listed(&self) -> ListedGroup {
        ListedGroup {
            group_id: Arc::clone(&self.group_id),
            protocol_type: "consumer".into(),
            state: self.state(),
            group_type: "consumer",
        }
    }

    /// The group in short.
    pub fn facts(&self) -> GroupFacts {
        GroupFacts {
            group_id: Arc::clone(&self.group_id),
            is_consumer: true,
            state: self.state(),
            members: self.len(),
        }
    }

    /// The group as ConsumerGroupDescribe shows it.
    pub fn describe(&self, settings: &GroupSettings, image: &MetadataImage) -> DescribedConsumerGroup {
        DescribedConsumerGroup {
            state: self.state(),
            group_epoch: self.state.epoch,
            assignment_epoch: self.state.target_epoch,
            assignor: self.preferred_assignor(settings, None).into(),
            members: self
                .state
                .members
                .iter()
                .map(|(member_id, member)| self.described(member_id, member, image))
                .collect(),
        }
    }

    fn described(&self, member_id: &Arc<str>, member: &Member, image: &MetadataImage) -> DescribedConsumer {
        let metadata = &member.metadata;
        let text = |text: &Option<String>| text.as_deref().map(Arc::from);
        DescribedConsumer {
            member_id: Arc::clone(member_id),
            instance_id: text(&metadata.instance_id),
            rack_id: text(&metadata.rack_id),
            member_epoch: member.current.epoch,
            client_id: metadata.client_id.as_str().into(),
            client_host: metadata.client_host.as_str().into(),
            subscribed_topic_names: metadata
                .subscribed_topic_names
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            subscribed_topic_regex: text(&metadata.subscribed_topic_regex),
            assignment: described(
                &held(&member.current.assigned, &member.current.pending_revocation),
                image,
            ),
            target_assignment: described(self.state.target.get(member_id).unwrap_or(&Partitions::new()), image),
            member_type: if member.is_classic() { 0 } else { 1 },
        }
    }
}

/// The member answers for what it must give up until it did.
fn held(assigned: &Owned, pending: &Owned) -> Partitions {
    let mut held = Partitions::new();
    for (topic, partitions) in assigned.iter().chain(pending) {
        held.entry(*topic).or_default().extend(partitions.keys());
    }
    held
}

/// Those of topics that exist, with their names.
fn described(partitions: &Partitions, image: &MetadataImage) -> Vec<(TopicId, Arc<str>, Vec<PartitionId>)> {
    partitions
        .iter()
        .filter_map(|(topic, partitions)| {
            let name = &image.topics.by_id(*topic)?.name;
            Some((*topic, Arc::clone(name), partitions.clone()))
        })
        .collect()
}
