//! Leaders propose their ISR (KIP-497, KIP-903), and elections on demand (KIP-460).

use super::elections::{self, RulesCache};
use super::partition_change::{Candidates, Election, PartitionChange};
use super::{Command, Context, Outcome, limited};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionId, TopicId};
use crate::metadata::records::{MetadataRecord, PartitionRecord};
use crate::metadata::topics::{NO_LEADER_CHANGE, RECOVERED, RECOVERING};

/// AlterPartition: a leader asks for another ISR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartition {
    /// The leader.
    pub broker: BrokerId,
    /// In which life.
    pub broker_epoch: BrokerEpoch,
    /// Its partitions.
    pub partitions: Vec<IsrProposal>,
}

/// The ISR that a leader wants for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// In which it leads.
    pub leader_epoch: LeaderEpoch,
    /// The members, each with its broker epoch, -1 where that is not known (KIP-903).
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// The leader has recovered from an unclean election, or not yet (KIP-704).
    pub is_recovering: bool,
    /// The state that the proposal is based on.
    pub partition_epoch: PartitionEpoch,
}

/// The state of a partition after AlterPartition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredPartition {
    /// The leader.
    pub leader: BrokerId,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
    /// The ISR.
    pub isr: Vec<BrokerId>,
    /// The leader has not recovered from an unclean election.
    pub is_recovering: bool,
    /// The state's epoch.
    pub partition_epoch: PartitionEpoch,
}

impl IsrProposal {
    fn check(&self, context: &Context<'_>, broker: BrokerId, partition: &PartitionRecord) -> Result<(), ErrorCode> {
        // A leader that is ahead has heard of a newer controller.
        if self.leader_epoch.0 > partition.leader_epoch || self.partition_epoch.0 > partition.partition_epoch {
            return Err(ErrorCode::NotController);
        }
        if self.leader_epoch.0 < partition.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if broker.0 != partition.leader {
            return Err(ErrorCode::InvalidRequest);
        }
        if self.partition_epoch.0 < partition.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let members: Vec<i32> = self.isr.iter().map(|(member, _)| member.0).collect();
        let is_distinct = members
            .iter()
            .enumerate()
            .all(|(index, member)| !members.iter().take(index).any(|m| m == member));
        let are_replicas = members.iter().all(|member| partition.replicas.contains(member));
        if members.is_empty() || !is_distinct || !are_replicas || !members.contains(&partition.leader) {
            return Err(ErrorCode::InvalidRequest);
        }
        let may_recover = partition.leader_recovery_state == RECOVERING;
        if self.is_recovering && (members.len() > 1 || !may_recover) {
            return Err(ErrorCode::InvalidRequest);
        }
        let is_eligible = |(member, epoch): &(BrokerId, BrokerEpoch)| {
            let is_same_life = |known: i64| *epoch == BrokerEpoch::UNKNOWN || known == epoch.0;
            let broker = context.image.broker(*member);
            context.image.is_active(member.0) && broker.is_some_and(|broker| is_same_life(broker.broker_epoch))
        };
        if !self.isr.iter().all(is_eligible) {
            return Err(ErrorCode::IneligibleReplica);
        }
        Ok(())
    }

    fn evaluate(
        &self,
        context: &Context<'_>,
        broker: BrokerId,
        rules: &mut RulesCache,
    ) -> (Option<MetadataRecord>, Result<AlteredPartition, ErrorCode>) {
        let Some(topic) = context.image.topics.by_id(self.topic_id) else {
            return (None, Err(ErrorCode::UnknownTopicId));
        };
        let Some(partition) = topic.partition(self.partition) else {
            return (None, Err(ErrorCode::UnknownTopicOrPartition));
        };
        if let Err(code) = self.check(context, broker, partition) {
            return (None, Err(code));
        }
        let rules = rules.of(context, topic);
        let mut change = PartitionChange::new(context.image, partition, rules, Candidates::default());
        change.election = rules.election();
        change.isr = self.isr.iter().map(|(member, _)| member.0).collect();
        change.leader_recovery_state = if self.is_recovering { RECOVERING } else { RECOVERED };
        let Some(change) = change.build() else {
            return (None, Ok(altered(partition)));
        };
        let Ok(next) = partition.merge(&change) else {
            return (None, Err(ErrorCode::UnknownServerError));
        };
        // The ISR that completes a reassignment may cost the proposer its leadership.
        let is_deposed = change.leader != NO_LEADER_CHANGE && change.leader != broker.0;
        let reply = if is_deposed {
            Err(ErrorCode::NewLeaderElected)
        } else {
            Ok(altered(&next))
        };
        (Some(MetadataRecord::PartitionChange(change)), reply)
    }
}

fn altered(partition: &PartitionRecord) -> AlteredPartition {
    AlteredPartition {
        leader: BrokerId(partition.leader),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        isr: partition.isr.iter().copied().map(BrokerId).collect(),
        is_recovering: partition.leader_recovery_state == RECOVERING,
        partition_epoch: PartitionEpoch(partition.partition_epoch),
    }
}

impl Command for AlterPartition {
    /// One result for each proposal, in their order.
    type Reply = Vec<Result<AlteredPartition, ErrorCode>>;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<Self::Reply>, ApiError> {
        context.image.checked_broker(self.broker, self.broker_epoch)?;
        let (mut records, mut reply) = (Vec::new(), Vec::with_capacity(self.partitions.len()));
        let mut rules = RulesCache::default();
        for (index, proposal) in self.partitions.iter().enumerate() {
            let of =
                |other: &&IsrProposal| (other.topic_id, other.partition) == (proposal.topic_id, proposal.partition);
            let (record, result) = match self.partitions.iter().take(index).find(of) {
                Some(_) => (None, Err(ErrorCode::InvalidRequest)),
                None => proposal.evaluate(context, self.broker, &mut rules),
            };
            records.extend(record);
            reply.push(result);
        }
        Ok(Outcome { records, reply })
    }
}

/// ElectLeaders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectLeaders {
    /// Accept a leader that lacks acknowledged records, for partitions without one; else elect preferred replicas.
    pub unclean: bool,
    /// The partitions; `None` is all that need it.
    pub partitions: Option<Vec<(String, PartitionId)>>,
}

/// What became of the election of one partition; `None` is success.
pub type Elected = (String, PartitionId, Option<ApiError>);

impl ElectLeaders {
    fn elect(&self, context: &Context<'_>, name: &str, id: PartitionId) -> Result<MetadataRecord, ApiError> {
        let unknown = |what: String| ErrorCode::UnknownTopicOrPartition.with(what);
        let topic = context.image.topics.by_name(name);
        let topic = topic.ok_or_else(|| unknown(format!("No such topic as {name}")))?;
        let partition = topic.partition(id);
        let partition = partition.ok_or_else(|| unknown(format!("No such partition as {name}-{id}")))?;
        if !self.is_needed(partition) {
            return Err(ErrorCode::ElectionNotNeeded.into());
        }
        let rules = RulesCache::default().of(context, topic);
        let mut change = PartitionChange::new(context.image, partition, rules, Candidates::default());
        change.election = if self.unclean {
            Election::Unclean
        } else {
            Election::Preferred
        };
        let none = match self.unclean {
            true => ErrorCode::EligibleLeadersNotAvailable,
            false => ErrorCode::PreferredLeaderNotAvailable,
        };
        Ok(MetadataRecord::PartitionChange(change.build().ok_or(none)?))
    }

    fn is_needed(&self, partition: &PartitionRecord) -> bool {
        match self.unclean {
            true => !partition.has_leader(),
            false => partition.replicas.first() != Some(&partition.leader),
        }
    }
}

impl Command for ElectLeaders {
    /// In the order asked for. When all were asked for, those that need no election are left out.
    type Reply = Vec<Elected>;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<Vec<Elected>>, ApiError> {
        let asked = match &self.partitions {
            Some(partitions) => partitions.clone(),
            None => elections::partitions(context, |partition| self.is_needed(partition))
                .map(|(topic, partition)| (topic.name.to_string(), partition.id()))
                .collect(),
        };
        let (mut records, mut reply) = (Vec::new(), Vec::with_capacity(asked.len()));
        let mut seen = std::collections::BTreeSet::new();
        for (name, id) in asked {
            let error = match self.elect(context, &name, id) {
                Ok(record) => {
                    if seen.insert((name.clone(), id)) {
                        records.push(record);
                    }
                    None
                }
                Err(error) => Some(error),
            };
            reply.push((name, id, error));
        }
        limited(&records)?;
        Ok(Outcome { records, reply })
    }
}

/// The most elections of one round in the background.
const ELECTIONS_PER_ROUND_MAX: usize = 1000;

/// Gives leadership back to preferred replicas (`auto.leader.rebalance.enable`), to be repeated at once when the answer is
/// true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceLeaders;

/// Elects a leader uncleanly for partitions without one, of topics that allow it (`unclean.leader.election.interval.ms`),
/// to be repeated at once when the answer is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElectUncleanLeaders;

impl Command for BalanceLeaders {
    type Reply = bool;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<bool>, ApiError> {
        Ok(round(
            context,
            |partition| partition.replicas.first() != Some(&partition.leader),
            Election::Preferred,
        ))
    }
}

impl Command for ElectUncleanLeaders {
    type Reply = bool;

    fn evaluate(self, context: &mut Context<'_>) -> Result<Outcome<bool>, ApiError> {
        Ok(round(context, |partition| !partition.has_leader(), Election::Unclean))
    }
}

fn round(context: &Context<'_>, concerns: impl Fn(&PartitionRecord) -> bool, election: Election) -> Outcome<bool> {
    let mut rules = RulesCache::default();
    let mut records = Vec::new();
    for (topic, partition) in elections::partitions(context, concerns) {
        let rules = rules.of(context, topic);
        if election == Election::Unclean && rules.election() != Election::Unclean {
            continue;
        }
        let mut change = PartitionChange::new(context.image, partition, rules, Candidates::default());
        change.election = election;
        records.extend(change.build().map(MetadataRecord::PartitionChange));
        if records.len() >= ELECTIONS_PER_ROUND_MAX {
            break;
        }
    }
    Outcome {
        reply: records.len() >= ELECTIONS_PER_ROUND_MAX,
        records,
    }
}
