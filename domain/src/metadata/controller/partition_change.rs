//! How a partition changes: elections, ISR, reassignment and eligible leader replicas (`PartitionChangeBuilder`).

use uuid::Uuid;

use super::Context;
use crate::ids::{BrokerId, DirectoryId};
use crate::metadata::config::topic_setting;
use crate::metadata::image::{ConfigMap, ConfigResource, MetadataImage};
use crate::metadata::records::{PartitionChangeRecord, PartitionRecord, RegisterBrokerRecord};
use crate::metadata::topics::{NO_LEADER, NO_LEADER_CHANGE, NO_RECOVERY_CHANGE, RECOVERING, TopicImage};

/// The feature of eligible leader replicas (KIP-966).
pub(super) const ELR_VERSION: &str = "eligible.leader.replicas.version";

/// How a leader is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Election {
    /// The first replica, if it is in the ISR; else as `Online`.
    Preferred,
    /// Keep the leader, else any replica of the ISR.
    Online,
    /// As `Online`, else any replica that is alive: acknowledged records may be lost.
    Unclean,
}

/// Who may lead: active brokers, with exceptions while the record that changes one is still being made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Candidates {
    /// Counts as active already.
    pub(super) added: Option<BrokerId>,
    /// Counts as gone already.
    pub(super) removed: Option<BrokerId>,
}

/// A change of one partition, in the making.
pub(super) struct PartitionChange<'a> {
    image: &'a MetadataImage,
    partition: &'a PartitionRecord,
    candidates: Candidates,
    min_isr: usize,
    is_elr_enabled: bool,
    pub(super) election: Election,
    pub(super) isr: Vec<i32>,
    pub(super) replicas: Vec<i32>,
    pub(super) removing: Vec<i32>,
    pub(super) adding: Vec<i32>,
    pub(super) leader_recovery_state: i8,
    /// Stopped without flushing: what it acknowledged may be gone.
    pub(super) unclean_shutdown: Option<i32>,
    /// A replica is now in this directory.
    pub(super) directory: Option<(i32, DirectoryId)>,
    elr: Vec<i32>,
}

/// What elections of one topic go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicRules {
    min_isr: usize,
    is_unclean_allowed: bool,
    is_elr_enabled: bool,
}

impl TopicRules {
    pub(super) fn of(context: &Context<'_>, topic: &TopicImage) -> Self {
        let none = ConfigMap::new();
        let overrides = context
            .image
            .config(&ConfigResource::topic(&*topic.name))
            .unwrap_or(&none);
        let config = context.config();
        let text = |name| topic_setting(name).and_then(|setting| config.effective_topic_text(setting, overrides).0);
        let min_isr = text("min.insync.replicas").and_then(|text| text.trim().parse().ok());
        let unclean = text("unclean.leader.election.enable");
        let replicas = topic
            .partitions
            .values()
            .next()
            .map_or(1, |partition| partition.replicas.len());
        TopicRules {
            min_isr: min_isr.unwrap_or(1).min(replicas),
            is_unclean_allowed: unclean.is_some_and(|text| text.trim().eq_ignore_ascii_case("true")),
            is_elr_enabled: context.image.feature(ELR_VERSION) > 0,
        }
    }

    /// How to choose when a leader went away.
    pub(super) fn election(self) -> Election {
        if self.is_unclean_allowed {
            Election::Unclean
        } else {
            Election::Online
        }
    }
}

impl<'a> PartitionChange<'a> {
    /// A change that keeps everything but a leader who may lead no longer.
    pub(super) fn new(
        image: &'a MetadataImage,
        partition: &'a PartitionRecord,
        rules: TopicRules,
        candidates: Candidates,
    ) -> Self {
        PartitionChange {
            image,
            partition,
            candidates,
            min_isr: rules.min_isr,
            is_elr_enabled: rules.is_elr_enabled,
            election: Election::Online,
            isr: partition.isr.clone(),
            replicas: partition.replicas.clone(),
            removing: partition.removing_replicas.clone(),
            adding: partition.adding_replicas.clone(),
            leader_recovery_state: partition.leader_recovery_state,
            unclean_shutdown: None,
            directory: None,
            elr: partition.eligible_leader_replicas.clone().unwrap_or_default(),
        }
    }

    /// The record, or none when nothing changes.
    pub(super) fn build(mut self) -> Option<PartitionChangeRecord> {
        let partition = self.partition;
        let mut record = PartitionChangeRecord {
            partition_id: partition.partition_id,
            topic_id: partition.topic_id,
            ..PartitionChangeRecord::default()
        };
        self.complete_reassignment();
        self.populate_elr();
        self.elect(&mut record);
        // Replicas that leave must hear of it: a new leader epoch makes them.
        if record.leader == NO_LEADER_CHANGE && !contains_all(&self.replicas, &partition.replicas) {
            record.leader = partition.leader;
        }
        self.change_elr(&mut record);
        // Without ELR the last member stays in the ISR, so that it can lead when it comes back.
        let may_change_isr = record.isr.is_none() && (!self.isr.is_empty() || self.is_elr_enabled);
        if may_change_isr && self.isr != partition.isr {
            record.isr = Some(self.isr.clone());
        }
        self.remember_last_leader(&mut record);
        self.change_assignment(&mut record);
        if self.leader_recovery_state != partition.leader_recovery_state {
            record.leader_recovery_state = self.leader_recovery_state;
        }
        Some(record).filter(|record| !is_noop(record))
    }

    /// Ends a reassignment whose new replicas are all in the ISR (KIP-455).
    fn complete_reassignment(&mut self) {
        if self.removing.is_empty() && self.adding.is_empty() {
            return;
        }
        let stays = |replica: &&i32| !self.removing.contains(replica);
        let isr: Vec<i32> = self.isr.iter().filter(stays).copied().collect();
        let replicas: Vec<i32> = self.replicas.iter().filter(stays).copied().collect();
        if isr.is_empty() || replicas.is_empty() || !contains_all(&isr, &self.adding) {
            return;
        }
        // With fewer replicas than before, all that stay must be in sync, or the ISR would shrink for nothing.
        if self.adding.len() < self.removing.len() && !contains_all(&isr, &replicas) {
            return;
        }
        self.isr = isr;
        self.replicas = replicas;
        self.removing.clear();
        self.adding.clear();
    }

    /// Below min ISR, those that leave the ISR stay eligible: they hold all that was acknowledged (KIP-966).
    fn populate_elr(&mut self) {
        if !self.is_elr_enabled {
            return;
        }
        if self.isr.len() >= self.min_isr {
            self.elr.clear();
            return;
        }
        for replica in &self.partition.isr {
            if !self.elr.contains(replica) {
                self.elr.push(*replica);
            }
        }
        let (isr, unclean) = (&self.isr, self.unclean_shutdown);
        self.elr
            .retain(|replica| !isr.contains(replica) && unclean != Some(*replica));
    }

    fn may_lead(&self, replica: i32) -> bool {
        let id = BrokerId(replica);
        let (Some(broker), Some(directory)) = (self.image.broker(id), self.partition.directory(replica)) else {
            return false;
        };
        let is_gone = self.candidates.removed == Some(id) || broker.in_controlled_shutdown;
        let is_back = self.candidates.added == Some(id);
        !is_gone && (is_back || !broker.fenced) && broker.has_online_directory(directory)
    }

    fn is_clean_leader(&self, replica: i32) -> bool {
        let holds_all = self.isr.contains(&replica) || (self.isr.is_empty() && self.elr.contains(&replica));
        holds_all && self.may_lead(replica)
    }

    /// The next leader, and whether its election is unclean.
    fn choose(&self) -> (i32, bool) {
        let preferred = self.replicas.first().copied();
        let preferred = preferred.filter(|_| self.election == Election::Preferred);
        let in_order = preferred
            .into_iter()
            .chain([self.partition.leader])
            .chain(self.replicas.iter().copied());
        if let Some(clean) = in_order.into_iter().find(|replica| self.is_clean_leader(*replica)) {
            return (clean, false);
        }
        // The last leader holds all that was acknowledged, unless it lost its disk.
        if self.is_elr_enabled
            && self.elr.is_empty()
            && self.isr.is_empty()
            && let Some([last]) = self.partition.last_known_elr.as_deref()
            && self.may_lead(*last)
        {
            return (*last, true);
        }
        if self.election == Election::Unclean
            && let Some(alive) = self.replicas.iter().copied().find(|replica| self.may_lead(*replica))
        {
            return (alive, true);
        }
        (NO_LEADER, false)
    }

    fn elect(&mut self, record: &mut PartitionChangeRecord) {
        let (leader, is_unclean) = self.choose();
        if leader == self.partition.leader {
            return;
        }
        record.leader = leader;
        if self.elr.contains(&leader) {
            self.isr = vec![leader];
            self.elr.retain(|replica| *replica != leader);
        }
        if is_unclean {
            record.isr = Some(vec![leader]);
            if self.partition.leader_recovery_state != RECOVERING {
                record.leader_recovery_state = RECOVERING;
            }
        }
    }

    fn change_elr(&mut self, record: &mut PartitionChangeRecord) {
        let is_unclean = record.isr.is_some();
        if is_unclean || !self.is_elr_enabled {
            self.elr.clear();
        }
        let old = self.partition.eligible_leader_replicas.as_deref().unwrap_or_default();
        if self.elr != old {
            record.eligible_leader_replicas = Some(self.elr.clone());
        }
    }

    /// `last_known_elr` names the last leader of a partition without one.
    fn remember_last_leader(&self, record: &mut PartitionChangeRecord) {
        if !self.is_elr_enabled {
            return;
        }
        let has_last = self.partition.last_known_elr.is_some();
        if record.leader == NO_LEADER && !has_last && self.partition.has_leader() {
            record.last_known_elr = Some(vec![self.partition.leader]);
        } else if record.leader >= 0 && has_last {
            record.last_known_elr = Some(Vec::new());
        }
    }

    fn change_assignment(&self, record: &mut PartitionChangeRecord) {
        let partition = self.partition;
        if !self.replicas.is_empty() {
            let directory = |replica: &i32| -> Uuid {
                let changed = self.directory.filter(|(broker, _)| broker == replica);
                let known = changed
                    .map(|(_, directory)| directory)
                    .or_else(|| partition.directory(*replica));
                known.unwrap_or_else(|| default_directory(self.image, *replica)).0
            };
            let directories: Vec<Uuid> = self.replicas.iter().map(directory).collect();
            if directories != partition.directories {
                record.directories = Some(directories);
            }
            if self.replicas != partition.replicas {
                record.replicas = Some(self.replicas.clone());
            }
        }
        if self.removing != partition.removing_replicas {
            record.removing_replicas = Some(self.removing.clone());
        }
        if self.adding != partition.adding_replicas {
            record.adding_replicas = Some(self.adding.clone());
        }
    }
}

fn is_noop(record: &PartitionChangeRecord) -> bool {
    record.leader == NO_LEADER_CHANGE
        && record.leader_recovery_state == NO_RECOVERY_CHANGE
        && record.isr.is_none()
        && record.replicas.is_none()
        && record.removing_replicas.is_none()
        && record.adding_replicas.is_none()
        && record.directories.is_none()
        && record.eligible_leader_replicas.is_none()
        && record.last_known_elr.is_none()
}

fn contains_all(all: &[i32], some: &[i32]) -> bool {
    some.iter().all(|one| all.contains(one))
}

/// The directory of a new replica: a broker with one has no choice.
pub(super) fn default_directory(image: &MetadataImage, broker: i32) -> DirectoryId {
    match image.broker(BrokerId(broker)).map(|broker| broker.log_dirs.as_slice()) {
        Some([only]) => DirectoryId(*only),
        Some([]) => DirectoryId::MIGRATING,
        _ => DirectoryId::UNASSIGNED,
    }
}

impl RegisterBrokerRecord {
    /// True when the broker can use the directory, as far as it has said (KIP-858).
    fn has_online_directory(&self, directory: DirectoryId) -> bool {
        match directory {
            DirectoryId::UNASSIGNED | DirectoryId::MIGRATING => true,
            DirectoryId::LOST => false,
            DirectoryId(id) => self.log_dirs.is_empty() || self.log_dirs.contains(&id),
        }
    }

    /// True when some directory takes new partitions (KIP-1066).
    pub(super) fn has_uncordoned_directory(&self) -> bool {
        match &self.cordoned_log_dirs {
            Some(cordoned) if !self.log_dirs.is_empty() => {
                self.log_dirs.iter().any(|directory| !cordoned.contains(directory))
            }
            _ => true,
        }
    }
}
