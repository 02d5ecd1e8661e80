//! kafka-topics.
use ottla_compat_tests::scenario::Case;

pub const CASES: &[Case] = &[
    Case::shell(
        "topics-create",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 3 --replication-factor 1",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
            "kafka-topics --bootstrap-server $B --create --topic $T",
            "kafka-topics --bootstrap-server $B --create --topic $T --if-not-exists",
            "kafka-topics --bootstrap-server $B --create --topic $T-default",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T-default",
            "kafka-topics --bootstrap-server $B --create --topic $T-assigned --replica-assignment 1,1,1,1",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T-assigned",
            "kafka-topics --bootstrap-server $B --create --topic $T-configured --config retention.ms=3600000 --config cleanup.policy=compact,delete --config compression.type=zstd",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T-configured",
        ],
    ),
    Case::shell(
        "topics-create-errors",
        &[
            "kafka-topics --bootstrap-server $B --create --topic a!b",
            "kafka-topics --bootstrap-server $B --create --topic ..",
            "kafka-topics --bootstrap-server $B --create --topic x0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 0",
            "kafka-topics --bootstrap-server $B --create --topic $T --replication-factor 2",
            "kafka-topics --bootstrap-server $B --create --topic $T --replica-assignment 1:2",
            "kafka-topics --bootstrap-server $B --create --topic $T --replica-assignment 7",
            "kafka-topics --bootstrap-server $B --create --topic $T --config no.such.config=1",
            "kafka-topics --bootstrap-server $B --create --topic $T --config retention.ms=soon",
            "kafka-topics --bootstrap-server $B --create --topic $T --config segment.bytes=1",
            "kafka-topics --bootstrap-server $B --create --topic $T --config cleanup.policy=burn",
            "kafka-topics --bootstrap-server $B --create --topic $T --config compression.type=rar",
            "kafka-topics --bootstrap-server $B --create --topic $T --config min.insync.replicas=0",
            // Two names that metrics would mix up.
            "kafka-topics --bootstrap-server $B --create --topic $T.a_b",
            "kafka-topics --bootstrap-server $B --create --topic $T_a.b",
        ],
    ),
    Case::shell(
        "topics-alter",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
            "kafka-topics --bootstrap-server $B --alter --topic $T --partitions 4",
            "until PartitionCount:.4 kafka-topics --bootstrap-server $B --describe --topic $T",
            "kafka-topics --bootstrap-server $B --alter --topic $T --partitions 4",
            "kafka-topics --bootstrap-server $B --alter --topic $T --partitions 3",
            "kafka-topics --bootstrap-server $B --alter --topic $T --partitions 5 --replica-assignment 1,1,1,1,1",
            "until PartitionCount:.5 kafka-topics --bootstrap-server $B --describe --topic $T",
            "kafka-topics --bootstrap-server $B --alter --topic $T --partitions 7 --replica-assignment 1,1,1,1,1,1,9",
            "kafka-topics --bootstrap-server $B --alter --topic $T-absent --partitions 4",
            "kafka-topics --bootstrap-server $B --alter --topic $T-absent --partitions 4 --if-exists",
        ],
    ),
    Case::shell(
        "topics-delete",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2",
            "until topics-delete only topics-delete kafka-topics --bootstrap-server $B --list",
            "kafka-topics --bootstrap-server $B --delete --topic $T",
            "until ^$ only topics-delete kafka-topics --bootstrap-server $B --list",
            "kafka-topics --bootstrap-server $B --delete --topic $T",
            "kafka-topics --bootstrap-server $B --delete --topic $T --if-exists",
            "kafka-topics --bootstrap-server $B --describe --topic $T",
            // The name is free again, under another id.
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 1",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
        ],
    ),
    Case::shell(
        "topics-describe",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T --exclude-internal",
            "kafka-topics --bootstrap-server $B --describe --topic $T --unavailable-partitions",
            "kafka-topics --bootstrap-server $B --describe --topic $T --under-replicated-partitions",
            "kafka-topics --bootstrap-server $B --describe --topic $T --topics-with-overrides",
            "kafka-topics --bootstrap-server $B --describe --topic-id ZZZZZZZZZZZZZZZZZZZZZA",
            "kafka-topics --bootstrap-server $B --describe --topic $T-absent",
            "kafka-topics --bootstrap-server $B --describe --topic $T-absent --if-exists",
        ],
    ),
];
