//! What is read at a scrape, under the names that Kafka's JMX exporter rules (Strimzi's) and kafka-exporter give.

mod cleaner;
mod counted;
mod groups;
mod network;
mod quorum;
mod recent;
mod storage;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_domain::ids::BrokerId;
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::metadata::records::PartitionRecord;
use ottla_domain::ports::outbound::Clock;
use ottla_observability::metrics::{Exposition, Kind, Samples};
use ottla_storage::Store;
use ottla_wire::server::ConnectionQuota;
use tokio::sync::watch;

pub use self::counted::describe;
pub use self::groups::GroupMetrics;
pub use self::network::{Requests, Runtimes};
pub use self::quorum::Quorum;
use crate::broker::{Broker, Count, ReplicaFacts, Totals};
use crate::clock::SystemClock;
use crate::lifecycle::BrokerState;
use crate::metadata::QuorumLeader;

/// Where the metrics of a node come from.
pub struct Sources {
    /// Replicas and metadata.
    pub broker: Arc<Broker<Store>>,
    /// Log directories.
    pub store: Arc<Store>,
    /// Time.
    pub clock: SystemClock,
    /// The life of the broker; `None` on a node that is a controller only.
    pub broker_state: Option<watch::Receiver<BrokerState>>,
    /// This node has a controller.
    pub is_controller: bool,
    /// Who leads the quorum.
    pub leader: watch::Receiver<QuorumLeader>,
    /// The replica of the metadata log.
    pub quorum: Quorum,
    /// The groups that this broker coordinates.
    pub groups: GroupMetrics,
    /// `ottla.metrics.partitions`.
    pub of_partitions: bool,
    /// What listeners record.
    pub requests: Requests,
    /// The connections of clients and brokers.
    pub broker_quota: Arc<ConnectionQuota>,
    /// The connections to the controller.
    pub controller_quota: Arc<ConnectionQuota>,
    /// Who does the work.
    pub runtimes: Runtimes,
}

impl Sources {
    /// Writes all samples.
    pub fn collect(&self, out: &mut Exposition) {
        let image = self.broker.image();
        self.requests.collect(out);
        network::memory(out, &self.broker_quota, &self.controller_quota);
        self.runtimes.collect(out);
        storage::indexes(out, &self.store.index_facts());
        storage::disk(out);
        let leader = self.leader.borrow().leader;
        let raft = self.quorum.collect(out);
        quorum::metadata(out, &image, leader.unwrap_or(BrokerId::NONE));
        if self.is_controller {
            quorum::controller(out, &image, leader == Some(self.broker.id));
            quorum::applied(out, &image, &raft, self.clock.now());
        }
        let Some(state) = &self.broker_state else { return };
        gauge(
            out,
            "kafka_server_kafkaserver_brokerstate",
            "The broker's state: 1 starting, 2 recovery, 3 running.",
        )
        .sample(&[], f64::from(state_number(*state.borrow())));
        storage::directories(out, &self.broker.directories());
        cleaner::collect(out, &self.broker.cleaner_facts());
        let (running, max) = self.broker.long_validations();
        for (name, help, value) in [
            ("running", "Batches that are decompressed at length.", running),
            ("max", "How many may be at a time.", max),
        ] {
            gauge(out, &format!("ottla_broker_long_validations_{name}"), help).sample(&[], value as f64);
        }
        gauge(
            out,
            "kafka_server_assignmentsmanager_queuedreplicatodirassignments",
            "Replicas whose log directory the controller does not know yet.",
        )
        .sample(&[], self.broker.queued_assignments() as f64);
        let (replicas, totals) = self.broker.replica_facts();
        traffic(out, &replicas, totals);
        self.groups.collect(out, &replicas, self.of_partitions);
        let replicas: Vec<Replica<'_>> = replicas.iter().map(|facts| Replica::new(facts, &image)).collect();
        replica_manager(out, &replicas, self.broker.offline_replica_count());
        if self.of_partitions {
            partitions(out, &replicas, self.broker.id);
        }
    }
}

/// The numbers of Kafka's `BrokerState`.
fn state_number(state: BrokerState) -> u8 {
    match state {
        BrokerState::Starting => 1,
        BrokerState::Fenced(_) => 2,
        BrokerState::Running(_) => 3,
        BrokerState::MayStop(_) => 7,
    }
}

fn gauge<'a>(out: &'a mut Exposition, name: &'a str, help: &str) -> Samples<'a> {
    out.metric(name, Kind::Gauge, help)
}

fn traffic(out: &mut Exposition, replicas: &[ReplicaFacts], all: Totals) {
    let mut topics: BTreeMap<&str, Totals> = BTreeMap::new();
    for replica in replicas {
        *topics.entry(&replica.topic).or_default() += replica.totals;
    }
    for count in Count::ALL {
        let (name, help) = match count {
            Count::MessagesIn => ("messagesin", "Records that producers wrote."),
            Count::BytesIn => ("bytesin", "Bytes that producers wrote."),
            Count::BytesOut => ("bytesout", "Bytes that consumers read."),
            Count::BytesRejected => ("bytesrejected", "Bytes of batches that were too large."),
            Count::TotalProduceRequests => ("totalproducerequests", "Produces, by partition."),
            Count::FailedProduceRequests => ("failedproducerequests", "Produces that were refused, by partition."),
            Count::TotalFetchRequests => ("totalfetchrequests", "Fetches, by partition."),
            Count::FailedFetchRequests => ("failedfetchrequests", "Fetches that failed, by partition."),
            Count::ReplicationBytesOut => ("replicationbytesout", "Bytes that followers read."),
        };
        let name = format!("kafka_server_brokertopicmetrics_{name}_total");
        let mut samples = out.metric(&name, Kind::Counter, help);
        samples.sample(&[], all.get(count) as f64);
        if count != Count::ReplicationBytesOut {
            for (topic, totals) in &topics {
                samples.sample(&[("topic", topic)], totals.get(count) as f64);
            }
        }
    }
}

/// A replica with what the metadata says of its partition.
struct Replica<'a> {
    facts: &'a ReplicaFacts,
    number: String,
    record: Option<&'a PartitionRecord>,
}

impl<'a> Replica<'a> {
    fn new(facts: &'a ReplicaFacts, image: &'a MetadataImage) -> Self {
        let topic = image.topics.by_name(&facts.topic);
        Replica {
            facts,
            number: facts.partition.to_string(),
            record: topic.and_then(|topic| topic.partition(facts.partition)),
        }
    }

    fn labels(&self) -> [(&str, &str); 2] {
        [("topic", &self.facts.topic), ("partition", &self.number)]
    }

    /// This broker leads, and replicas are out of sync.
    fn is_under_replicated(&self) -> bool {
        self.facts.is_leader
            && self
                .record
                .is_some_and(|record| record.isr.len() < record.replicas.len())
    }

    /// This broker leads, and as many replicas are in sync as this says, compared with how many have to be.
    fn has_isr(&self, to_min: Ordering) -> bool {
        self.facts.is_leader && self.facts.isr_to_min == to_min
    }
}

fn replica_manager(out: &mut Exposition, replicas: &[Replica<'_>], offline: usize) {
    let count = |is_counted: fn(&Replica<'_>) -> bool| replicas.iter().filter(|replica| is_counted(replica)).count();
    let leaders = count(|replica| replica.facts.is_leader);
    let values = [
        ("partitioncount", "Replicas on this broker.", replicas.len() + offline),
        ("leadercount", "Partitions that this broker leads.", leaders),
        ("offlinereplicacount", "Replicas in failed log directories.", offline),
        (
            "underreplicatedpartitions",
            "Partitions led here whose replicas are not all in sync.",
            count(|replica| replica.is_under_replicated()),
        ),
        (
            "underminisrpartitioncount",
            "Partitions led here with fewer replicas in sync than have to be.",
            count(|replica| replica.has_isr(Ordering::Less)),
        ),
        (
            "atminisrpartitioncount",
            "Partitions led here with just as many replicas in sync as have to be.",
            count(|replica| replica.has_isr(Ordering::Equal)),
        ),
    ];
    for (name, help, value) in values {
        gauge(out, &format!("kafka_server_replicamanager_{name}"), help).sample(&[], value as f64);
    }
}

fn partitions(out: &mut Exposition, replicas: &[Replica<'_>], me: BrokerId) {
    type Value = fn(&ReplicaFacts) -> f64;
    let of_logs: [(&str, &str, Value); 4] = [
        ("size", "The size of a log in bytes.", |log| log.size_bytes as f64),
        ("numlogsegments", "How many segments a log has.", |log| {
            log.segment_count as f64
        }),
        ("logstartoffset", "The first offset of a log.", |log| {
            log.log_start.0 as f64
        }),
        ("logendoffset", "One past the last offset of a log.", |log| {
            log.log_end.0 as f64
        }),
    ];
    for (name, help, value) in of_logs {
        let name = format!("kafka_log_log_{name}");
        let mut samples = gauge(out, &name, help);
        for replica in replicas {
            samples.sample(&replica.labels(), value(replica.facts));
        }
    }
    let of_isr = [
        (
            "underminisr",
            "1 when fewer replicas are in sync than have to be.",
            Ordering::Less,
        ),
        (
            "atminisr",
            "1 when just as many replicas are in sync as have to be.",
            Ordering::Equal,
        ),
    ];
    for (name, help, to_min) in of_isr {
        let name = format!("kafka_cluster_partition_{name}");
        let mut samples = gauge(out, &name, help);
        for replica in replicas.iter().filter(|replica| replica.facts.is_leader) {
            samples.sample(&replica.labels(), f64::from(u8::from(replica.has_isr(to_min))));
        }
    }
    type Told = fn(&Replica<'_>, &PartitionRecord, BrokerId) -> f64;
    let of_leaders: [(&str, &str, Told); 7] = [
        (
            "current_offset",
            "The high watermark of a partition.",
            |replica, _, _| replica.facts.high_watermark.0 as f64,
        ),
        ("oldest_offset", "The first offset of a partition.", |replica, _, _| {
            replica.facts.log_start.0 as f64
        }),
        ("leader", "The broker that leads a partition.", |_, record, _| {
            f64::from(record.leader)
        }),
        ("replicas", "How many replicas a partition has.", |_, record, _| {
            record.replicas.len() as f64
        }),
        ("in_sync_replica", "How many replicas are in sync.", |_, record, _| {
            record.isr.len() as f64
        }),
        (
            "leader_is_preferred",
            "1 when the preferred replica leads.",
            |_, record, me| f64::from(u8::from(record.replicas.first() == Some(&me.0))),
        ),
        (
            "under_replicated_partition",
            "1 when replicas are out of sync.",
            |replica, _, _| f64::from(u8::from(replica.is_under_replicated())),
        ),
    ];
    for (name, help, value) in of_leaders {
        let name = format!("kafka_topic_partition_{name}");
        let mut samples = gauge(out, &name, help);
        for replica in replicas.iter().filter(|replica| replica.facts.is_leader) {
            if let Some(record) = replica.record {
                samples.sample(&replica.labels(), value(replica, record, me));
            }
        }
    }
}
