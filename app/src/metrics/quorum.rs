//! The metadata quorum and the controller.

use std::sync::Arc;

use ottla_domain::ids::{BrokerId, Offset, Timestamp};
use ottla_domain::metadata::image::{METADATA_VERSION, MetadataImage};
use ottla_domain::metadata::records::PartitionRecord;
use ottla_observability::metrics::Exposition;
use ottla_raft::{RaftFacts, RaftHandle};

use super::gauge;
use super::recent::{Recent, rate};

/// Writes what a controller knows.
pub(super) fn controller(out: &mut Exposition, image: &MetadataImage, is_active: bool) {
    let partitions = || image.topics.iter().flat_map(|topic| topic.partitions.values());
    let fenced = image.brokers.values().filter(|broker| broker.fenced).count();
    let not_preferred = |partition: &&Arc<PartitionRecord>| partition.replicas.first() != Some(&partition.leader);
    let is_offline = |partition: &&Arc<PartitionRecord>| !partition.has_leader();
    let values = [
        (
            "activecontrollercount",
            "1 on the active controller, 0 on others.",
            usize::from(is_active),
        ),
        (
            "activebrokercount",
            "Brokers that are not fenced.",
            image.brokers.len().saturating_sub(fenced),
        ),
        ("fencedbrokercount", "Brokers that are fenced.", fenced),
        ("globaltopiccount", "Topics of the cluster.", image.topics.len()),
        (
            "globalpartitioncount",
            "Partitions of the cluster.",
            partitions().count(),
        ),
        (
            "offlinepartitionscount",
            "Partitions without a leader.",
            partitions().filter(is_offline).count(),
        ),
        (
            "preferredreplicaimbalancecount",
            "Partitions that another than their preferred replica leads.",
            partitions().filter(not_preferred).count(),
        ),
    ];
    for (name, help, value) in values {
        gauge(out, &format!("kafka_controller_kafkacontroller_{name}"), help).sample(&[], value as f64);
    }
    // What kafka-exporter tells of the cluster comes from one node, so that sums over nodes are right.
    if is_active {
        gauge(out, "kafka_brokers", "Brokers of the cluster.").sample(&[], image.brokers.len() as f64);
        let mut samples = gauge(out, "kafka_topic_partitions", "Partitions of a topic.");
        for topic in image.topics.iter() {
            samples.sample(&[("topic", &topic.name)], topic.partitions.len() as f64);
        }
    }
}

/// Writes which metadata this node knows, on the controller and in its image.
pub(super) fn metadata(out: &mut Exposition, image: &MetadataImage, leader: BrokerId) {
    let version = image.features.get(METADATA_VERSION).copied().unwrap_or(0);
    let values = [
        (
            "metadataloader_currentmetadataversion",
            "The level of metadata.version.",
            f64::from(version),
        ),
        (
            "metadataloader_currentcontrollerid",
            "The active controller, or -1.",
            f64::from(leader.0),
        ),
        (
            "brokermetadatametrics_last_applied_record_offset",
            "The last metadata record that requests see.",
            image.provenance.offset.0 as f64,
        ),
    ];
    for (name, help, value) in values {
        gauge(out, &format!("kafka_server_{name}"), help).sample(&[], value);
    }
}

/// The replica of the metadata log.
pub struct Quorum {
    raft: RaftHandle,
    recent: Recent<RaftFacts>,
}

impl Quorum {
    /// That of this node.
    pub fn new(raft: RaftHandle) -> Self {
        Quorum {
            recent: Recent::new(raft.facts()),
            raft,
        }
    }

    /// Writes Kafka's `KafkaRaftMetrics`.
    pub(super) fn collect(&self, out: &mut Exposition) -> RaftFacts {
        let facts = self.raft.facts();
        let (earlier, time) = self.recent.exchange(facts.clone());
        let id = |id: Option<BrokerId>| id.map_or(-1.0, |id| f64::from(id.0));
        let values = [
            ("current_leader", "The leader, or -1.", id(facts.leader)),
            (
                "current_vote",
                "Whom it voted for in this epoch, or -1.",
                id(facts.voted),
            ),
            ("current_epoch", "The quorum's epoch.", f64::from(facts.epoch.0)),
            (
                "high_watermark",
                "Metadata records below are committed.",
                facts.high_watermark.map_or(-1.0, |offset| offset.0 as f64),
            ),
            (
                "log_end_offset",
                "Where the next metadata record goes.",
                facts.log_end.0 as f64,
            ),
            (
                "log_end_epoch",
                "The epoch of the last metadata record.",
                f64::from(facts.log_end_epoch.0),
            ),
            ("number_of_voters", "Voters of the quorum.", facts.voter_count as f64),
            (
                "append_records_rate",
                "Records a second that it wrote as the leader.",
                rate(earlier.appended_records, facts.appended_records, time),
            ),
            (
                "fetch_records_rate",
                "Records a second that it got from the leader.",
                rate(earlier.fetched_records, facts.fetched_records, time),
            ),
            (
                "commit_latency_avg",
                "Milliseconds from writing records as the leader to their being committed; NaN when there were none.",
                commit_latency_ms(&earlier, &facts),
            ),
            (
                "poll_idle_ratio_avg",
                "How much of its time its thread is idle, from 0 to 1.",
                (rate(earlier.idle_ns, facts.idle_ns, time) / 1e9).min(1.0),
            ),
        ];
        for (name, help, value) in values {
            gauge(out, &format!("kafka_server_raftmetrics_{name}"), help).sample(&[], value);
        }
        // Kafka has no name of its own for a leader that resigned.
        let state = match facts.state {
            "resigned" => "unattached",
            state => state,
        };
        gauge(
            out,
            "kafka_server_raftmetrics_current_state",
            "1 for what it is in the quorum.",
        )
        .sample(&[("current_state", state)], 1.0);
        facts
    }
}

fn commit_latency_ms(earlier: &RaftFacts, now: &RaftFacts) -> f64 {
    let time_ns = now.commit_time_ns.saturating_sub(earlier.commit_time_ns);
    time_ns as f64 / now.commits.saturating_sub(earlier.commits) as f64 / 1e6
}

/// Writes how far a controller has come with the metadata.
pub(super) fn applied(out: &mut Exposition, image: &MetadataImage, raft: &RaftFacts, now: Timestamp) {
    let applied = image.provenance;
    let committed = raft.high_watermark.map_or(Offset::NONE, |end| end.plus(-1));
    let values = [
        (
            "lastappliedrecordoffset",
            "The last metadata record that was applied.",
            applied.offset.0,
        ),
        (
            "lastappliedrecordtimestamp",
            "When that was written, in milliseconds since the Unix epoch.",
            applied.timestamp.0,
        ),
        (
            "lastappliedrecordlagms",
            "How long ago that is.",
            now.0.saturating_sub(applied.timestamp.0),
        ),
        (
            "lastcommittedrecordoffset",
            "The last metadata record that is committed.",
            committed.0,
        ),
        // The first error ends the node.
        ("metadataerrorcount", "Metadata that could not be applied.", 0),
    ];
    for (name, help, value) in values {
        gauge(out, &format!("kafka_controller_kafkacontroller_{name}"), help).sample(&[], value as f64);
    }
}
