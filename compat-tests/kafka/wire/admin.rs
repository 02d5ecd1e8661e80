//! What administrators do: topics, partitions, configurations, log dirs, producers.
use kafka_protocol::messages::alter_configs_request::{self, AlterableConfig as Assignment};
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeAclsRequest,
    DescribeConfigsRequest, DescribeLogDirsRequest, DescribeProducersRequest, IncrementalAlterConfigsRequest,
    ListConfigResourcesRequest, TopicName, UpdateFeaturesRequest, update_features_request,
};
use ottla_compat_tests::node::Options;
use ottla_compat_tests::raw::Connection;
use ottla_compat_tests::records::Batch;
use ottla_compat_tests::scenario::{Case, Session, wait_for};
use uuid::Uuid;

use super::{Wire, init_producer_id, produce, text, topic_name};

pub const CASES: &[Case] = &[
    Case::code("create-topics-versions", create_topics),
    Case::code("create-topics-errors", create_topics_errors),
    Case::code("delete-topics", delete_topics),
    Case::code("create-partitions", create_partitions),
    Case::code("describe-configs-topic", describe_configs_topic),
    Case::code("describe-configs-errors", describe_configs_errors),
    Case::code("incremental-alter-configs", incremental_alter_configs),
    Case::code("alter-configs", alter_configs),
    Case::code("group-configs", group_configs),
    Case::code("broker-configs", broker_configs),
    Case::code("list-config-resources", list_config_resources),
    Case::code("describe-log-dirs", describe_log_dirs),
    Case::code("describe-producers", describe_producers),
    Case::code("describe-acls", describe_acls),
    Case::code("init-producer-id", init_producer_ids),
    Case::code("update-features", update_features),
];

fn topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(10_000)
}

fn config(name: &str, value: Option<&str>) -> CreatableTopicConfig {
    CreatableTopicConfig::default()
        .with_name(text(name))
        .with_value(value.map(text))
}

fn create_topics(s: &mut Session) {
    let mut w = Wire::open(s);
    for version in 2..=7 {
        let name = format!("{}-{version}", w.s.name);
        let plain = topic(&name, 2, 1).with_configs(vec![
            config("retention.ms", Some("3600000")),
            config("segment.ms", None),
        ]);
        for validate_only in [true, false, false] {
            w.title(&format!("validate only: {validate_only}"));
            let answer = w
                .connection
                .call(version, &create(vec![plain.clone()]).with_validate_only(validate_only));
            let answer = answer.map(|mut answer| {
                for topic in &mut answer.topics {
                    topic
                        .configs
                        .iter_mut()
                        .for_each(|configs| configs.sort_by(|a, b| a.name.cmp(&b.name)));
                }
                answer
            });
            w.s.answer::<CreateTopicsRequest>(version, answer);
        }
        if version >= 4 {
            w.title("the broker's defaults");
            let name = format!("{name}-default");
            let answer = w.connection.call(version, &create(vec![topic(&name, -1, -1)])).unwrap();
            let made = &answer.topics[0];
            w.s.note("made", (made.error_code, made.num_partitions, made.replication_factor));
        }
    }
}

fn create_topics_errors(s: &mut Session) {
    let mut w = Wire::open(s);
    let name = w.s.name;
    let assigned = |assignments: &[(i32, &[i32])]| {
        let assignments = assignments.iter().map(|(partition, brokers)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(*partition)
                .with_broker_ids(brokers.iter().map(|id| (*id).into()).collect())
        });
        topic(name, -1, -1).with_assignments(assignments.collect())
    };
    let configured = |key: &str, value: Option<&str>| topic(name, 1, 1).with_configs(vec![config(key, value)]);
    let cases = [
        ("no name", vec![topic("", 1, 1)]),
        ("illegal name", vec![topic("a/b", 1, 1)]),
        ("long name", vec![topic(&"x".repeat(250), 1, 1)]),
        ("no partitions", vec![topic(name, 0, 1)]),
        ("negative partitions", vec![topic(name, -2, 1)]),
        ("far too many partitions", vec![topic(name, 1_000_000, 1)]),
        ("no replicas", vec![topic(name, 1, 0)]),
        ("negative replicas", vec![topic(name, 1, -2)]),
        ("too many replicas", vec![topic(name, 1, 2)]),
        ("the same topic twice", vec![topic(name, 1, 1), topic(name, 2, 1)]),
        (
            "an assignment and numbers",
            vec![assigned(&[(0, &[1])]).with_num_partitions(1)],
        ),
        (
            "an assignment and replicas",
            vec![assigned(&[(0, &[1])]).with_replication_factor(1)],
        ),
        ("an assignment with a gap", vec![assigned(&[(0, &[1]), (2, &[1])])]),
        ("an assignment twice", vec![assigned(&[(0, &[1]), (0, &[1])])]),
        ("an assignment from 1", vec![assigned(&[(1, &[1])])]),
        ("an assignment of nobody", vec![assigned(&[(0, &[])])]),
        ("an assignment with a broker twice", vec![assigned(&[(0, &[1, 1])])]),
        ("an assignment to an unknown broker", vec![assigned(&[(0, &[9])])]),
        (
            "assignments of different lengths",
            vec![assigned(&[(0, &[1]), (1, &[1, 9])])],
        ),
        ("unknown config", vec![configured("no.such.config", Some("1"))]),
        ("empty config name", vec![configured("", Some("1"))]),
        ("config without value", vec![configured("retention.ms", None)]),
        ("not a number", vec![configured("retention.ms", Some("soon"))]),
        (
            "not a boolean",
            vec![configured("unclean.leader.election.enable", Some("maybe"))],
        ),
        ("below the minimum", vec![configured("max.message.bytes", Some("-1"))]),
        (
            "above an int",
            vec![configured("max.message.bytes", Some("99999999999"))],
        ),
        ("not in the list", vec![configured("cleanup.policy", Some("shred"))]),
        (
            "ratio above 1",
            vec![configured("min.cleanable.dirty.ratio", Some("1.5"))],
        ),
        (
            "a good one beside a bad one",
            vec![topic(&format!("{name}-good"), 1, 1), topic("a b", 1, 1)],
        ),
    ];
    for (title, topics) in cases {
        for validate_only in [true, false] {
            w.title(title);
            let answer = w
                .connection
                .call(7, &create(topics.clone()).with_validate_only(validate_only));
            let answer = answer.map(|answer| {
                let topics = answer.topics.into_iter();
                topics
                    .map(|t| (t.name, t.error_code, t.error_message, t.num_partitions))
                    .collect::<Vec<_>>()
            });
            w.s.note("topics", answer);
        }
    }
}

/// Calls and notes; the answer has an order of its own.
fn delete(w: &mut Wire, version: i16, request: &DeleteTopicsRequest) {
    let mut answer = w.connection.call(version, request);
    if let Ok(answer) = &mut answer {
        answer
            .responses
            .sort_by(|a, b| (&a.name, a.error_code).cmp(&(&b.name, b.error_code)));
    }
    w.s.answer::<DeleteTopicsRequest>(version, answer);
}

fn delete_topics(s: &mut Session) {
    let mut w = Wire::open(s);
    for version in 1..=5 {
        let topic = w.create(&format!("-{version}"), 1, &[]);
        let names = |names: &[&str]| {
            let names = names.iter().map(|name| topic_name(name)).collect();
            DeleteTopicsRequest::default()
                .with_topic_names(names)
                .with_timeout_ms(10_000)
        };
        delete(&mut w, version, &names(&[&topic.name, "absent", "a b"]));
        delete(&mut w, version, &names(&[&topic.name]));
    }
    let by = |name: Option<TopicName>, id| DeleteTopicState::default().with_name(name).with_topic_id(id);
    let request = |topics| {
        DeleteTopicsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(10_000)
    };
    let topic = w.create("-id", 1, &[]);
    let other = w.create("-name", 1, &[]);
    let (id, name) = (topic.id, Some(topic_name(&other.name)));
    w.title("neither name nor id, both, unknown ids");
    delete(&mut w, 6, &request(vec![by(None, Uuid::nil())]));
    delete(&mut w, 6, &request(vec![by(name.clone(), other.id)]));
    delete(&mut w, 6, &request(vec![by(None, Uuid::from_u128(7))]));
    w.title("twice");
    w.call(
        6,
        &request(vec![by(None, id), by(Some(topic_name(&topic.name)), Uuid::nil())]),
    );
    w.title("by id and by name");
    for state in [by(None, id), by(name, Uuid::nil())] {
        delete(&mut w, 6, &request(vec![state.clone()]));
        delete(&mut w, 6, &request(vec![state]));
    }
    delete(&mut w, 6, &request(Vec::new()));
}

fn create_partitions(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let grow = |name: &str, count, assignments: Option<&[&[i32]]>| {
        let assignments = assignments.map(|all| {
            let ids = |brokers: &&[i32]| brokers.iter().map(|id| (*id).into()).collect();
            all.iter()
                .map(|brokers| CreatePartitionsAssignment::default().with_broker_ids(ids(brokers)))
                .collect()
        });
        CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(assignments)
    };
    let request = |topics| {
        CreatePartitionsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(10_000)
    };
    for version in 0..=3 {
        let count = 2 + i32::from(version);
        w.call(
            version,
            &request(vec![grow(&topic.name, count, None)]).with_validate_only(true),
        );
        w.call(version, &request(vec![grow(&topic.name, count, None)]));
        w.call(version, &request(vec![grow(&topic.name, count, None)]));
    }
    let name = &*topic.name;
    for (title, topics) in [
        ("fewer", vec![grow(name, 2, None)]),
        ("none", vec![grow(name, 0, None)]),
        ("negative", vec![grow(name, -1, None)]),
        ("absent", vec![grow("absent", 2, None)]),
        ("twice", vec![grow(name, 9, None), grow(name, 10, None)]),
        ("too few assignments", vec![grow(name, 8, Some(&[&[1]]))]),
        ("unknown broker", vec![grow(name, 6, Some(&[&[9]]))]),
        ("other number of replicas", vec![grow(name, 6, Some(&[&[1, 2]]))]),
        ("nobody", vec![grow(name, 6, Some(&[&[]]))]),
        ("right", vec![grow(name, 6, Some(&[&[1]]))]),
    ] {
        w.title(title);
        w.call(3, &request(topics));
    }
}

fn resource(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()))
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

/// Settings of a resource, one a line in the order of their names, documentation aside.
fn note_configs(w: &mut Wire, version: i16, request: &DescribeConfigsRequest) {
    let mut answer = w.connection.call(version, request).unwrap();
    for result in &mut answer.results {
        w.s.note(
            "resource",
            (result.error_code, result.error_message.take(), result.resource_type),
        );
        result.configs.sort_by(|a, b| a.name.cmp(&b.name));
        // Ottla's own settings are no difference.
        for c in result.configs.iter().filter(|c| !c.name.starts_with("ottla.")) {
            let synonyms: Vec<_> = c
                .synonyms
                .iter()
                .map(|s| format!("{}={:?}/{}", s.name, s.value, s.source))
                .collect();
            let line = format!(
                "{} = {:?} read-only {} source {} sensitive {} type {} synonyms {synonyms:?}",
                c.name, c.value, c.read_only, c.config_source, c.is_sensitive, c.config_type
            );
            w.s.transcript.add(&line);
        }
    }
}

fn describe_configs_topic(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create(
        "",
        1,
        &[("retention.ms", "3600000"), ("cleanup.policy", "compact,delete")],
    );
    for version in 1..=4 {
        for synonyms in [false, true] {
            w.title(&format!("version {version}, synonyms {synonyms}"));
            let request = DescribeConfigsRequest::default()
                .with_resources(vec![resource(TOPIC, &topic.name, None)])
                .with_include_synonyms(synonyms);
            note_configs(&mut w, version, &request);
        }
    }
    w.title("some");
    let keys = ["retention.ms", "segment.bytes", "no.such.config"];
    let request = DescribeConfigsRequest::default().with_resources(vec![resource(TOPIC, &topic.name, Some(&keys))]);
    note_configs(&mut w, 4, &request);
    w.title("none");
    let request = DescribeConfigsRequest::default().with_resources(vec![resource(TOPIC, &topic.name, Some(&[]))]);
    note_configs(&mut w, 4, &request);
    w.title("documentation is there when asked for");
    for documented in [false, true] {
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource(TOPIC, &topic.name, Some(&["retention.ms"]))])
            .with_include_documentation(documented);
        let answer = w.connection.call(4, &request).unwrap();
        let is_there = answer.results[0].configs[0]
            .documentation
            .as_ref()
            .is_some_and(|doc| !doc.is_empty());
        w.s.note("documentation", is_there);
    }
}

fn describe_configs_errors(s: &mut Session) {
    let mut w = Wire::open(s);
    for (kind, name) in [
        (TOPIC, "absent"),
        (TOPIC, ""),
        (TOPIC, "a b"),
        (BROKER, "7"),
        (BROKER, "one"),
    ] {
        w.title(&format!("{kind} {name:?}"));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource(kind, name, Some(&[]))]);
        w.call(4, &request);
    }
    w.title("twice");
    let twice = vec![
        resource(BROKER, "1", Some(&["log.dirs"])),
        resource(BROKER, "1", Some(&["node.id"])),
    ];
    w.call(1, &DescribeConfigsRequest::default().with_resources(twice));
}

fn incremental_alter_configs(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let change = |name: &str, operation, value: Option<&str>| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value.map(text))
    };
    let on = |kind, name: &str, configs| {
        AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs)
    };
    let (set, delete, append, subtract) = (0, 1, 2, 3);
    let name = &*topic.name;
    let cases = [
        (
            "set",
            vec![on(TOPIC, name, vec![change("retention.ms", set, Some("1000"))])],
        ),
        (
            "append",
            vec![on(TOPIC, name, vec![change("cleanup.policy", append, Some("compact"))])],
        ),
        (
            "append again",
            vec![on(TOPIC, name, vec![change("cleanup.policy", append, Some("compact"))])],
        ),
        (
            "subtract",
            vec![on(
                TOPIC,
                name,
                vec![change("cleanup.policy", subtract, Some("delete"))],
            )],
        ),
        (
            "append to what is no list",
            vec![on(TOPIC, name, vec![change("retention.ms", append, Some("1"))])],
        ),
        (
            "delete",
            vec![on(TOPIC, name, vec![change("retention.ms", delete, None)])],
        ),
        (
            "delete again",
            vec![on(TOPIC, name, vec![change("retention.ms", delete, None)])],
        ),
        (
            "set to nothing",
            vec![on(TOPIC, name, vec![change("retention.ms", set, None)])],
        ),
        (
            "bad value",
            vec![on(TOPIC, name, vec![change("retention.ms", set, Some("soon"))])],
        ),
        (
            "unknown name",
            vec![on(TOPIC, name, vec![change("no.such.config", set, Some("1"))])],
        ),
        (
            "delete an unknown name",
            vec![on(TOPIC, name, vec![change("no.such.config", delete, None)])],
        ),
        (
            "the same name twice",
            vec![on(
                TOPIC,
                name,
                vec![
                    change("retention.ms", set, Some("1")),
                    change("retention.ms", delete, None),
                ],
            )],
        ),
        (
            "the same resource twice",
            vec![
                on(TOPIC, name, vec![change("retention.ms", set, Some("1"))]),
                on(TOPIC, name, vec![change("segment.ms", set, Some("1"))]),
            ],
        ),
        ("no changes", vec![on(TOPIC, name, vec![])]),
        (
            "absent topic",
            vec![on(TOPIC, "absent", vec![change("retention.ms", set, Some("1000"))])],
        ),
        (
            "no topic",
            vec![on(TOPIC, "", vec![change("retention.ms", set, Some("1000"))])],
        ),
        (
            "one good, one bad",
            vec![
                on(TOPIC, name, vec![change("segment.ms", set, Some("60000"))]),
                on(TOPIC, "absent", vec![change("segment.ms", set, Some("1"))]),
            ],
        ),
        (
            "absent broker",
            vec![on(BROKER, "7", vec![change("log.retention.ms", set, Some("1000"))])],
        ),
        (
            "no number for a broker",
            vec![on(BROKER, "one", vec![change("log.retention.ms", set, Some("1000"))])],
        ),
        (
            "what no broker can change",
            vec![on(BROKER, "1", vec![change("node.id", set, Some("9"))])],
        ),
        (
            "bad value for a broker",
            vec![on(BROKER, "1", vec![change("log.retention.ms", set, Some("soon"))])],
        ),
        (
            "unknown resource type",
            vec![on(99, "x", vec![change("a", set, Some("1"))])],
        ),
    ];
    for (title, resources) in cases {
        for (version, validate_only) in [(0, true), (1, false)] {
            w.title(title);
            let request = IncrementalAlterConfigsRequest::default()
                .with_resources(resources.clone())
                .with_validate_only(validate_only);
            let mut answer = w.connection.call(version, &request);
            if let Ok(answer) = &mut answer {
                answer.responses.sort_by(|a, b| a.resource_name.cmp(&b.resource_name));
            }
            w.s.answer::<IncrementalAlterConfigsRequest>(version, answer);
        }
    }
    let request = DescribeConfigsRequest::default().with_resources(vec![resource(TOPIC, name, None)]);
    wait_for(
        || {
            let answer = w.connection.call(4, &request).unwrap();
            answer.results[0]
                .configs
                .iter()
                .any(|c| c.name == text("segment.ms") && c.value == Some(text("60000")))
                .then_some(())
        },
        || "the change never showed".into(),
    );
    note_configs(&mut w, 4, &request);
}

fn alter_configs(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 1, &[("retention.ms", "3600000")]);
    for version in 0..=2 {
        for (title, name, configs) in [
            (
                "all others are reset",
                &*topic.name,
                vec![("segment.ms", Some("60000"))],
            ),
            ("bad value", &topic.name, vec![("segment.ms", Some("soon"))]),
            ("unknown name", &topic.name, vec![("no.such.config", Some("1"))]),
            ("no value", &topic.name, vec![("segment.ms", None)]),
            ("absent topic", "absent", vec![("segment.ms", Some("60000"))]),
        ] {
            w.title(title);
            let configs = configs
                .into_iter()
                .map(|(name, value)| Assignment::default().with_name(text(name)).with_value(value.map(text)));
            let resource = alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(name))
                .with_configs(configs.collect());
            w.call(version, &AlterConfigsRequest::default().with_resources(vec![resource]));
        }
    }
    let request = DescribeConfigsRequest::default().with_resources(vec![resource(TOPIC, &topic.name, None)]);
    wait_for(
        || {
            let answer = w.connection.call(4, &request).unwrap();
            answer.results[0]
                .configs
                .iter()
                .any(|c| c.name == text("segment.ms") && c.value == Some(text("60000")))
                .then_some(())
        },
        || "the change never showed".into(),
    );
    note_configs(&mut w, 4, &request);
}

/// Every setting of a broker: name, value, type, whether it can be changed, where it comes from.
/// Settings of a group that does not exist: they are kept for its first member.
fn group_configs(s: &mut Session) {
    let mut w = Wire::open(s);
    let group = w.s.name;
    let note = |w: &mut Wire| {
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource(GROUP, group, None)])
            .with_include_synonyms(true);
        note_configs(w, 4, &request);
        let request = ListConfigResourcesRequest::default().with_resource_types(vec![GROUP]);
        let listed = w.connection.call(1, &request).unwrap().config_resources;
        let is_listed = listed.iter().any(|resource| *resource.resource_name == *group);
        w.s.note("listed", is_listed);
    };
    w.title("defaults");
    note(&mut w);
    w.call(
        4,
        &DescribeConfigsRequest::default().with_resources(vec![resource(GROUP, "", None)]),
    );
    let (set, delete, append) = (0, 1, 2);
    let session = "consumer.session.timeout.ms";
    let cases: &[(&str, &str, i8, Option<&str>)] = &[
        ("", session, set, Some("50000")),
        (group, session, set, Some("50000")),
        (group, session, set, Some("44999")),
        (group, session, set, Some("60001")),
        (group, session, set, Some("soon")),
        (group, session, set, Some("0")),
        (group, session, append, Some("1")),
        (group, session, set, None),
        (group, "session.timeout.ms", set, Some("50000")),
        (group, "consumer.heartbeat.interval.ms", set, Some("4999")),
        (group, "consumer.heartbeat.interval.ms", set, Some("15001")),
        (group, "consumer.assignment.interval.ms", set, Some("15001")),
        (group, "share.record.lock.duration.ms", set, Some("14999")),
        (group, "share.delivery.count.limit", set, Some("11")),
        (group, "share.auto.offset.reset", set, Some("none")),
        (group, "share.auto.offset.reset", set, Some("by_duration:PT-1S")),
        (group, "share.auto.offset.reset", set, Some("by_duration:P1DT2H")),
        (group, "share.isolation.level", set, Some("READ_COMMITTED")),
        (group, "share.renew.acknowledge.enable", set, Some("no")),
        (group, "streams.num.standby.replicas", set, Some("3")),
        (group, "streams.num.standby.replicas", set, Some("1")),
        (group, "streams.initial.rebalance.delay.ms", set, Some("0")),
    ];
    let change = |w: &mut Wire, name: &str, key: &str, operation, value: Option<&str>| {
        w.title(&format!("{name:?} {key} {operation} {value:?}"));
        let config = AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(operation)
            .with_value(value.map(text));
        let of_group = AlterConfigsResource::default()
            .with_resource_type(GROUP)
            .with_resource_name(text(name))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![of_group]);
        w.call(1, &request);
    };
    for (name, key, operation, value) in cases {
        change(&mut w, name, key, *operation, *value);
    }
    let is_there = |w: &mut Wire, wanted: bool| {
        let request = ListConfigResourcesRequest::default().with_resource_types(vec![GROUP]);
        let listed = w.connection.call(1, &request).unwrap().config_resources;
        let found = listed.iter().any(|resource| *resource.resource_name == *group);
        (found == wanted).then_some(())
    };
    wait_for(|| is_there(&mut w, true), || "the group is never listed".into());
    w.title("set");
    note(&mut w);
    w.title("replaced as a whole");
    let config = Assignment::default()
        .with_name(text(session))
        .with_value(Some(text("60000")));
    let of_group = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(GROUP)
        .with_resource_name(text(group))
        .with_configs(vec![config]);
    w.call(2, &AlterConfigsRequest::default().with_resources(vec![of_group]));
    change(&mut w, group, session, delete, None);
    wait_for(|| is_there(&mut w, false), || "the group is still listed".into());
    note(&mut w);
}

fn broker_configs(s: &mut Session) {
    let mut w = Wire::open(s);
    w.s.transcript.replace(r"\bkafka_2\.13-[\d.]+\b", "<version>");
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource(BROKER, "1", None)])
        .with_include_synonyms(true);
    note_configs(&mut w, 4, &request);
    w.title("defaults of the cluster");
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource(BROKER, "", None)])
        .with_include_synonyms(true);
    note_configs(&mut w, 4, &request);
}

fn list_config_resources(s: &mut Session) {
    let node = s.start(Options::default());
    let mut connection = Connection::open(node.socket()).unwrap();
    let made = connection.call(7, &create(vec![topic("listed", 1, 1)])).unwrap();
    assert_eq!(made.topics[0].error_code, 0);
    wait_for(
        || {
            connection
                .call(12, &super::metadata(&["listed"]))
                .unwrap()
                .topics
                .first()
                .filter(|t| t.error_code == 0)
                .map(|_| ())
        },
        || "the topic never showed".into(),
    );
    s.call(&mut connection, 0, &ListConfigResourcesRequest::default());
    for kinds in [&[][..], &[2], &[4], &[8], &[16], &[32], &[2, 4], &[99]] {
        s.transcript.add(&format!("--- {kinds:?}"));
        let mut answer = connection.call(
            1,
            &ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec()),
        );
        if let Ok(answer) = &mut answer {
            answer
                .config_resources
                .sort_by(|a, b| (a.resource_type, &a.resource_name).cmp(&(b.resource_type, &b.resource_name)));
        }
        s.answer::<ListConfigResourcesRequest>(1, answer);
    }
}

fn describe_log_dirs(s: &mut Session) {
    // The size of a disk, and what else is stored.
    s.transcript.replace(r"\b(total|usable)_bytes: \d+", "$1_bytes: <n>");
    let mut w = Wire::open(s);
    let topic = w.create("", 2, &[]);
    let batch = Batch::of(w.now(), &["x", "y"]);
    w.append(&topic, &batch);
    let of = |name: &str, partitions: &[i32]| {
        DescribableLogDirTopic::default()
            .with_topic(topic_name(name))
            .with_partitions(partitions.to_vec())
    };
    for version in 1..=4 {
        for topics in [
            vec![of(&topic.name, &[0, 1])],
            vec![of(&topic.name, &[1, 7])],
            vec![of("absent", &[0])],
            vec![],
        ] {
            let mut answer = w
                .connection
                .call(version, &DescribeLogDirsRequest::default().with_topics(Some(topics)));
            if let Ok(answer) = &mut answer {
                let topics = answer.results.iter_mut().flat_map(|dir| &mut dir.topics);
                topics.for_each(|topic| topic.partitions.sort_by_key(|partition| partition.partition_index));
            }
            w.s.answer::<DescribeLogDirsRequest>(version, answer);
        }
    }
}

fn describe_producers(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.create("", 2, &[]);
    let (id, _) = w.producer();
    w.s.transcript.replace(
        &format!(r"\bproducer_id: (ProducerId\({id}\)|{id}\b)"),
        "producer_id: <id>",
    );
    for sequence in 0..3 {
        let batch = Batch::of(w.now(), &["x"]).producer(id, 5, sequence).encode();
        let answer = w
            .connection
            .call(9, &produce(9, &topic, -1, &[(0, Some(batch))]))
            .unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    let of = |name: &str, partitions: &[i32]| {
        let topic = TopicRequest::default()
            .with_name(topic_name(name))
            .with_partition_indexes(partitions.to_vec());
        DescribeProducersRequest::default().with_topics(vec![topic])
    };
    w.call(0, &of(&topic.name, &[0, 1, 9]));
    w.call(0, &of("absent", &[0]));
    w.call(0, &of("a b", &[0]));
}

fn describe_acls(s: &mut Session) {
    let mut w = Wire::open(s);
    for version in 1..=3 {
        let all = DescribeAclsRequest::default()
            .with_resource_type_filter(1)
            .with_resource_name_filter(None)
            .with_pattern_type_filter(1)
            .with_principal_filter(None)
            .with_host_filter(None)
            .with_operation(1)
            .with_permission_type(1);
        w.call(version, &all);
    }
}

fn init_producer_ids(s: &mut Session) {
    let mut w = Wire::open(s);
    let request = init_producer_id;
    w.producer();
    let mut last = -1;
    for version in 0..=5 {
        let answer = w.connection.call(version, &request(-1, -1)).unwrap();
        w.s.note(
            "answer",
            (answer.error_code, answer.producer_epoch, answer.throttle_time_ms),
        );
        assert!(answer.producer_id.0 > last, "producer ids grow");
        last = answer.producer_id.0;
    }
    w.title("an id and epoch without a transactional id");
    for (id, epoch) in [(5, 0), (5, -1), (-1, 3)] {
        let answer = w.connection.call(4, &request(id, epoch)).unwrap();
        w.s.note("answer", (answer.error_code, answer.producer_epoch));
    }
}

fn update_features(s: &mut Session) {
    let mut w = Wire::open(s);
    let update = |feature: &str, level, kind| {
        update_features_request::FeatureUpdateKey::default()
            .with_feature(text(feature))
            .with_max_version_level(level)
            .with_upgrade_type(kind)
    };
    for (title, updates) in [
        ("unknown feature", vec![update("no.such.feature", 1, 1)]),
        ("unsupported level", vec![update("metadata.version", 999, 1)]),
        ("negative level", vec![update("metadata.version", -1, 1)]),
        ("the level it has", vec![update("metadata.version", 30, 1)]),
        ("lower by an upgrade", vec![update("metadata.version", 29, 1)]),
        ("unknown kind", vec![update("metadata.version", 30, 9)]),
        ("below the oldest", vec![update("metadata.version", 1, 3)]),
        ("no name", vec![update("", 1, 1)]),
    ] {
        for version in [1, 2] {
            w.title(title);
            let request = UpdateFeaturesRequest::default()
                .with_feature_updates(updates.clone())
                .with_timeout_ms(10_000)
                .with_validate_only(true);
            w.call(version, &request);
        }
    }
}
