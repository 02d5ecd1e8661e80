//! OffsetCommit (API 8) and OffsetFetch (9) in version 10: topics by their ids alone (KIP-848).
use bytes::Bytes;
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};
use ottla_compat_tests::raw::encode;
use ottla_compat_tests::scenario::{Case, Session, wait_for};
use uuid::Uuid;

use super::consumer::Consumers;
use super::offsets::{commit, committed};
use super::ready;
use crate::wire::{Wire, delete_topic, text, wait_gone};

pub const CASES: &[Case] = &[
    Case::code("offset-commit-by-id", commit_by_id),
    Case::code("offset-fetch-by-id", fetch_by_id),
    Case::code("offset-by-id-members", members),
];

/// The topics of a scenario: their ids in requests and answers of version 10 stand where version 9 has names. A name of 15
/// letters takes as many bytes as an id, so that the message types of version 9 serve.
struct Ids(Vec<(Uuid, &'static str)>);

impl Ids {
    fn of(topics: &[(Uuid, &'static str)]) -> Self {
        assert!(topics.iter().all(|(_, name)| name.len() == 15), "{topics:?}");
        Self(topics.to_vec())
    }

    /// Exchanges names for ids.
    fn call<R: Request>(&self, w: &mut Wire, request: &R) -> R::Response {
        let mut frame = encode(9, 0, request).to_vec();
        frame[2..4].copy_from_slice(&10i16.to_be_bytes());
        for (id, name) in &self.0 {
            replace(&mut frame, &as_text(name), id.as_bytes());
        }
        w.connection.send_frame(&frame).unwrap();
        let mut frame = w.connection.receive_frame().unwrap().to_vec();
        for (id, name) in &self.0 {
            replace(&mut frame, id.as_bytes(), &as_text(name));
        }
        let mut frame = Bytes::from(frame);
        ResponseHeader::decode(&mut frame, R::Response::header_version(9)).unwrap();
        let answer = R::Response::decode(&mut frame, 9).unwrap();
        assert!(frame.is_empty(), "{} bytes after the answer", frame.len());
        answer
    }

    /// Notes the answer to a commit; topics and partitions come in no order when some are not there.
    fn commit(&self, w: &mut Wire, request: &OffsetCommitRequest) {
        let mut answer: OffsetCommitResponse = self.call(w, request);
        answer.topics.sort_by_key(|topic| topic.name.0.to_string());
        let topics = answer.topics.iter_mut();
        topics.for_each(|topic| topic.partitions.sort_by_key(|partition| partition.partition_index));
        w.s.note("commit", answer);
    }

    /// Notes the answer to a fetch; topics come in no order.
    fn fetch(&self, w: &mut Wire, request: &OffsetFetchRequest) {
        let mut answer: OffsetFetchResponse = self.call(w, request);
        for group in &mut answer.groups {
            group.topics.sort_by_key(|topic| topic.name.0.to_string());
            let topics = group.topics.iter_mut();
            topics.for_each(|topic| topic.partitions.sort_by_key(|partition| partition.partition_index));
        }
        w.s.note("fetch", answer);
    }
}

/// A compact string.
fn as_text(name: &str) -> Vec<u8> {
    [&[name.len() as u8 + 1], name.as_bytes()].concat()
}

fn replace(frame: &mut [u8], from: &[u8], to: &[u8]) {
    let found = frame.windows(from.len()).enumerate();
    let found: Vec<_> = found.filter(|(_, window)| *window == from).map(|(at, _)| at).collect();
    for at in found {
        frame[at..at + to.len()].copy_from_slice(to);
    }
}

const FIRST: &str = "the-first-topic";
const SECOND: &str = "the-other-topic";
const ABSENT: &str = "not-a-topic-now";
const NONE: &str = "the-zero-of-ids";

/// Two topics, an id that no topic has, and the id of none, which can be told from other zeros where it comes alone.
fn ids(w: &mut Wire) -> (Ids, [String; 2]) {
    let topics = ["-a", "-b"].map(|suffix| w.create(suffix, 2, &[]));
    let ids = Ids::of(&[
        (topics[0].id, FIRST),
        (topics[1].id, SECOND),
        (Uuid::from_u128(0x1234_5678), ABSENT),
        (Uuid::nil(), NONE),
    ]);
    (ids, topics.map(|topic| topic.name))
}

fn commit_by_id(s: &mut Session) {
    let mut w = Wire::open(s);
    let (ids, names) = ids(&mut w);
    let name = w.s.name;
    ready(&mut w, name);
    let too_much = "x".repeat(4097);
    let ten = |topic, partitions: &[_]| commit(9, name, topic, partitions);
    w.title("one");
    ids.commit(&mut w, &ten(FIRST, &[(0, 7, 3, Some("said")), (1, 0, -1, None)]));
    w.call(9, &committed(9, name, Some((&names[0], &[0, 1]))));
    for topic in [ABSENT, NONE] {
        w.title(topic);
        ids.commit(&mut w, &ten(topic, &[(0, 1, -1, None), (1, 2, -1, None)]));
    }
    w.title("unknown partitions, too much metadata, nothing");
    ids.commit(&mut w, &ten(FIRST, &[(9, 1, -1, None), (-1, 1, -1, None)]));
    ids.commit(&mut w, &ten(FIRST, &[(0, 1, -1, Some(&too_much)), (1, 5, -1, None)]));
    ids.commit(&mut w, &ten(FIRST, &[]));
    ids.commit(&mut w, &ten(FIRST, &[]).with_topics(Vec::new()));
    w.title("good ones beside bad ones");
    let mut many = ten(FIRST, &[(0, 8, -1, None), (9, 1, -1, None)]);
    for topic in [SECOND, ABSENT] {
        many.topics.extend(ten(topic, &[(0, 9, -1, None)]).topics);
    }
    ids.commit(&mut w, &many);
    w.title("no group, strangers");
    let one = ten(FIRST, &[(0, 1, -1, None)]);
    ids.commit(&mut w, &commit(9, "", FIRST, &[(0, 1, -1, None)]));
    ids.commit(&mut w, &one.clone().with_member_id(text("stranger")));
    ids.commit(&mut w, &one.clone().with_generation_id_or_member_epoch(1));
    ids.commit(&mut w, &commit(9, "", ABSENT, &[(0, 1, -1, None)]));
    w.call(9, &committed(9, name, Some((&names[1], &[0]))));
    w.call(9, &committed(9, name, Some((&names[0], &[0, 1]))));
}

fn fetch_by_id(s: &mut Session) {
    let mut w = Wire::open(s);
    let (ids, names) = ids(&mut w);
    let name = w.s.name;
    ready(&mut w, name);
    let absent = format!("{name}-absent");
    ready(&mut w, &absent);
    w.title("of a group without offsets");
    ids.fetch(&mut w, &committed(9, &absent, Some((FIRST, &[0]))));
    ids.fetch(&mut w, &committed(9, &absent, Some((ABSENT, &[0]))));
    ids.fetch(&mut w, &committed(9, &absent, None));
    w.call(
        9,
        &commit(9, name, &names[0], &[(0, 7, 3, Some("said")), (1, 8, -1, None)]),
    );
    w.call(9, &commit(9, name, &names[1], &[(1, 9, -1, None)]));
    w.title("some, none, all");
    for topic in [FIRST, SECOND, ABSENT, NONE] {
        ids.fetch(&mut w, &committed(9, name, Some((topic, &[1, 0, 9, -1]))));
    }
    ids.fetch(&mut w, &committed(9, name, Some((FIRST, &[]))));
    ids.fetch(&mut w, &committed(9, name, None));
    ids.fetch(&mut w, &committed(9, name, None).with_require_stable(true));
    ids.fetch(&mut w, &committed(9, "", Some((FIRST, &[0]))));
    ids.fetch(&mut w, &committed(9, "", Some((ABSENT, &[0]))));
    w.title("many");
    let mut many = committed(9, name, Some((FIRST, &[0])));
    for topic in [SECOND, ABSENT] {
        let more = committed(9, name, Some((topic, &[0, 1]))).groups.remove(0);
        let topics = many.groups[0].topics.as_mut().unwrap();
        topics.extend(more.topics.unwrap());
    }
    ids.fetch(&mut w, &many);
    w.title("members");
    for (member, epoch) in [(Some("stranger"), 1), (Some("stranger"), -1), (None, 3)] {
        for topic in [FIRST, ABSENT] {
            let mut request = committed(9, name, Some((topic, &[0])));
            request.groups[0].member_id = member.map(text);
            request.groups[0].member_epoch = epoch;
            ids.fetch(&mut w, &request);
        }
    }
    w.title("a topic goes, and another one of its name comes");
    let id = |w: &mut Wire| {
        let topics = w
            .connection
            .call(12, &crate::wire::metadata(&[&names[0]]))
            .unwrap()
            .topics;
        topics[0].topic_id
    };
    let old = crate::wire::Topic {
        name: names[0].clone(),
        id: id(&mut w),
    };
    delete_topic(&mut w.connection, &old);
    wait_gone(&mut w.connection, &old);
    wait_for(
        || {
            let answer = w.connection.call(9, &committed(9, name, None)).unwrap();
            (answer.groups[0].topics.len() == 1).then_some(())
        },
        || "offsets of a deleted topic are still there".into(),
    );
    ids.fetch(&mut w, &committed(9, name, Some((FIRST, &[0]))));
    ids.commit(&mut w, &commit(9, name, FIRST, &[(0, 1, -1, None)]));
    ids.fetch(&mut w, &committed(9, name, None));
    let new = w.create("-a", 2, &[]);
    let new = Ids::of(&[(old.id, ABSENT), (new.id, FIRST)]);
    new.fetch(&mut w, &committed(9, name, Some((FIRST, &[0]))));
    new.fetch(&mut w, &committed(9, name, Some((ABSENT, &[0]))));
    new.commit(&mut w, &commit(9, name, ABSENT, &[(0, 1, -1, None)]));
    new.commit(&mut w, &commit(9, name, FIRST, &[(0, 2, -1, None)]));
    new.fetch(&mut w, &committed(9, name, Some((FIRST, &[0]))));
}

/// Members of consumer groups.
fn members(s: &mut Session) {
    let mut g = Consumers::open(s, 2);
    let ids = Ids::of(&[(g.topics[0].id, FIRST)]);
    let name = g.name.clone();
    g.join(1, "member");
    for (member, epoch, offset) in [
        ("member", 2, 1),
        ("member", 1, 2),
        ("member", 3, 3),
        ("stranger", 2, 4),
        ("", -1, 5),
    ] {
        g.w.title(&format!("{member} {epoch}"));
        let request = commit(9, &name, FIRST, &[(0, offset, -1, None)])
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch);
        ids.commit(&mut g.w, &request);
        let mut request = committed(9, &name, Some((FIRST, &[0, 1])));
        request.groups[0].member_id = Some(text(member));
        request.groups[0].member_epoch = epoch;
        ids.fetch(&mut g.w, &request);
    }
    ids.fetch(&mut g.w, &committed(9, &name, None));
}
