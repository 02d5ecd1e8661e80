//! The groups that this broker coordinates, and how far behind they are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_domain::groups::commands::{CommittedOffset, GroupFacts};
use ottla_domain::groups::totals::{GroupCounts, GroupTotals};
use ottla_domain::ids::{Offset, PartitionId};
use ottla_observability::metrics::{Exposition, Kind};
use ottla_storage::Store;

use super::gauge;
use super::recent::{Recent, rate};
use crate::broker::ReplicaFacts;
use crate::coordinator::{CoordinatorFacts, Stage, StageTotals};
use crate::groups::Groups;

/// So many offsets or groups are copied at once: for about a millisecond nothing of their shard is answered.
const PAGE: usize = 5_000;

/// Where the metrics of groups come from.
pub struct GroupMetrics {
    groups: Arc<Groups<Store>>,
    totals: Arc<GroupTotals>,
    recent: Recent<GroupCounts>,
    recent_stages: Recent<Arc<StageTotals>>,
}

impl GroupMetrics {
    /// Those of a coordinator that counts in `totals`.
    pub fn new(groups: Arc<Groups<Store>>, totals: Arc<GroupTotals>) -> Self {
        GroupMetrics {
            recent: Recent::new(totals.counts()),
            recent_stages: Recent::new(Arc::new(groups.stage_totals())),
            groups,
            totals,
        }
    }

    /// Writes Kafka's `GroupCoordinatorMetrics` and `CoordinatorRuntimeMetrics`, and what kafka-exporter tells of groups.
    pub(super) fn collect(&self, out: &mut Exposition, replicas: &[ReplicaFacts], of_partitions: bool) {
        runtime(out, &self.groups.facts());
        let now = Arc::new(self.groups.stage_totals());
        let (earlier, _) = self.recent_stages.exchange(Arc::clone(&now));
        stages(out, &now, &earlier);
        let counts = self.totals.counts();
        let (earlier, time) = self.recent.exchange(counts);
        for (name, what, count) in COUNTS {
            let name = format!("kafka_server_group_coordinator_metrics_{name}");
            out.metric(&format!("{name}_count"), Kind::Counter, what)
                .sample(&[], count(&counts) as f64);
            gauge(
                out,
                &format!("{name}_rate"),
                &format!("The same a second, of late: {what}"),
            )
            .sample(&[], rate(count(&earlier), count(&counts), time));
        }
        let (mut facts, mut offsets) = (Vec::new(), Vec::new());
        for partition in self.groups.partitions() {
            let page = |after: Option<&GroupFacts>| {
                let after = after.map(|after| &after.group_id);
                self.groups.look_at(partition, |shard| shard.page(after, PAGE))
            };
            read_all(&mut facts, page);
            let page = |after: Option<&CommittedOffset>| {
                self.groups
                    .look_at(partition, |shard| shard.offsets().page(after, PAGE))
            };
            read_all(&mut offsets, page);
        }
        groups(out, &facts, offsets.len());
        lags(out, &offsets, &high_watermarks(replicas), of_partitions);
    }
}

/// Adds all pages, each of which says what comes after the last that is known.
fn read_all<T>(all: &mut Vec<T>, page: impl Fn(Option<&T>) -> Option<Vec<T>>) {
    let mut next = page(None);
    while let Some(read) = next.filter(|read| !read.is_empty()) {
        let is_last = read.len() < PAGE;
        all.extend(read);
        next = if is_last { None } else { page(all.last()) };
    }
}

type Counted = fn(&GroupCounts) -> u64;
const COUNTS: [(&str, &str, Counted); 5] = [
    ("offset_commit", "Offsets that were committed.", |counts| {
        counts.offset_commits
    }),
    ("offset_expiration", "Offsets that expired.", |counts| {
        counts.offset_expirations
    }),
    ("offset_deletion", "Offsets that an admin deleted.", |counts| {
        counts.offset_deletions
    }),
    (
        "group_completed_rebalance",
        "Rebalances of classic groups that came to an end.",
        |counts| counts.completed_rebalances,
    ),
    (
        "consumer_group_rebalance",
        "Rebalances of consumer groups that began.",
        |counts| counts.consumer_rebalances,
    ),
];

fn runtime(out: &mut Exposition, facts: &CoordinatorFacts) {
    let prefix = "kafka_server_group_coordinator_metrics";
    let name = format!("{prefix}_num_partitions");
    let mut samples = gauge(out, &name, "Partitions of the offsets topic that this broker leads.");
    for (state, count) in [
        ("loading", facts.loading),
        ("active", facts.active),
        ("failed", facts.failed),
    ] {
        samples.sample(&[("state", state)], count as f64);
    }
    gauge(
        out,
        &format!("{prefix}_event_queue_size"),
        "Requests that wait for their group's partition.",
    )
    .sample(&[], facts.queued as f64);
    let times_ms = || facts.load_times.iter().map(|time| time.as_secs_f64() * 1_000.0);
    let (max, average) = match facts.load_times.len() {
        0 => (f64::NAN, f64::NAN),
        count => (times_ms().fold(0.0, f64::max), times_ms().sum::<f64>() / count as f64),
    };
    for (name, help, value) in [
        ("max", "The longest load of a partition in the last minute, in ms.", max),
        (
            "avg",
            "The time of a load of a partition in the last minute, in ms.",
            average,
        ),
    ] {
        gauge(out, &format!("{prefix}_partition_load_time_{name}"), help).sample(&[], value);
    }
}

/// The quantiles that Kafka shows, with the ends of their names.
const STAGE_QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p999", 0.999),
    ("max", 1.0),
];

fn stages(out: &mut Exposition, now: &StageTotals, earlier: &StageTotals) {
    for stage in Stage::ALL {
        let (name, what) = match stage {
            Stage::Queue => ("event_queue_time", "requests wait for their group's partition"),
            Stage::Processing => ("event_processing_time", "requests are worked on"),
            Stage::Flush => ("batch_flush_time", "an append to the offsets topic takes"),
        };
        let times_ms = now.quantiles_ms(earlier, stage, STAGE_QUANTILES.map(|(_, quantile)| quantile));
        for ((end, _), time_ms) in STAGE_QUANTILES.into_iter().zip(times_ms) {
            let name = format!("kafka_server_group_coordinator_metrics_{name}_ms_{end}");
            gauge(out, &name, &format!("How long {what} of late, in ms ({end}).")).sample(&[], time_ms);
        }
    }
}

fn groups(out: &mut Exposition, all: &[GroupFacts], offset_count: usize) {
    let count = |is_consumer: bool, state: Option<&str>| {
        let is_counted =
            |group: &&GroupFacts| group.is_consumer == is_consumer && state.is_none_or(|state| group.state == state);
        all.iter().filter(is_counted).count() as f64
    };
    let manager = "kafka_coordinator_group_groupmetadatamanager";
    gauge(out, &format!("{manager}_numoffsets"), "Offsets that are committed.").sample(&[], offset_count as f64);
    let classic = [
        ("numgroups", None),
        ("numgroupspreparingrebalance", Some("PreparingRebalance")),
        ("numgroupscompletingrebalance", Some("CompletingRebalance")),
        ("numgroupsstable", Some("Stable")),
        ("numgroupsdead", Some("Dead")),
        ("numgroupsempty", Some("Empty")),
    ];
    for (name, state) in classic {
        let help = format!(
            "Classic groups{}.",
            state.map(|state| format!(" that are {state}")).unwrap_or_default()
        );
        gauge(out, &format!("{manager}_{name}"), &help).sample(&[], count(false, state));
    }
    gauge(
        out,
        "kafka_server_group_coordinator_metrics_group_count",
        "Groups, by protocol.",
    )
    .sample(&[("protocol", "classic")], count(false, None))
    .sample(&[("protocol", "consumer")], count(true, None));
    let name = "kafka_server_group_coordinator_metrics_consumer_group_count";
    let mut samples = gauge(out, name, "Groups of the consumer protocol, by state.");
    for state in ["Empty", "Assigning", "Reconciling", "Stable", "Dead"] {
        samples.sample(&[("state", state)], count(true, Some(state)));
    }
    let mut samples = gauge(out, "kafka_consumergroup_members", "Members of a group.");
    for group in all {
        samples.sample(&[("consumergroup", &group.group_id)], group.members as f64);
    }
}

type HighWatermarks<'a> = HashMap<(&'a str, PartitionId), Offset>;

/// Those of the partitions that this broker leads.
fn high_watermarks(replicas: &[ReplicaFacts]) -> HighWatermarks<'_> {
    let led = replicas.iter().filter(|replica| replica.is_leader);
    led.map(|replica| ((&*replica.topic, replica.partition), replica.high_watermark))
        .collect()
}

/// Writes offsets and lags as kafka-exporter does; the lag is known where this broker leads the partition.
fn lags(out: &mut Exposition, offsets: &[CommittedOffset], high_watermarks: &HighWatermarks<'_>, of_partitions: bool) {
    let lag = |committed: &CommittedOffset| {
        let high_watermark = high_watermarks.get(&(&*committed.topic, committed.partition))?;
        // A commit may be newer than what was read of the partition.
        Some((high_watermark.0 - committed.offset.0).max(0))
    };
    if of_partitions {
        let mut of_each = |name: &str, help: &str, value: &dyn Fn(&CommittedOffset) -> Option<i64>| {
            let mut samples = gauge(out, name, help);
            for committed in offsets {
                if let Some(value) = value(committed) {
                    let labels = [
                        ("consumergroup", &*committed.group_id),
                        ("topic", &committed.topic),
                        ("partition", &committed.partition.to_string()),
                    ];
                    samples.sample(&labels, value as f64);
                }
            }
        };
        of_each(
            "kafka_consumergroup_current_offset",
            "The offset that a group has committed.",
            &|committed| Some(committed.offset.0),
        );
        of_each(
            "kafka_consumergroup_lag",
            "How many records of a partition a group has yet to read.",
            &lag,
        );
    }
    let mut sums: BTreeMap<(&str, &str), (i64, Option<i64>)> = BTreeMap::new();
    for committed in offsets {
        let (offset_sum, lag_sum) = sums.entry((&committed.group_id, &committed.topic)).or_default();
        *offset_sum = offset_sum.saturating_add(committed.offset.0);
        *lag_sum = match (*lag_sum, lag(committed)) {
            (Some(sum), Some(lag)) => Some(sum.saturating_add(lag)),
            (sum, lag) => sum.or(lag),
        };
    }
    let mut of_topics = |name: &str, help: &str, value: fn(&(i64, Option<i64>)) -> Option<i64>| {
        let mut samples = gauge(out, name, help);
        for ((group, topic), sums) in &sums {
            if let Some(value) = value(sums) {
                samples.sample(&[("consumergroup", group), ("topic", topic)], value as f64);
            }
        }
    };
    of_topics(
        "kafka_consumergroup_current_offset_sum",
        "The sum of the offsets that a group has committed of a topic.",
        |sums| Some(sums.0),
    );
    of_topics(
        "kafka_consumergroup_lag_sum",
        "How many records of a topic a group has yet to read.",
        |sums| sums.1,
    );
}
