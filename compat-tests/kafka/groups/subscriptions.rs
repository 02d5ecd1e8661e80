//! What groups of the consumer protocol are given: topics by name and by pattern that come, grow and go, by the assignor that
//! most members prefer.
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatResponse, CreatePartitionsRequest};
use ottla_compat_tests::scenario::{Case, Session};

use super::consumer::{Consumers, beat, joining, owned};
use super::members::group;
use crate::wire::{Wire, create_topic, delete_topic, text, topic_name};

pub const CASES: &[Case] = &[
    Case::code("consumer-assignors", assignors),
    Case::code("consumer-patterns", patterns),
    Case::code("consumer-bad-patterns", bad_patterns),
    Case::code("consumer-topic-changes", topic_changes),
];

/// The group takes the assignor that most of its members prefer.
fn assignors(s: &mut Session) {
    let mut g = Consumers::open(s, 3);
    let more = g.w.create("-more", 3, &[]);
    let names = [g.topics[0].name.clone(), more.name.clone()];
    let names = names.each_ref().map(String::as_str);
    g.topics.push(more);
    for assignor in ["range", "uniform"] {
        g.another(assignor);
        let name = g.name.clone();
        let joins = |member: &str| joining(&name, member, &names).with_server_assignor(Some(text(assignor)));
        let joined = g.call(1, &joins("a")).unwrap();
        g.call(1, &joins("b"));
        if assignor == "range" {
            g.describe(1);
        }
        // The other one spreads partitions over the members, whichever topics they are of.
        let told = g.w.connection.call(1, &beat(&name, "a", joined.member_epoch)).unwrap();
        let counts = |answer: ConsumerGroupHeartbeatResponse| {
            let topics = answer.assignment.unwrap_or_default().topic_partitions;
            topics.iter().map(|topic| topic.partitions.len()).sum::<usize>()
        };
        g.w.s.note("kept", counts(told));
        g.w.title("they prefer the other one from now on");
        let other = if assignor == "range" { "uniform" } else { "range" };
        for (member, epoch) in [("a", 2), ("b", 3)] {
            g.call(1, &beat(&name, member, epoch).with_server_assignor(Some(text(other))));
        }
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&name)]);
        let described = g.w.connection.call(1, &request).unwrap().groups.remove(0);
        g.w.s.note("assignor", (described.assignor_name, described.group_epoch));
    }
}

/// Subscriptions to all topics whose whole names match, those that come later as well.
fn patterns(s: &mut Session) {
    let mut w = Wire::open(s);
    let topics = ["-one", "-two"].map(|suffix| w.create(suffix, 1, &[])).to_vec();
    let mut g = Consumers::of(w, topics);
    let name = g.name.clone();
    let pattern = format!("{name}-.*");
    let joins = |member: &str| {
        joining(&name, member, &[])
            .with_subscribed_topic_names(None)
            .with_subscribed_topic_regex(Some(text(&pattern)))
    };
    g.w.title("join");
    g.call(1, &joins("a"));
    g.until("the pattern is matched", &joins("a"), |answer| answer.member_epoch > 1);
    g.describe(0);
    g.describe(1);
    g.w.title("another one with the same pattern");
    g.call(1, &joins("b"));
    g.beat("b", -1);
    g.beat("a", 2);
    g.w.title("another one with a topic of that pattern");
    let named = joining(&name, "c", &[&g.topics[1].name]);
    g.call(1, &named);
    g.beat("c", -1);
    g.until("the epoch", &beat(&name, "a", 4), |answer| answer.member_epoch > 4);
    g.w.title("a topic comes");
    let later = g.w.create("-later", 2, &[]);
    g.topics.push(later);
    let answer = g.until("the new topic", &beat(&name, "a", 6), |answer| answer.member_epoch > 6);
    g.describe(1);
    g.w.title("no pattern any more, and a name instead");
    let epoch = answer.member_epoch;
    let instead = beat(&name, "a", epoch)
        .with_subscribed_topic_regex(Some(text("")))
        .with_subscribed_topic_names(Some(vec![topic_name(&g.topics[0].name)]))
        .with_topic_partitions(owned(&g.topics[0], &[0]));
    g.call(1, &instead);
    g.beat("a", epoch + 1);
    g.describe(1);
}

fn bad_patterns(s: &mut Session) {
    let mut g = Consumers::open(s, 1);
    let name = g.name.clone();
    for pattern in ["[", "(", ")", "*", "a)(b", "a{2,1}", "[b-a]", "(?<", "\\"] {
        let request = joining(&name, "member", &[])
            .with_subscribed_topic_names(None)
            .with_subscribed_topic_regex(Some(text(pattern)));
        let answer = g.w.connection.call(1, &request).unwrap();
        g.w.s.note(pattern, (answer.error_code, answer.member_id));
        // Each library says why in words of its own.
        let message = answer.error_message.unwrap_or_default().to_string();
        let told = format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: ");
        assert!(message.starts_with(&told), "{message}");
    }
    g.w.title("nothing came of it");
    g.describe(1);
    g.w.title("a member keeps what it had");
    g.join(1, "member");
    let changes = |pattern: &str| beat(&name, "member", 2).with_subscribed_topic_regex(Some(text(pattern)));
    let refused = g.w.connection.call(1, &changes("[")).unwrap();
    g.w.s.note("refused", (refused.error_code, refused.member_epoch));
    g.beat("member", 2);
    g.w.title("the empty pattern is none");
    g.call(1, &changes(""));
    g.describe(1);
    g.another("empty");
    let empty = joining(&g.name, "member", &[])
        .with_subscribed_topic_names(None)
        .with_subscribed_topic_regex(Some(text("")));
    g.call(1, &empty);
    g.describe(1);
}

/// Topics that come, grow and go change what there is to assign.
fn topic_changes(s: &mut Session) {
    let mut g = Consumers::open(s, 1);
    let name = g.name.clone();
    let (known, later) = (g.topics[0].clone(), format!("{name}-later"));
    let joins = joining(&name, "member", &[&known.name, &later]);
    g.call(1, &joins);
    g.w.title("it grows");
    let more = CreatePartitionsTopic::default()
        .with_name(topic_name(&known.name))
        .with_count(3)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![more])
        .with_timeout_ms(10_000);
    g.w.call(3, &request);
    g.until("new partitions", &beat(&name, "member", 2), |answer| {
        answer.member_epoch > 2
    });
    g.w.title("the other one comes");
    let later = create_topic(&mut g.w.connection, &later, 2, &[]);
    g.topics.push(later);
    g.until("a new topic", &beat(&name, "member", 3), |answer| {
        answer.member_epoch > 3
    });
    g.describe(1);
    g.w.title("and goes");
    let later = g.topics[1].clone();
    delete_topic(&mut g.w.connection, &later);
    g.until("a topic is gone", &beat(&name, "member", 4), |answer| {
        answer.assignment.is_some()
    });
    g.owns("member", 4, &[0, 1, 2]);
    g.describe(1);
}
