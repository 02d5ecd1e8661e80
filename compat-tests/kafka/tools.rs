//! The stock Java tools beside kafka-topics.
use ottla_compat_tests::node::Target;
use ottla_compat_tests::scenario::{Case, Session};

pub const CASES: &[Case] = &[
    Case::shell(
        "console-producer-and-consumer",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
            "kafka-console-producer --bootstrap-server $B --topic $T --reader-property parse.key=true --reader-property parse.headers=true\nh1:v1,h2:v2\tkey\tvalue 1\nh1:\tkey\tvalue 2\n",
            "kafka-console-consumer --bootstrap-server $B --topic $T --partition 0 --offset earliest --timeout-ms 2000 --formatter-property print.key=true --formatter-property print.headers=true --formatter-property print.offset=true --formatter-property print.partition=true",
            "kafka-console-consumer --bootstrap-server $B --topic $T --partition 1 --offset earliest --timeout-ms 2000 --formatter-property print.key=true --formatter-property print.headers=true --formatter-property print.offset=true --formatter-property print.partition=true",
            "kafka-console-producer --bootstrap-server $B --topic $T --compression-codec gzip --request-required-acks 1\nanother\nand one\n",
            "kafka-console-producer --bootstrap-server $B --topic $T --compression-codec zstd --request-required-acks 0\nlast\n",
        ],
    ),
    Case::shell(
        "console-consumer-offsets",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 1",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
            "kafka-console-producer --bootstrap-server $B --topic $T\none\ntwo\nthree\nfour\n",
            "kafka-console-consumer --bootstrap-server $B --topic $T --partition 0 --offset 2 --max-messages 1",
            "kafka-console-consumer --bootstrap-server $B --topic $T --partition 0 --offset 1 --max-messages 3 --isolation-level read_committed",
            "kafka-console-consumer --bootstrap-server $B --topic $T --partition 0 --offset latest --timeout-ms 500",
            "kafka-console-consumer --bootstrap-server $B --topic $T --partition 0 --offset 99 --timeout-ms 2000",
            "kafka-console-consumer --bootstrap-server $B --topic $T --partition 5 --offset 0 --timeout-ms 2000",
        ],
    ),
    // All that the tool prints are times, so these keep no line of it.
    Case::shell(
        "producer-perf-test",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 1",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
            "only ^never kafka-producer-perf-test --bootstrap-server $B --topic $T --num-records 30000 --record-size 200 --throughput -1 --command-property compression.type=lz4",
            "only ^never kafka-producer-perf-test --bootstrap-server $B --topic $T --num-records 100 --record-size 200 --throughput -1 --command-property acks=1 enable.idempotence=false",
            "kafka-get-offsets --bootstrap-server $B --topic $T",
        ],
    ),
    Case::shell(
        "get-offsets",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
            "kcat -b $B -t $T -p 0 -P\n1\n2\n3\n",
            "kcat -b $B -t $T -p 1 -P\n4\n",
            "kafka-get-offsets --bootstrap-server $B --topic $T",
            "kafka-get-offsets --bootstrap-server $B --topic $T --time latest",
            "kafka-get-offsets --bootstrap-server $B --topic $T --time -2",
            "kafka-get-offsets --bootstrap-server $B --topic $T --time max-timestamp",
            "kafka-get-offsets --bootstrap-server $B --topic $T --time earliest-local",
            "kafka-get-offsets --bootstrap-server $B --topic $T --time latest-tiered",
            "kafka-get-offsets --bootstrap-server $B --topic $T --time earliest-pending-upload",
            "kafka-get-offsets --bootstrap-server $B --topic $T --time 1000",
            "kafka-get-offsets --bootstrap-server $B --topic $T --time 99999999999999",
            "kafka-get-offsets --bootstrap-server $B --topic-partitions $T:1,$T:0-1",
            "kafka-get-offsets --bootstrap-server $B --topic $T --partitions 1",
            "kafka-get-offsets --bootstrap-server $B --topic $T-absent",
            "kafka-get-offsets --bootstrap-server $B --topic $T --time whenever",
        ],
    ),
    Case::shell(
        "delete-records",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 2",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
            "kcat -b $B -t $T -p 0 -P\n1\n2\n3\n",
            "kcat -b $B -t $T -p 1 -P\n4\n5\n",
            "write $D/$T.json\n{\"version\": 1, \"partitions\": [{\"topic\": \"$T\", \"partition\": 0, \"offset\": 2}, {\"topic\": \"$T\", \"partition\": 1, \"offset\": -1}]}",
            "sort kafka-delete-records --bootstrap-server $B --offset-json-file $D/$T.json",
            "kafka-get-offsets --bootstrap-server $B --topic $T --time earliest",
            "kafka-console-consumer --bootstrap-server $B --topic $T --partition 0 --offset earliest --max-messages 1",
            "write $D/$T.json\n{\"version\": 1, \"partitions\": [{\"topic\": \"$T\", \"partition\": 0, \"offset\": 9}]}",
            "kafka-delete-records --bootstrap-server $B --offset-json-file $D/$T.json",
        ],
    ),
    Case::shell(
        "log-dirs",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T --partitions 1",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
            "kcat -b $B -t $T -p 0 -P\n1\n2\n3\n",
            "kafka-log-dirs --bootstrap-server $B --describe --topic-list $T",
            "kafka-log-dirs --bootstrap-server $B --describe --topic-list $T-absent --broker-list 1",
            "kafka-log-dirs --bootstrap-server $B --describe --broker-list 7",
        ],
    ),
    Case::shell(
        "configs-topics",
        &[
            "kafka-topics --bootstrap-server $B --create --topic $T",
            "until PartitionCount kafka-topics --bootstrap-server $B --describe --topic $T",
            "kafka-configs --bootstrap-server $B --describe --topic $T",
            "kafka-configs --bootstrap-server $B --alter --topic $T --add-config retention.ms=1000,cleanup.policy=[compact,delete]",
            "until retention kafka-configs --bootstrap-server $B --describe --topic $T",
            "kafka-configs --bootstrap-server $B --alter --topic $T --delete-config retention.ms",
            "until ^$ only retention kafka-configs --bootstrap-server $B --describe --topic $T",
            "kafka-configs --bootstrap-server $B --alter --topic $T --add-config no.such.config=1",
            "kafka-configs --bootstrap-server $B --alter --topic $T --add-config max.message.bytes=-1",
            "kafka-configs --bootstrap-server $B --alter --topic $T --add-config retention.ms=soon",
            "kafka-configs --bootstrap-server $B --alter --topic $T --delete-config segment.ms",
            "kafka-configs --bootstrap-server $B --alter --topic $T-absent --add-config retention.ms=1000",
            "kafka-configs --bootstrap-server $B --describe --topic $T-absent",
            "sort kafka-configs --bootstrap-server $B --describe --topic $T --all",
        ],
    ),
    Case::shell(
        "configs-groups",
        &[
            "kafka-configs --bootstrap-server $B --describe --entity-type groups --entity-name $T",
            "kafka-configs --bootstrap-server $B --alter --entity-type groups --entity-name $T --add-config consumer.session.timeout.ms=50000,streams.num.standby.replicas=1",
            "until session.timeout kafka-configs --bootstrap-server $B --describe --entity-type groups --entity-name $T",
            "kafka-configs --bootstrap-server $B --alter --group $T --delete-config streams.num.standby.replicas",
            "until ^$ only standby kafka-configs --bootstrap-server $B --describe --group $T",
            "sort kafka-configs --bootstrap-server $B --describe --group $T --all",
            "only configs-groups kafka-configs --bootstrap-server $B --describe --entity-type groups",
            "kafka-configs --bootstrap-server $B --alter --group $T --add-config consumer.session.timeout.ms=1000",
            "kafka-configs --bootstrap-server $B --alter --group $T --add-config session.timeout.ms=50000",
            "kafka-configs --bootstrap-server $B --alter --group $T --delete-config share.isolation.level",
            "kafka-configs --bootstrap-server $B --alter --entity-type groups --entity-default --add-config consumer.session.timeout.ms=50000",
        ],
    ),
    Case::shell(
        "cluster",
        &[
            "kafka-cluster cluster-id --bootstrap-server $B",
            "kafka-cluster cluster-id --bootstrap-controller $C",
            "kafka-cluster list-endpoints --bootstrap-server $B",
            "kafka-cluster list-endpoints --bootstrap-controller $C",
            "kafka-cluster list-endpoints --bootstrap-server $B --include-fenced-brokers",
        ],
    ),
    Case::code("configs-brokers", configs_brokers),
    Case::code("configs-loggers", configs_loggers),
    Case::code("broker-api-versions", broker_api_versions),
    Case::code("metadata-quorum", metadata_quorum),
    Case::code("features", features),
];

/// On a node of its own, because other scenarios would see the changes.
fn configs_brokers(s: &mut Session) {
    let node = s.start(Default::default());
    s.shell(
        &node,
        &[
            "kafka-configs --bootstrap-server $B --describe --broker 1",
            "kafka-configs --bootstrap-server $B --describe --broker-defaults",
            "kafka-configs --bootstrap-server $B --alter --broker-defaults --add-config log.retention.ms=7200000",
            "until log.retention.ms kafka-configs --bootstrap-server $B --describe --broker-defaults",
            "kafka-configs --bootstrap-server $B --alter --broker 1 --add-config log.retention.ms=3600000",
            "until log.retention.ms=3600000 kafka-configs --bootstrap-server $B --describe --broker 1",
            "kafka-topics --bootstrap-server $B --create --topic $T",
            "until (?m)^..retention.ms=3600000 only retention.ms= kafka-configs --bootstrap-server $B --describe --topic $T --all",
            "kafka-configs --bootstrap-server $B --alter --broker 1 --delete-config log.retention.ms",
            "until (?m)^..retention.ms=7200000 only retention.ms= kafka-configs --bootstrap-server $B --describe --topic $T --all",
            "kafka-configs --bootstrap-server $B --alter --broker 1 --add-config log.dirs=/elsewhere",
            "kafka-configs --bootstrap-server $B --alter --broker 1 --add-config log.retention.ms=soon",
            "kafka-configs --bootstrap-server $B --describe --broker 7",
            "kafka-configs --bootstrap-controller $C --describe --broker-defaults",
            "kafka-configs --bootstrap-controller $C --alter --broker-defaults --add-config log.segment.bytes=10000000",
            "until segment.bytes kafka-configs --bootstrap-server $B --describe --broker-defaults",
        ],
    );
}

/// Each broker has loggers of its own but for the one above all.
fn configs_loggers(s: &mut Session) {
    let node = s.start(Default::default());
    s.shell(
        &node,
        &[
            "kafka-configs --bootstrap-server $B --alter --broker-logger 1 --add-config root=ERROR",
            "only root= kafka-configs --bootstrap-server $B --describe --broker-logger 1",
            "kafka-configs --bootstrap-server $B --alter --broker-logger 1 --add-config root=INFO",
            "only root= kafka-configs --bootstrap-server $B --describe --broker-logger 1",
            "kafka-configs --bootstrap-server $B --alter --broker-logger 1 --add-config root=LOUD",
            "kafka-configs --bootstrap-server $B --alter --broker-logger 1 --add-config no.such.logger=INFO",
            "kafka-configs --bootstrap-server $B --alter --broker-logger 1 --delete-config root",
            "kafka-configs --bootstrap-server $B --describe --broker-logger 7",
        ],
    );
}

/// APIs that Ottla serves; the others come with what they are for.
const SERVED: [&str; 37] = [
    "Produce",
    "Fetch",
    "ListOffsets",
    "Metadata",
    "OffsetCommit",
    "OffsetFetch",
    "FindCoordinator",
    "JoinGroup",
    "Heartbeat",
    "LeaveGroup",
    "SyncGroup",
    "DescribeGroups",
    "ListGroups",
    "ApiVersions",
    "CreateTopics",
    "DeleteTopics",
    "DeleteRecords",
    "InitProducerId",
    "OffsetForLeaderEpoch",
    "DescribeAcls",
    "DescribeConfigs",
    "AlterConfigs",
    "DescribeLogDirs",
    "CreatePartitions",
    "DeleteGroups",
    "IncrementalAlterConfigs",
    "OffsetDelete",
    "DescribeQuorum",
    "UpdateFeatures",
    "DescribeCluster",
    "DescribeProducers",
    "ListConfigResources",
    "DescribeTopicPartitions",
    "UnregisterBroker",
    "ElectLeaders",
    "ConsumerGroupHeartbeat",
    "ConsumerGroupDescribe",
];

fn broker_api_versions(s: &mut Session) {
    let node = s.node();
    let output = s.tool(node, "kafka-broker-api-versions --bootstrap-server $B");
    let name = |line: &str| line.trim().split('(').next().unwrap_or_default().to_string();
    let advertised: Vec<_> = output.stdout.lines().map(name).collect();
    s.note("code", output.code);
    s.transcript.add(output.stdout.lines().next().unwrap_or_default());
    for api in SERVED
        .into_iter()
        .filter(|api| s.target == Target::Ottla || advertised.iter().any(|name| name == api))
    {
        let line = output
            .stdout
            .lines()
            .find(|line| name(line) == api)
            .unwrap_or("not advertised");
        s.transcript.add(line.trim_end_matches(','));
    }
}

fn metadata_quorum(s: &mut Session) {
    let node = s.node();
    // Offsets, times and lags depend on what else happens, the leader epoch on nothing.
    let status = r"(?m)^(HighWatermark|LeaderEpoch|MaxFollowerLagTimeMs|MaxFollowerLag):(\s+)-?\d+$";
    s.transcript.replace(status, "$1:$2<n>");
    let replica = r"(?m)^(1\s+\S+)\s+\d+\s+\d+\s+-?\d+\s+-?\d+\s+(\w+)\s*$";
    s.transcript.replace(replica, "$1 <end> <lag> <ms> <ms> $2");
    s.shell(
        node,
        &[
            "kafka-metadata-quorum --bootstrap-server $B describe --status",
            "kafka-metadata-quorum --bootstrap-controller $C describe --status",
            "kafka-metadata-quorum --bootstrap-server $B describe --replication",
            "kafka-metadata-quorum --bootstrap-controller $C describe --replication",
        ],
    );
}

fn features(s: &mut Session) {
    let node = s.node();
    s.transcript.replace(r"Epoch: \d+", "Epoch: <n>");
    s.shell(
        node,
        &[
            "only ^Feature:.(group|kraft|metadata) kafka-features --bootstrap-server $B describe",
            "only ^Feature:.(group|kraft|metadata) kafka-features --bootstrap-controller $C describe",
            "kafka-features --bootstrap-server $B upgrade --feature metadata.version=999",
            "kafka-features --bootstrap-server $B downgrade --feature no.such.feature=1",
            "kafka-features --bootstrap-server $B upgrade --dry-run --feature metadata.version=30",
        ],
    );
}
