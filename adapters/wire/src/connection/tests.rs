use std::io::Write;

use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, MetadataResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, fetch_request};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::ports::outbound::RecordSlice;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::fake::{Client, Fixture, LIMITS, PATIENCE};
use crate::server::{ConnectionLimits, ListenerKind};

fn produce(acks: i16, records: Option<Bytes>) -> ProduceRequest {
    ProduceRequest::default().with_acks(acks).with_topic_data(vec![
        TopicProduceData::default()
            .with_name(StrBytes::from_static_str("topic").into())
            .with_partition_data(vec![PartitionProduceData::default().with_records(records)]),
    ])
}

fn fetch() -> FetchRequest {
    FetchRequest::default().with_topics(vec![
        fetch_request::FetchTopic::default()
            .with_topic(StrBytes::from_static_str("topic").into())
            .with_partitions(vec![fetch_request::FetchPartition::default()]),
    ])
}

async fn send_produce(client: &mut Client, correlation: i32, request: &ProduceRequest) {
    client.send(0, 8, false, correlation, request).await;
}

async fn send_versions(client: &mut Client, correlation: i32) {
    client
        .send(18, 0, false, correlation, &ApiVersionsRequest::default())
        .await;
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("did not come true");
}

#[tokio::test]
async fn answers_come_in_the_order_of_requests_while_waiting_overlaps() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    for correlation in 1..=3 {
        send_produce(
            &mut client,
            correlation,
            &produce(-1, Some(Bytes::from_static(b"batch"))),
        )
        .await;
    }
    send_versions(&mut client, 4).await;
    until(|| fixture.node.produced.lock().len() == 3).await;
    fixture.node.replicated.send_replace(true);
    for correlation in 1..=3 {
        let (answered, response) = client.receive::<ProduceResponse>(8, false).await;
        assert_eq!(answered, correlation);
        assert_eq!(response.responses[0].partition_responses[0].base_offset, 7);
    }
    assert_eq!(client.receive::<ApiVersionsResponse>(0, false).await.0, 4);
}

#[tokio::test]
async fn no_more_requests_run_than_may_wait() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    let requests = IN_FLIGHT_MAX as i32 + 20;
    for correlation in 0..requests {
        send_produce(
            &mut client,
            correlation,
            &produce(-1, Some(Bytes::from_static(b"batch"))),
        )
        .await;
    }
    // One is with the writing task.
    until(|| fixture.node.produced.lock().len() == IN_FLIGHT_MAX + 1).await;
    fixture.node.replicated.send_replace(true);
    for correlation in 0..requests {
        assert_eq!(client.receive::<ProduceResponse>(8, false).await.0, correlation);
    }
}

#[tokio::test]
async fn records_of_files_are_sent_between_bytes() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_be_bytes).collect();
    file.write_all(&content).unwrap();
    fixture.node.records.lock().push(RecordSlice::File {
        region: Arc::new(file),
        position: 1001,
        size_bytes: 3_000_000,
    });
    let mut client = fixture.connect().await;
    client.send(1, 11, false, 1, &fetch()).await;
    let (_, response) = client.receive::<FetchResponse>(11, false).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.high_watermark, 10);
    assert!(partition.records.as_deref() == Some(&content[1001..3_001_001]));
}

#[tokio::test]
async fn small_file_regions_go_out_with_what_surrounds_them() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..50_000u32).map(|at| (at % 251) as u8).collect();
    file.write_all(&content).unwrap();
    let region = Arc::new(file);
    let mut client = fixture.connect().await;
    let sizes = [100, 10_000, 10_000, 16_384, 1];
    for size_bytes in sizes {
        fixture.node.records.lock().push(RecordSlice::File {
            region: Arc::clone(&region),
            position: 7,
            size_bytes,
        });
        client.send(1, 11, false, 1, &fetch()).await;
        let (_, response) = client.receive::<FetchResponse>(11, false).await;
        let records = response.responses[0].partitions[0].records.clone();
        assert!(records.as_deref() == Some(&content[7..7 + size_bytes as usize]));
    }
}

#[tokio::test]
async fn many_requests_at_once_are_answered_in_order() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    for correlation in 0..100 {
        send_versions(&mut client, correlation).await;
    }
    for correlation in 0..100 {
        assert_eq!(client.receive::<ApiVersionsResponse>(0, false).await.0, correlation);
    }
}

#[tokio::test]
async fn a_file_that_comes_up_short_closes_the_connection() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"short").unwrap();
    fixture.node.records.lock().push(RecordSlice::File {
        region: Arc::new(file),
        position: 0,
        size_bytes: 6,
    });
    let mut client = fixture.connect().await;
    client.send(1, 11, false, 1, &fetch()).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn acks_of_none_answers_nothing_and_errors_close() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    send_produce(&mut client, 1, &produce(0, Some(Bytes::from_static(b"batch")))).await;
    send_versions(&mut client, 2).await;
    assert_eq!(client.receive::<ApiVersionsResponse>(0, false).await.0, 2);
    send_produce(&mut client, 3, &produce(0, None)).await;
    assert!(client.is_closed().await);
    assert_eq!(fixture.node.produced.lock().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_read_closes_the_connection_only() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut bystander = fixture.connect().await;
    let frames: &[&[u8]] = &[
        &(-5i32).to_be_bytes(),
        &0i32.to_be_bytes(),
        &i32::MAX.to_be_bytes(),
        // A key of noise, a version of the future, a version of the past, a key of controllers.
        &[0, 0, 0, 10, 9, 9, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 52, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        // Metadata 1: an array of 2 billion topics.
        &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff],
    ];
    for frame in frames {
        let mut client = fixture.connect().await;
        client.stream.write_all(frame).await.unwrap();
        assert!(client.is_closed().await, "{frame:?}");
    }
    send_versions(&mut bystander, 1).await;
    assert_eq!(bystander.receive::<ApiVersionsResponse>(0, false).await.0, 1);
}

#[tokio::test]
async fn a_panic_ends_its_connection_alone() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let (mut client, mut bystander) = (fixture.connect().await, fixture.connect().await);
    fixture.node.panics.store(true, std::sync::atomic::Ordering::Relaxed);
    client.send(1, 11, false, 1, &fetch()).await;
    assert!(client.is_closed().await);
    for client in [&mut bystander, &mut fixture.connect().await] {
        send_versions(client, 1).await;
        assert_eq!(client.receive::<ApiVersionsResponse>(0, false).await.0, 1);
    }
}

#[tokio::test]
async fn what_came_before_a_bad_frame_is_answered() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    send_produce(&mut client, 1, &produce(-1, Some(Bytes::from_static(b"batch")))).await;
    client.stream.write_all(&[0, 0, 0, 2, 9, 9]).await.unwrap();
    until(|| fixture.node.produced.lock().len() == 1).await;
    fixture.node.replicated.send_replace(true);
    assert_eq!(client.receive::<ProduceResponse>(8, false).await.0, 1);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn bytes_behind_a_request_are_ignored() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    // Metadata 12 for all topics as librdkafka writes it: the null takes one byte, it leaves four.
    let request = [0, 3, 0, 12, 0, 0, 0, 5, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 0, 0];
    client.stream.write_all(&18i32.to_be_bytes()).await.unwrap();
    client.stream.write_all(&request).await.unwrap();
    assert_eq!(client.receive::<MetadataResponse>(12, true).await.0, 5);
}

#[tokio::test]
async fn only_produce_may_be_large() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    let records = Bytes::from(vec![7; LIMITS.request_max_bytes + 1]);
    for correlation in 1..=3 {
        send_produce(&mut client, correlation, &produce(1, Some(records.clone()))).await;
        assert_eq!(client.receive::<ProduceResponse>(8, false).await.0, correlation);
    }
    let produced = fixture.node.produced.lock().pop().unwrap();
    assert!(produced.topics[0].partitions[0].1.as_deref() == Some(&records[..]));

    let mut client = fixture.connect().await;
    let mut frame = (LIMITS.request_max_bytes as i32 + 1).to_be_bytes().to_vec();
    frame.extend([0, 3]);
    client.stream.write_all(&frame).await.unwrap();
    assert!(client.is_closed().await);

    let mut client = fixture.connect().await;
    let size = LIMITS.produce_max_bytes as i32 + 1;
    client.stream.write_all(&size.to_be_bytes()).await.unwrap();
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_client_that_sends_no_more_gets_its_answers() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    send_produce(&mut client, 1, &produce(-1, Some(Bytes::from_static(b"batch")))).await;
    client.stream.shutdown().await.unwrap();
    until(|| fixture.node.produced.lock().len() == 1).await;
    fixture.node.replicated.send_replace(true);
    assert_eq!(client.receive::<ProduceResponse>(8, false).await.0, 1);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn polls_end_when_the_client_hangs_up_even_if_more_are_queued_than_are_read() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    let polls = IN_FLIGHT_MAX as i32 + 20;
    for correlation in 0..polls {
        client.send(1, 11, false, correlation, &fetch()).await;
    }
    client.stream.shutdown().await.unwrap();
    for correlation in 0..polls {
        assert_eq!(client.receive::<FetchResponse>(11, false).await.0, correlation);
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_request_that_never_fits_closes_its_connection_alone() {
    let fixture = Fixture::with_memory(1 << 20);
    let mut holder = fixture.connect().await;
    holder.stream.write_all(&2_900_000i32.to_be_bytes()).await.unwrap();
    holder.stream.write_all(&vec![0; 500_000]).await.unwrap();
    // Three bytes each on the wire, a hundred decoded.
    let request = ProduceRequest::default().with_topic_data(vec![TopicProduceData::default(); 50_000]);
    let mut client = fixture.connect().await;
    client.send(0, 9, true, 1, &request).await;
    assert!(client.is_closed().await);
    holder.stream.write_all(&vec![0; 1000]).await.unwrap();
}

#[tokio::test]
async fn stopping_answers_what_was_accepted_but_not_polls() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let (mut producer, mut consumer) = (fixture.connect().await, fixture.connect().await);
    send_produce(&mut producer, 1, &produce(-1, Some(Bytes::from_static(b"batch")))).await;
    consumer.send(1, 11, false, 1, &fetch()).await;
    until(|| fixture.node.produced.lock().len() == 1).await;
    let node = Arc::clone(&fixture.node);
    let stopping = tokio::spawn(fixture.serving.stop(PATIENCE));
    assert!(consumer.is_closed().await);
    assert!(!stopping.is_finished());
    node.replicated.send_replace(true);
    assert_eq!(producer.receive::<ProduceResponse>(8, false).await.0, 1);
    assert!(producer.is_closed().await);
    stopping.await.unwrap();
}

#[tokio::test]
async fn stopping_finishes_a_request_that_was_begun() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut client = fixture.connect().await;
    fixture.node.holds_delete_records.send_replace(true);
    let request = DeleteRecordsRequest::default().with_topics(vec![
        DeleteRecordsTopic::default()
            .with_name(StrBytes::from_static_str("topic").into())
            .with_partitions(vec![DeleteRecordsPartition::default()]),
    ]);
    client.send(21, 1, false, 1, &request).await;
    until(|| fixture.node.holds_delete_records.receiver_count() == 1).await;
    let node = Arc::clone(&fixture.node);
    let stopping = tokio::spawn(fixture.serving.stop(PATIENCE));
    tokio::task::yield_now().await;
    node.holds_delete_records.send_replace(false);
    assert_eq!(client.receive::<DeleteRecordsResponse>(1, false).await.0, 1);
    assert!(client.is_closed().await);
    stopping.await.unwrap();
}

#[tokio::test]
async fn partial_frames_make_room_for_others() {
    let fixture = Fixture::with_memory(1 << 20);
    let mut hoarders = Vec::new();
    for _ in 0..4 {
        let mut hoarder = fixture.connect().await;
        let mut partial = (2_900_000i32).to_be_bytes().to_vec();
        partial.resize(500_000, 0);
        // It may be closed while it sends.
        let _ = hoarder.stream.write_all(&partial).await;
        hoarders.push(hoarder);
    }
    let mut client = fixture.connect().await;
    let records = Bytes::from(vec![7; 300_000]);
    send_produce(&mut client, 1, &produce(1, Some(records))).await;
    assert_eq!(client.receive::<ProduceResponse>(8, false).await.0, 1);
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let fixture = Fixture::start(ListenerKind::Broker);
    let mut producer = fixture.connect().await;
    send_produce(&mut producer, 1, &produce(-1, Some(Bytes::from_static(b"batch")))).await;
    until(|| fixture.node.produced.lock().len() == 1).await;
    fixture.serving.stop(Duration::from_millis(1)).await;
    assert!(producer.is_closed().await);
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let limits = crate::server::RequestLimits {
        idle: Some(Duration::from_millis(50)),
        ..LIMITS
    };
    let fixture = Fixture::with(ListenerKind::Broker, limits, ConnectionLimits::default());
    let mut client = fixture.connect().await;
    send_versions(&mut client, 1).await;
    assert_eq!(client.receive::<ApiVersionsResponse>(0, false).await.0, 1);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn connections_beyond_the_limit_of_an_address_are_closed() {
    let connections = ConnectionLimits {
        per_ip_max: 1,
        ..ConnectionLimits::default()
    };
    let fixture = Fixture::with(ListenerKind::Broker, LIMITS, connections);
    let mut first = fixture.connect().await;
    send_versions(&mut first, 1).await;
    assert_eq!(first.receive::<ApiVersionsResponse>(0, false).await.0, 1);
    assert!(fixture.connect().await.is_closed().await);
    drop(first);
    let admitted = async {
        loop {
            let mut next = fixture.connect().await;
            send_versions(&mut next, 2).await;
            if next.frame().await.is_some() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, admitted).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_of_all_wait() {
    let connections = ConnectionLimits {
        total_max: 1,
        ..ConnectionLimits::default()
    };
    let fixture = Fixture::with(ListenerKind::Broker, LIMITS, connections);
    let mut first = fixture.connect().await;
    send_versions(&mut first, 1).await;
    assert_eq!(first.receive::<ApiVersionsResponse>(0, false).await.0, 1);
    let mut second = fixture.connect().await;
    send_versions(&mut second, 2).await;
    send_versions(&mut first, 3).await;
    assert_eq!(first.receive::<ApiVersionsResponse>(0, false).await.0, 3);
    drop(first);
    assert_eq!(second.receive::<ApiVersionsResponse>(0, false).await.0, 2);
}
