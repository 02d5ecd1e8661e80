//! The cases: what is asked of every family.
use std::collections::HashMap;

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{DeleteRecordsRequest, DescribeConfigsRequest};
use ottla_compat_tests::records::Codec;
use ottla_compat_tests::requests::{
    Topic, create_topic_if_missing, delete_topic, list_offsets, text, topic_name, wait_gone, wait_led,
};
use ottla_compat_tests::scenario::wait_for;
use ottla_compat_tests::transcript::now_ms;
use serde_json::json;

use super::bench::{self, BATCH, Bench, How, ONE_BY_ONE};
use super::data::{Data, Expected, Record};
use super::driver::ending;
use super::outcome::{Checked, Stop, ensure, failed};
use super::stored::batches;

pub type Case = fn(&mut Bench) -> Checked;

pub const CASES: &[(&str, Case)] = &[
    ("none", |b| codec(b, Codec::None)),
    ("gzip", |b| codec(b, Codec::Gzip)),
    ("snappy", |b| codec(b, Codec::Snappy)),
    ("lz4", |b| codec(b, Codec::Lz4)),
    ("zstd", |b| codec(b, Codec::Zstd)),
    ("acks-0", |b| acks(b, 0)),
    ("acks-1", |b| acks(b, 1)),
    ("idempotent", idempotent),
    ("headers", headers),
    ("same-headers", |b| {
        round_trip(
            b,
            &[with_headers(&[
                ("same", Data::text("first")),
                ("same", Data::text("second")),
            ])],
        )
    }),
    ("null-header", |b| {
        round_trip(b, &[with_headers(&[("null", Data::Null)])])
    }),
    ("null-key", |b| {
        round_trip(b, &[Record::new(Data::Null, Data::text("value"))])
    }),
    ("null-value", |b| {
        round_trip(b, &[Record::new(Data::text("key"), Data::Null)])
    }),
    ("empty-key", |b| {
        round_trip(b, &[Record::new(Data::text(""), Data::text("value"))])
    }),
    ("empty-value", |b| {
        round_trip(b, &[Record::new(Data::text("key"), Data::text(""))])
    }),
    ("sizes", sizes),
    ("10-MB", ten_megabytes),
    ("too-large", too_large),
    ("compacted", compacted),
    ("wrong-time", wrong_time),
    ("create-time", create_time),
    ("append-time", append_time),
    ("time-lookup", time_lookup),
    ("offsets", offsets),
    ("partitions", partitions),
    ("read-from-within", read_from_within),
    ("small-fetches", small_fetches),
    ("create", create),
    ("create-by-use", create_by_use),
    ("describe-config", describe_config),
    ("reconfigure", reconfigure),
    ("grow", grow),
    ("delete", delete),
    ("deleted-while-read", deleted_while_read),
    ("made-anew", made_anew),
];

/// The case that goes on after the restart with [`after_restart`].
pub const RESTART: &str = "restart";

fn codec(b: &mut Bench, codec: Codec) -> Checked {
    let topic = b.create("", 1, &[]);
    for count in [50, 1] {
        b.produce(&topic, 0, How { codec, ..BATCH }, &Record::texts(count))?;
    }
    let stored = batches(&mut b.connect(), &topic, 0);
    let records: i32 = stored.iter().map(|batch| batch.count).sum();
    ensure(
        records == 51 && stored.iter().all(|batch| batch.codec == codec as i16),
        || format!("stored {stored:?}"),
    )?;
    b.read_back(&topic, 0)
}

fn acks(b: &mut Bench, acks: i16) -> Checked {
    let topic = b.create("", 1, &[]);
    b.produce(&topic, 0, How { acks, ..BATCH }, &Record::texts(10))?;
    // Nothing is known about when records that nobody acknowledges arrive.
    let mut connection = b.connect();
    wait_for(
        || (latest(&mut connection, &topic) == 10).then_some(()),
        || format!("{} has not all records", topic.name),
    );
    b.read_back(&topic, 0)
}

fn latest(on: &mut ottla_compat_tests::raw::Connection, topic: &Topic) -> i64 {
    on.call(7, &list_offsets(topic, &[(0, -1)])).unwrap().topics[0].partitions[0].offset
}

fn idempotent(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[]);
    for (how, count) in [(ONE_BY_ONE, 10), (BATCH, 300), (BATCH, 300), (BATCH, 300)] {
        let how = How {
            idempotent: true,
            ..how
        };
        b.produce(&topic, 0, how, &Record::texts(count))?;
    }
    let stored = in_sequence(b, &topic)?;
    ensure(stored >= 13, || format!("{stored} batches"))?;
    b.read_back(&topic, 0)
}

/// Whether all batches have a producer's id and follow one another; returns how many there are.
fn in_sequence(b: &mut Bench, topic: &Topic) -> Checked<usize> {
    let stored = batches(&mut b.connect(), topic, 0);
    let mut next = HashMap::new();
    for batch in &stored {
        let sequence = next.entry(batch.producer_id).or_insert(0);
        ensure(batch.producer_id >= 0 && batch.base_sequence == *sequence, || {
            format!("stored {stored:?}")
        })?;
        *sequence += batch.count;
    }
    Ok(stored.len())
}

fn round_trip(b: &mut Bench, records: &[Record]) -> Checked {
    let topic = b.create("", 1, &[]);
    b.produce(&topic, 0, BATCH, records)?;
    b.read_back(&topic, 0)
}

fn with_headers(headers: &[(&str, Data)]) -> Record {
    let mut record = Record::new(Data::text("key"), Data::text("value"));
    record.headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect();
    record
}

fn headers(b: &mut Bench) -> Checked {
    let several: Vec<_> = (0..40)
        .map(|n| (format!("name {n:02}"), Data::text(n.to_string())))
        .collect();
    let mut many = with_headers(&[]);
    many.headers = several;
    round_trip(
        b,
        &[
            with_headers(&[]),
            with_headers(&[("one", Data::text("1"))]),
            with_headers(&[("empty", Data::text("")), ("größe", Data::Made { size: 9000, seed: 1 })]),
            many,
        ],
    )
}

fn sizes(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[]);
    let sizes = [1, 2, 63, 64, 8191, 8192, 65_536, 300_000, 900_000];
    let made = |size| Record::new(Data::Made { size: 1, seed: size }, Data::Made { size, seed: 3 });
    b.produce(&topic, 0, ONE_BY_ONE, &sizes.map(made))?;
    b.read_back(&topic, 0)
}

fn ten_megabytes(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[("max.message.bytes", "12000000")]);
    let how = How {
        max_message_bytes: Some(11_000_000),
        ..BATCH
    };
    let record = Record::new(
        Data::text("key"),
        Data::Made {
            size: 10_000_000,
            seed: 5,
        },
    );
    b.produce(&topic, 0, how, &[record])?;
    b.read_back(&topic, 0)
}

fn too_large(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[("max.message.bytes", "100000")]);
    refuses(
        b,
        &topic,
        Record::new(Data::text("key"), Data::Made { size: 200_000, seed: 5 }),
    )
}

/// A compacted topic has no place for records without key.
fn compacted(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[("cleanup.policy", "compact")]);
    refuses(b, &topic, Record::new(Data::Null, Data::text("value")))
}

fn wrong_time(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[("message.timestamp.after.max.ms", "60000")]);
    refuses(
        b,
        &topic,
        Record::new(Data::text("key"), Data::text("value")).at(now_ms() + 3_600_000),
    )
}

/// The broker does not take a record, and the same producer can go on.
fn refuses(b: &mut Bench, topic: &Topic, record: Record) -> Checked {
    b.note = refusal(b.ask(bench::produce(topic, 0, BATCH, &[record])))?;
    b.produce(topic, 0, BATCH, &Record::texts(3))?;
    b.read_back(topic, 0)
}

/// The code of a request that must fail.
fn refusal(reply: Checked<serde_json::Value>) -> Checked<String> {
    match reply {
        Err(Stop::Failed { code, .. }) if !code.is_empty() => Ok(code),
        Err(other) => Err(other),
        Ok(reply) => Err(failed(format!("accepted: {reply}"))),
    }
}

fn create_time(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[]);
    let now = now_ms();
    let records: Vec<_> = Record::texts(4).into_iter().zip([0, -86_400_000, 1000, 7]).collect();
    let records: Vec<_> = records
        .into_iter()
        .map(|(record, after)| record.at(now + after))
        .collect();
    b.produce(&topic, 0, BATCH, &records)?;
    b.read_back(&topic, 0)?;
    let stored = batches(&mut b.connect(), &topic, 0);
    ensure(stored.iter().all(|batch| !batch.log_append_time), || {
        format!("stored {stored:?}")
    })
}

fn append_time(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let begin = now_ms();
    let records: Vec<_> = Record::texts(3).into_iter().map(|record| record.at(1000)).collect();
    let reply = b.ask(bench::produce(&topic, 0, BATCH, &records))?;
    let stored = batches(&mut b.connect(), &topic, 0);
    ensure(stored.iter().all(|batch| batch.log_append_time), || {
        format!("{reply}, stored {stored:?}")
    })?;
    if !b.reads()? {
        return Ok(());
    }
    let reply = b.ask(bench::fetch(&topic.name, 0, 0, 3))?;
    for record in reply["records"].as_array().into_iter().flatten() {
        let time = record["timestamp"].as_i64().unwrap_or(begin);
        ensure((begin..=now_ms()).contains(&time), || format!("time of {record}"))?;
        ensure(record.get("timestamp_type").is_none_or(|kind| *kind == 1), || {
            format!("kind of time of {record}")
        })?;
    }
    Ok(())
}

fn time_lookup(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[]);
    let first = now_ms() - 100_000;
    let records: Vec<_> = Record::texts(10)
        .into_iter()
        .zip(0..)
        .map(|(record, n)| record.at(first + 100 * n))
        .collect();
    b.produce(&topic, 0, ONE_BY_ONE, &records)?;
    for (after, offset) in [
        (-5000, Some(0)),
        (0, Some(0)),
        (1, Some(1)),
        (450, Some(5)),
        (900, Some(9)),
        (901, None),
    ] {
        let reply = b.ask(json!({
            "op": "offset_for_time",
            "topic": topic.name,
            "partition": 0,
            "timestamp": first + after,
        }))?;
        ensure(reply["offset"] == json!(offset), || {
            format!("at {after} ms not {offset:?}: {reply}")
        })?;
    }
    b.read_back(&topic, 0)
}

fn offsets(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[]);
    let request = json!({ "op": "offsets", "topic": topic.name, "partition": 0 });
    let ends = |b: &mut Bench, earliest: i64, latest: i64| {
        let reply = b.ask(request.clone())?;
        ensure(reply["earliest"] == earliest && reply["latest"] == latest, || {
            format!("not {earliest} and {latest}: {reply}")
        })
    };
    ends(b, 0, 0)?;
    let records = Record::texts(7);
    b.ask(bench::produce(&topic, 0, ONE_BY_ONE, &records))?;
    ends(b, 0, 7)?;
    let partition = DeleteRecordsPartition::default().with_offset(3);
    let deleted = DeleteRecordsTopic::default()
        .with_name(topic_name(&topic.name))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![deleted])
        .with_timeout_ms(10_000);
    b.connect().call(2, &request).unwrap();
    ends(b, 3, 7)?;
    if !b.reads()? {
        return Ok(());
    }
    let reply = b.ask(bench::fetch(&topic.name, 0, 3, 4))?;
    let expected = Expected::of(&records, 0);
    Expected::check_all(&expected[3..], &reply)
}

fn partitions(b: &mut Bench) -> Checked {
    let topic = b.create("", 3, &[]);
    for partition in [2, 0] {
        b.produce(&topic, partition, BATCH, &Record::texts(5 + partition as usize))?;
    }
    ensure(batches(&mut b.connect(), &topic, 1).is_empty(), || {
        "records are elsewhere".to_string()
    })?;
    b.read_back(&topic, 2)?;
    b.read_back(&topic, 0)
}

fn read_from_within(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[]);
    let records = Record::texts(30);
    b.produce(
        &topic,
        0,
        How {
            codec: Codec::Gzip,
            ..BATCH
        },
        &records,
    )?;
    let expected = Expected::of(&records, 0);
    for (offset, count) in [(29, 1), (13, 4), (0, 1), (1, 29)] {
        let reply = b.ask(bench::fetch(&topic.name, 0, offset, count))?;
        Expected::check_all(&expected[offset..offset + count], &reply)?;
    }
    Ok(())
}

/// Batches that are larger than what a fetch asks for come all the same, one at a time.
fn small_fetches(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[]);
    let records: Vec<_> = [2000, 10, 5000, 100_000, 1]
        .map(|size| Record::new(Data::Null, Data::Made { size, seed: size }))
        .to_vec();
    b.produce(&topic, 0, ONE_BY_ONE, &records)?;
    let mut request = bench::fetch(&topic.name, 0, 0, records.len());
    request["max_bytes"] = json!(1000);
    let reply = b.ask(request)?;
    let expected = Expected::of(&records, 0);
    Expected::check_all(&expected, &reply)
}

/// A topic that the family creates.
fn created(b: &mut Bench, partitions: i32) -> Checked<Topic> {
    let request = json!({
        "op": "create_topic",
        "topic": b.topic,
        "partitions": partitions,
        "configs": { "retention.ms": "12345678", "max.message.bytes": "77777" },
    });
    b.ask(request)?;
    let topic = b.named();
    wait_led(&mut b.connect(), &topic, partitions);
    Ok(topic)
}

fn count(b: &mut Bench, topic: &Topic, expected: usize) -> Checked {
    let reply = b.ask(json!({ "op": "partitions", "topic": topic.name }))?;
    ensure(reply["count"] == expected, || {
        format!("not {expected} partitions: {reply}")
    })
}

/// The value of a topic's setting as the broker tells it to anyone.
fn setting(b: &mut Bench, topic: &Topic, key: &str) -> Option<String> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(&topic.name))
        .with_configuration_keys(Some(vec![text(key)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = b.connect().call(4, &request).unwrap();
    let value = answer.results[0].configs[0].value.as_ref();
    value.map(|value| value.to_string())
}

fn create(b: &mut Bench) -> Checked {
    let topic = created(b, 3)?;
    let value = setting(b, &topic, "retention.ms");
    ensure(value.as_deref() == Some("12345678"), || {
        format!("retention.ms is {value:?}")
    })?;
    let again = b.ask(json!({ "op": "create_topic", "topic": topic.name, "partitions": 1, "configs": {} }));
    b.note = refusal(again)?;
    count(b, &topic, 3)
}

fn create_by_use(b: &mut Bench) -> Checked {
    let topic = b.named();
    b.produce(&topic, 0, BATCH, &Record::texts(3))?;
    b.read_back(&topic, 0)?;
    count(b, &topic, 1)
}

fn describe_config(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[("retention.ms", "54321000")]);
    for (key, value) in [
        ("retention.ms", "54321000"),
        ("cleanup.policy", "delete"),
        ("segment.bytes", "1073741824"),
    ] {
        let reply = b.ask(json!({ "op": "describe_config", "topic": topic.name, "key": key }))?;
        ensure(reply["value"] == value, || format!("{key} is not {value}: {reply}"))?;
    }
    Ok(())
}

fn reconfigure(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[("retention.ms", "54321000")]);
    for (key, value) in [("cleanup.policy", "compact,delete"), ("retention.ms", "3600000")] {
        b.ask(json!({ "op": "alter_config", "topic": topic.name, "key": key, "value": value }))?;
        wait_for(
            || (setting(b, &topic, key).as_deref() == Some(value)).then_some(()),
            || format!("{key} never became {value}"),
        );
    }
    let wrong = json!({ "op": "alter_config", "topic": topic.name, "key": "retention.ms", "value": "soon" });
    // Some libraries do not look at the error, so what counts is that the broker did not take it.
    b.note = refusal(b.ask(wrong)).unwrap_or_else(|_| "refused without a word".to_string());
    let value = setting(b, &topic, "retention.ms");
    ensure(value.as_deref() == Some("3600000"), || {
        format!("retention.ms is {value:?}")
    })
}

fn grow(b: &mut Bench) -> Checked {
    let topic = b.create("", 2, &[]);
    b.produce(&topic, 1, BATCH, &Record::texts(2))?;
    b.ask(json!({ "op": "grow_topic", "topic": topic.name, "count": 5 }))?;
    wait_led(&mut b.connect(), &topic, 5);
    let shrink = b.ask(json!({ "op": "grow_topic", "topic": topic.name, "count": 3 }));
    b.note = refusal(shrink)?;
    count(b, &topic, 5)
}

fn delete(b: &mut Bench) -> Checked {
    let topic = b.create("", 2, &[]);
    // The client knows the topic before it goes.
    b.ask(bench::produce(&topic, 1, BATCH, &Record::texts(2)))?;
    let request = json!({ "op": "delete_topic", "topic": topic.name });
    b.ask(request.clone())?;
    wait_gone(&mut b.connect(), &topic);
    b.note = refusal(b.ask(request))?;
    Ok(())
}

fn deleted_while_read(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[]);
    b.ask(bench::produce(&topic, 0, BATCH, &Record::texts(5)))?;
    b.ask(json!({
        "op": "read_until_error",
        "topic": topic.name,
        "partition": 0,
        "offset": 0,
        "timeout_ms": 4000,
    }))?;
    delete_topic(&mut b.connect(), &topic);
    let reply = b.driver.reply()?;
    b.note = ending(&reply);
    ensure(reply["records"] == 5, || format!("read {reply}"))?;
    // The client is as good as before.
    let topic = b.create("-next", 1, &[]);
    b.produce(&topic, 0, BATCH, &Record::texts(3))?;
    b.read_back(&topic, 0)
}

/// The client knows a topic that is then deleted and made again, with another id.
fn made_anew(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[]);
    b.ask(bench::produce(&topic, 0, BATCH, &Record::texts(5)))?;
    if b.reads()? {
        b.ask(bench::fetch(&topic.name, 0, 0, 5))?;
    }
    let mut connection = b.connect();
    delete_topic(&mut connection, &topic);
    wait_gone(&mut connection, &topic);
    let topic = create_topic_if_missing(&mut connection, &topic.name);
    b.produce(&topic, 0, BATCH, &Record::texts(3))?;
    b.read_back(&topic, 0)
}

/// What a client that will live through a restart does before it.
pub fn before_restart(b: &mut Bench) -> Checked {
    let topic = b.create("", 1, &[]);
    let idempotent = How {
        idempotent: true,
        ..BATCH
    };
    match b.produce(&topic, 0, idempotent, &Record::texts(5)) {
        Err(Stop::Unsupported(_)) => b.produce(&topic, 0, BATCH, &Record::texts(5))?,
        outcome => outcome?,
    }
    b.read_back(&topic, 0)
}

/// What the same client does when the broker is back.
pub fn after_restart(b: &mut Bench) -> Checked {
    let topic = b.named();
    wait_led(&mut b.connect(), &topic, 1);
    let idempotent = in_sequence(b, &topic).is_ok();
    for _ in 0..2 {
        let how = How { idempotent, ..BATCH };
        b.produce(&topic, 0, how, &Record::texts(5))?;
    }
    if idempotent {
        in_sequence(b, &topic)?;
    }
    // An admin client may have to be told more than once that the broker is back.
    wait_for(
        || match count(b, &topic, 1) {
            Err(Stop::Failed { code, .. }) if code.contains("client_error") => None,
            outcome => Some(outcome),
        },
        || "the admin client does not come back".to_string(),
    )?;
    b.read_back(&topic, 0)
}
