//! What is read at a scrape, under the names that Kafka's JMX exporter rules (Strimzi's) and kafka-exporter give.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_domain::ids::BrokerId;
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::metadata::records::PartitionRecord;
use ottla_domain::ports::outbound::{DirectoryFacts, LogStore};
use ottla_observability::metrics::{Exposition, Kind, QUANTILES, Samples};
use ottla_wire::{ApiRequests, Measure, RequestMetrics};
use tokio::sync::watch;

use crate::broker::{Broker, Count, ReplicaFacts, Totals};
use crate::lifecycle::BrokerState;
use crate::metadata::QuorumLeader;

/// Where the metrics of a node come from.
pub struct Sources<S: LogStore> {
    /// Replicas and metadata.
    pub broker: Arc<Broker<S>>,
    /// The life of the broker; `None` on a node that is a controller only.
    pub broker_state: Option<watch::Receiver<BrokerState>>,
    /// Whether this node's controller is active; `None` on a node that is a broker only.
    pub quorum_leader: Option<watch::Receiver<QuorumLeader>>,
    /// `ottla.metrics.partitions`.
    pub of_partitions: bool,
    /// What listeners record.
    pub requests: RequestMetrics,
}

impl<S: LogStore> Sources<S> {
    /// Writes all samples.
    pub fn collect(&self, out: &mut Exposition) {
        let image = self.broker.image();
        requests(out, &self.requests.read(QUANTILES));
        if let Some(leader) = &self.quorum_leader {
            let is_active = leader.borrow().leader == Some(self.broker.id);
            controller(out, &image, is_active);
        }
        let Some(state) = &self.broker_state else { return };
        gauge(
            out,
            "kafka_server_kafkaserver_brokerstate",
            "The broker's state: 1 starting, 2 recovery, 3 running.",
        )
        .sample(&[], f64::from(state_number(*state.borrow())));
        directories(out, &self.broker.directories());
        gauge(
            out,
            "kafka_server_assignmentsmanager_queuedreplicatodirassignments",
            "Replicas whose log directory the controller does not know yet.",
        )
        .sample(&[], self.broker.queued_assignments() as f64);
        let (replicas, totals) = self.broker.replica_facts();
        traffic(out, &replicas, totals);
        let replicas: Vec<Replica<'_>> = replicas.iter().map(|facts| Replica::new(facts, &image)).collect();
        replica_manager(out, &replicas, self.broker.offline_replica_count());
        if self.of_partitions {
            partitions(out, &replicas, self.broker.id);
        }
    }
}

fn requests(out: &mut Exposition, all: &[ApiRequests<{ QUANTILES.len() }>]) {
    let name = "kafka_network_requestmetrics_requests_total";
    let mut samples = out.metric(name, Kind::Counter, "Requests that were answered.");
    for api in all {
        for (version, count) in &api.by_version {
            samples.sample(
                &[("request", api.name), ("version", &version.to_string())],
                *count as f64,
            );
        }
    }
    for measure in Measure::ALL {
        let help = match measure {
            Measure::RequestQueueTime => "From the last byte of a request to its turn.",
            Measure::LocalTime => "From its turn until it is done or waits for something else.",
            Measure::RemoteTime => "Waiting for replicas, syncs, records, and the answers that go before.",
            Measure::ResponseQueueTime => "From an answer to its turn to be sent.",
            Measure::ResponseSendTime => "From its turn until the kernel has all of the answer.",
            Measure::TotalTime => "From the last byte of a request to the last byte of its answer.",
            Measure::RequestBytes => "The size of a request without its header.",
        };
        let name = format!("kafka_network_requestmetrics_{}", measure.name());
        let mut samples = out.metric(&name, Kind::Summary, help);
        for api in all {
            if let Some(summary) = api.measures.get(measure as usize) {
                samples.summary(&[("request", api.name)], summary.quantiles, summary.sum, api.count);
            }
        }
    }
}

fn directories(out: &mut Exposition, all: &[DirectoryFacts]) {
    let offline = all.iter().filter(|directory| directory.offline.is_some()).count();
    gauge(
        out,
        "kafka_log_logmanager_offlinelogdirectorycount",
        "Log directories that failed.",
    )
    .sample(&[], offline as f64);
    type Value = fn(&DirectoryFacts) -> f64;
    let of_each: [(&str, &str, &str, Value); 3] = [
        (
            "kafka_log_logmanager_logdirectoryoffline",
            "logdirectory",
            "1 when the log directory failed.",
            |directory| f64::from(u8::from(directory.offline.is_some())),
        ),
        (
            "ottla_storage_directory_total_bytes",
            "directory",
            "The size of a log directory's file system.",
            |directory| directory.total_bytes as f64,
        ),
        (
            "ottla_storage_directory_usable_bytes",
            "directory",
            "What is left of a log directory's file system.",
            |directory| directory.usable_bytes as f64,
        ),
    ];
    for (name, label, help, value) in of_each {
        let mut samples = gauge(out, name, help);
        for directory in all {
            samples.sample(&[(label, &directory.path)], value(directory));
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

fn controller(out: &mut Exposition, image: &MetadataImage, is_active: bool) {
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
}

fn replica_manager(out: &mut Exposition, replicas: &[Replica<'_>], offline: usize) {
    let leaders = replicas.iter().filter(|replica| replica.facts.is_leader).count();
    let under_replicated = replicas.iter().filter(|replica| replica.is_under_replicated()).count();
    let values = [
        ("partitioncount", "Replicas on this broker.", replicas.len() + offline),
        ("leadercount", "Partitions that this broker leads.", leaders),
        ("offlinereplicacount", "Replicas in failed log directories.", offline),
        (
            "underreplicatedpartitions",
            "Partitions led here whose replicas are not all in sync.",
            under_replicated,
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
