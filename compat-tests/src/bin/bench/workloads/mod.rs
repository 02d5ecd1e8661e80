//! All workloads with their goals.
mod compact;
mod consumers;
mod fetch;
mod fsync;
mod groups;
mod latency;
mod lz4;
mod memory;
mod partitions;
mod produce;
mod recovery;
mod single;
mod start;

use crate::workload::{DEFAULTS, Figure, Rival, Settings, Workload};

/// A workload of Ottla and Apache Kafka with their defaults; others say what differs.
const USUAL: Workload = Workload {
    name: "",
    family: "",
    title: "",
    method: "",
    settings: DEFAULTS,
    rival: Rival::Apache,
    disk_gb: 2,
    figures: &[],
    run: |_| (),
};

const CPU_PER_GB: &str = "broker CPU-s/GB";
const MB_PER_S: &str = "MB/s";
const REQUESTS_PER_S: &str = "requests/s";
const CPU_PER_REQUEST: &str = "broker CPU µs/request";

/// In the order in which they run and are printed.
pub const ALL: &[Workload] = &[
    Workload {
        name: "produce-1k",
        title: "Produce 1 KiB, batched, acks=all",
        method: "librdkafka with its defaults and acks=all writes values of 1 KiB to 6 partitions. Floor: one thread \
                 that receives as many bytes over loopback, takes their CRC32C and writes them to a file.",
        disk_gb: 14,
        figures: &[Figure::lower(CPU_PER_GB).goal(0.35), Figure::higher(MB_PER_S)],
        run: |session| produce::run(session, 1024),
        ..USUAL
    },
    Workload {
        name: "produce-100",
        title: "Produce 100 B, batched, acks=all",
        method: "librdkafka with its defaults and acks=all writes values of 100 B to 6 partitions; GB are of values. \
                 Floor as above.",
        disk_gb: 14,
        figures: &[Figure::lower(CPU_PER_GB).goal(0.35), Figure::higher(MB_PER_S)],
        run: |session| produce::run(session, 100),
        ..USUAL
    },
    Workload {
        name: "lz4",
        title: "Produce 1 KiB in lz4 batches",
        method: "6 connections send lz4 batches of 64 values of 1 KiB, encoded once, to a partition each, 5 in \
                 flight, acks=all; GB are of values. Both brokers look at the records in each batch.",
        disk_gb: 14,
        figures: &[
            Figure::lower("broker CPU-s/GB of payload").goal(0.5),
            Figure::higher("MB/s of payload"),
        ],
        run: lz4::run,
        ..USUAL
    },
    Workload {
        name: "single",
        title: "One 100 B record a request, acks=all",
        method: "4 connections send requests that are encoded once to a partition each, 64 in flight; of the \
                 answers, correlation id and error code are looked at.",
        figures: &[
            Figure::higher(REQUESTS_PER_S).goal(5.0),
            Figure::lower(CPU_PER_REQUEST).goal(0.2),
        ],
        run: single::run,
        ..USUAL
    },
    Workload {
        name: "fetch",
        title: "Fetch from page cache",
        method: "2 consumers read 6 partitions of 64 KiB batches again and again, 1 MiB a partition and request, and \
                 have the kernel throw the records away (MSG_TRUNC). Floor: one thread in sendfile, the same way of \
                 reading.",
        disk_gb: 4,
        figures: &[
            Figure::lower(CPU_PER_GB).goal(1.0).or_floor(1.1),
            Figure::higher(MB_PER_S),
        ],
        run: fetch::run,
        ..USUAL
    },
    Workload {
        name: "consumers",
        title: "1,000 consumers of idle partitions",
        method: "1,000 connections, each with an incremental fetch session of one of 100 partitions, min.bytes 1, \
                 max.wait 500 ms.",
        figures: &[Figure::lower("broker CPU ms/s").goal(0.2)],
        run: consumers::run,
        ..USUAL
    },
    Workload {
        name: "idle",
        title: "Nothing to do",
        method: "One empty topic, no client.",
        figures: &[Figure::lower("broker CPU ms/s")],
        run: consumers::idle,
        ..USUAL
    },
    Workload {
        name: "latency",
        title: "End-to-end latency at 1,000 records/s",
        method: LATENCY,
        figures: &[
            Figure::lower("p50 µs").goal(0.6),
            Figure::lower("p99 µs").goal(0.4),
            Figure::lower("p99.9 µs").goal(0.25),
        ],
        run: |session| latency::run(session, false),
        ..USUAL
    },
    Workload {
        name: "latency-loaded",
        title: "The same beside 100 MB/s to another topic",
        method: LATENCY,
        disk_gb: 12,
        figures: &[
            Figure::lower("p50 µs"),
            Figure::lower("p99 µs").goal(0.4),
            Figure::lower("p99.9 µs"),
        ],
        run: |session| latency::run(session, true),
        ..USUAL
    },
    Workload {
        name: "start",
        title: "Start with empty data",
        method: "From the start of the process on a formatted directory until Metadata lists the node, and until a \
                 topic is created and one record is acknowledged.",
        figures: &[
            Figure::lower("ms to a record").goal(1.0 / 20.0),
            Figure::lower("ms to Metadata"),
        ],
        run: start::run,
        ..USUAL
    },
    Workload {
        name: "memory",
        title: "Memory",
        method: "3 s after the start, and after 4 GB in batches of 64 KiB from 6 connections.",
        disk_gb: 6,
        figures: &[
            Figure::lower("RSS fresh, MB").goal(1.0 / 12.0),
            Figure::lower("RSS after 4 GB, MB").goal(1.0 / 10.0),
        ],
        run: memory::run,
        ..USUAL
    },
    Workload {
        name: "partitions",
        title: "2,000 partitions",
        method: "One CreateTopics of 20 topics with 100 partitions each, until Metadata names a leader of all, and \
                 until all answer ListOffsets; restarts until all are led and answer ListOffsets, and the last one \
                 takes a record.",
        figures: &[
            Figure::lower("ms to create until all are led").goal(0.25),
            Figure::lower("ms to create until all leaders serve").goal(0.25),
            Figure::lower("RSS, MB").goal(0.25),
            Figure::lower("ms to restart after a clean stop").goal(0.25),
            Figure::lower("ms to restart after kill -9").goal(0.25),
        ],
        run: partitions::run,
        ..USUAL
    },
    Workload {
        name: "recovery",
        title: "Restart after kill -9, 8 GB unflushed",
        method: "10 connections fill a partition each with 1 MB batches below the size at which a segment is closed \
                 and flushed; killed, and started again at once, until all partitions take a record. One broker \
                 after the other, so that the data of one fits the page cache.",
        disk_gb: 10,
        figures: &[
            Figure::lower("ms to all partitions").goal(0.5),
            Figure::lower("broker CPU-s"),
            Figure::lower("GB read meanwhile"),
        ],
        run: recovery::run,
        ..USUAL
    },
    Workload {
        name: "fsync",
        title: "Each record synced before it is acknowledged",
        method: "64 connections, 16 partitions, one 100 B record a request, encoded once; 5 requests in flight as \
                 stock producers have, or 1.",
        settings: Settings {
            ottla: &["ottla.fsync=ack"],
            rival: &[],
            rival_topic: &[("flush.messages", "1")],
        },
        figures: &[
            Figure::higher("requests/s, 5 in flight").goal(10.0),
            Figure::higher("requests/s, 1 in flight"),
        ],
        run: fsync::run,
        ..USUAL
    },
    Workload {
        name: "metrics",
        title: "Cost of the metrics",
        method: "As one record a request, in 4 short runs a round of Ottla with its defaults, which nobody scrapes \
                 meanwhile, and of Ottla with metrics turned off.",
        settings: Settings {
            ottla: &[],
            rival: &["ottla.http.listener="],
            rival_topic: &[],
        },
        rival: Rival::Itself("Ottla without metrics"),
        figures: &[
            Figure::lower(CPU_PER_REQUEST).goal(1.02),
            Figure::higher(REQUESTS_PER_S),
        ],
        run: single::metrics,
        ..USUAL
    },
    Workload {
        name: "groups-commit",
        title: "OffsetCommit, 50 groups",
        method: "Each request, encoded once, commits an offset of a partition for one of 50 groups without members, from 5 \
                 connections for 10 groups each or from one a group; 64 in flight on each, or 5. Of the answers, \
                 correlation id and error code are looked at.",
        figures: &[
            Figure::higher("requests/s, 5 connections").goal(3.0),
            Figure::lower("broker CPU µs/request, 5 connections"),
            Figure::higher("requests/s, 50 connections").goal(3.0),
            Figure::lower("broker CPU µs/request, 50 connections"),
            Figure::higher("requests/s, 50 connections, 5 in flight"),
            Figure::lower("broker CPU µs/request, 50 connections, 5 in flight"),
        ],
        run: groups::commit::run,
        ..USUAL
    },
    Workload {
        name: "groups-heartbeat",
        title: "Heartbeats of 1,000 members",
        method: "One classic group; each member has a connection of its own and heartbeats every 200 ms, which is more \
                 often than stock consumers do, so that little but heartbeats is measured.",
        figures: &[
            Figure::lower("broker CPU µs/heartbeat").goal(0.25),
            Figure::higher("heartbeats/s"),
        ],
        run: groups::heartbeat::run,
        ..USUAL
    },
    Workload {
        name: "groups-join",
        title: "100 members join a new group at once",
        method: "Members with a connection each, that do what Java's consumer does: in a classic group until the last \
                 SyncGroup is answered (most of it is group.initial.rebalance.delay.ms of 3 s, twice, because more members \
                 came meanwhile); in a consumer group of 100 partitions until each member has one and its heartbeat with it \
                 is answered. Members heartbeat when the coordinator told them to, and at once when they have taken or given \
                 up partitions.",
        figures: &[
            Figure::lower("ms, classic protocol").goal(1.0),
            Figure::lower("ms, consumer protocol").goal(0.5),
        ],
        run: groups::join::run,
        ..USUAL
    },
    Workload {
        name: "groups-load",
        title: "Load of 1,000,000 offset records",
        method: "1,000 groups commit 100 offsets each, 10 times, into one partition of __consumer_offsets, in segments so \
                 large that nothing is compacted. After a clean stop, from the start of the process until an offset is \
                 fetched, and the part of it after Metadata lists the broker.",
        settings: LOAD,
        figures: &[
            Figure::lower("ms from the start").goal(1.0 / 3.0),
            Figure::lower("ms after Metadata").goal(1.0 / 3.0),
            Figure::lower("broker CPU-s"),
        ],
        run: groups::load::run,
        ..USUAL
    },
    Workload {
        name: "compact",
        family: "groups",
        title: "Compaction of 2 GB, 1 % distinct keys",
        method: "20 million records with keys of 10 B and values of 90 B, in batches of 1,000 and segments of 64 MiB of one \
                 partition; 200,000 distinct keys. From the moment that cleanup.policy becomes compact until \
                 cleaner-offset-checkpoint names the partition. Before it, a tenth as much is compacted, which does not count.",
        settings: COMPACT,
        disk_gb: 4,
        figures: &[Figure::lower("s").goal(0.5), Figure::lower("broker CPU-s").goal(0.5)],
        run: compact::run,
        ..USUAL
    },
];

const LOAD: Settings = {
    const LINES: &[&str] = &[
        "offsets.topic.num.partitions=1",
        "offsets.topic.segment.bytes=1073741824",
    ];
    Settings {
        ottla: LINES,
        rival: LINES,
        rival_topic: &[],
    }
};

const COMPACT: Settings = {
    const LINES: &[&str] = &["log.cleaner.backoff.ms=100"];
    Settings {
        ottla: LINES,
        rival: LINES,
        rival_topic: &[],
    }
};

const LATENCY: &str = "One record of 100 B a request, acks=all, sent each millisecond whether answers come or not, \
                       over plain sockets; one long-polling consumer. Measured from when the record was due, so that \
                       a stall counts for all that it delays.";
