//! What Raft promises, checked after every step of every replica.

use super::super::messages::{FetchReply, Reply, Request};
use super::super::{Answer, Effects, Outgoing};
use super::Cluster;
use crate::ids::LeaderEpoch;

impl Cluster {
    /// What must hold after a step's effects are on disk and before anything is sent.
    pub(super) fn check(&mut self, index: usize, effects: &Effects, is_installing: bool) {
        let node = &mut self.nodes[index];
        let raft = node.raft.as_ref().unwrap();
        let disk = &node.disk;
        if !is_installing {
            assert_eq!(raft.log().end(), disk.end(), "node {index}: Raft and its log differ");
            assert_eq!(
                raft.log().last_epoch(),
                disk.history
                    .last()
                    .map_or(LeaderEpoch(0), |batch| batch.header.partition_leader_epoch)
            );
        }
        let is_voter = index < self.world.voters;
        for Outgoing { request, .. } in &effects.sends {
            match request {
                Request::Fetch(fetch) if is_voter => assert!(fetch.fetch_offset <= disk.synced_end()),
                Request::Vote(vote) if !vote.pre_vote => {
                    let stored = disk.election.as_ref().unwrap();
                    assert_eq!((stored.epoch, stored.voted), (vote.epoch, Some(vote.candidate)));
                }
                _ => {}
            }
        }
        for Answer { token, reply, .. } in &effects.answers {
            match reply {
                Ok(Reply::Vote(reply)) if reply.granted => {
                    if let Some(candidate) = node.tokens[token].vote {
                        let stored = disk.election.as_ref().unwrap();
                        assert_eq!((stored.epoch, stored.voted), (reply.leadership.epoch, Some(candidate)));
                    }
                }
                Ok(Reply::Fetch(FetchReply {
                    leadership,
                    high_watermark: Some(shown),
                    ..
                })) => {
                    assert!(raft.epoch_start().is_none_or(|start| start < *shown));
                    let (least, most) = self.shown.entry(leadership.epoch).or_insert((*shown, *shown));
                    (*least, *most) = ((*least).min(*shown), (*most).max(*shown));
                }
                _ => {}
            }
        }
        let shown: Vec<_> = self.shown.values().collect();
        for pair in shown.windows(2) {
            assert!(
                pair[0].1 <= pair[1].0,
                "a leader shows a high watermark below that of the one before"
            );
        }
        if raft.is_leader() {
            let id = *self.leaders.entry(raft.epoch()).or_insert(node.key.id);
            assert_eq!(id, node.key.id, "two leaders in epoch {}", raft.epoch());
            // Only a log with everything that is committed can win. A leader that has not heard of its successor may miss
            // what that one commits.
            let is_newest = self
                .leaders
                .last_key_value()
                .is_some_and(|(epoch, _)| *epoch == raft.epoch());
            assert!(disk.history.len() >= self.committed.len() || !is_newest);
            if effects.start_epoch.is_some() {
                assert!(
                    disk.history.starts_with(&self.committed),
                    "node {index} leads without committed records"
                );
            }
        }
        if let Some(high_watermark) = effects.high_watermark {
            if let Some((epoch, before)) = node.high_watermark
                && (epoch == raft.epoch() || !raft.is_leader())
            {
                assert!(before < high_watermark, "node {index}: high watermark went back");
            }
            node.high_watermark = Some((raft.epoch(), high_watermark));
            assert!(high_watermark <= disk.end());
            assert!(!is_voter || high_watermark <= disk.synced_end());
            let count = disk.count_below(high_watermark);
            let common = count.min(self.committed.len());
            assert!(
                disk.history[node.verified.min(common)..common] == self.committed[node.verified.min(common)..common],
                "node {index}: logs differ below the high watermark"
            );
            self.committed.extend_from_slice(&disk.history[common..count]);
            node.verified = count;
        }
    }
}
