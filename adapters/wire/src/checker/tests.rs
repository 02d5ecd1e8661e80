//! The table generates requests; kafka-protocol, which knows nothing of it, must agree about them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, CreateTopicsRequest, RequestKind, create_topics_request::CreatableTopic};
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};
use ottla_domain::record::primitives::PutPrimitives;
use proptest::prelude::*;

use super::shape::Versions;
use super::*;

/// Counts what a thread has allocated, and the most it had at once.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let _ = NOW.try_with(|now| {
        now.set(now.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The result of `work` and the bytes that it needed at most.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

/// The check alone, without a limit.
fn check_request(api_key: i16, api_version: i16, body: &[u8]) -> Result<CheckedRequest, CheckError> {
    super::check_request(api_key, api_version, body, usize::MAX)
}

/// Random choices, from bytes that proptest shrinks towards zeros.
struct Entropy(std::vec::IntoIter<u8>);

impl Entropy {
    fn byte(&mut self) -> u8 {
        self.0.next().unwrap_or(0)
    }

    fn below(&mut self, limit: u8) -> usize {
        usize::from(self.byte() % limit)
    }
}

/// Writes a well-formed request as the table describes it.
struct Writer<'a> {
    version: i16,
    flexible: bool,
    entropy: &'a mut Entropy,
    out: BytesMut,
}

impl Writer<'_> {
    fn structure(&mut self, structure: &Structure) {
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) = structure
            .fields
            .iter()
            .filter(|field| field.versions.contains(self.version))
            .partition(|field| field.tag_in(self.version).is_some());
        for field in plain {
            self.field(field);
        }
        if !self.flexible {
            return;
        }
        let mut fields = Vec::new();
        for field in tagged {
            if self.entropy.below(2) == 1 {
                let out = std::mem::take(&mut self.out);
                self.field(field);
                fields.push((
                    field.tag_in(self.version).unwrap(),
                    std::mem::replace(&mut self.out, out),
                ));
            }
        }
        let unknown: Vec<(u32, Bytes)> = (0..self.entropy.below(3))
            .map(|tag| (100 + tag as u32, Bytes::from(vec![7; tag])))
            .collect();
        self.out.put_tagged_fields(&fields, &unknown);
    }

    fn field(&mut self, field: &Field) {
        let null = field.nullable.contains(self.version) && self.entropy.below(4) == 1;
        self.value(field, field.shape, null);
    }

    fn value(&mut self, field: &Field, shape: Shape, null: bool) {
        match shape {
            Shape::Fixed(1) => {
                // Booleans are written as 0 or 1 only.
                let byte = self.entropy.byte() & 1;
                self.out.put_u8(byte);
            }
            Shape::Fixed(size_bytes) => {
                for _ in 0..size_bytes {
                    let byte = self.entropy.byte();
                    self.out.put_u8(byte);
                }
            }
            Shape::String => {
                let text = "text".repeat(self.entropy.below(20));
                match (self.flexible, null) {
                    (true, _) => self.out.put_compact_nullable_string((!null).then_some(&text)),
                    (false, _) => self.out.put_nullable_string((!null).then_some(&text)).unwrap(),
                }
            }
            Shape::Bytes => {
                let bytes = vec![7; self.entropy.below(20)];
                match (self.flexible, null) {
                    (true, _) => self.out.put_compact_nullable_bytes((!null).then_some(&bytes)),
                    (false, true) => self.out.put_i32(-1),
                    (false, false) => self.out.put_bytes_field(&bytes),
                }
            }
            Shape::Structure(structure) => {
                if field.nullable.contains(self.version) {
                    self.out.put_i8(if null { -1 } else { 1 });
                }
                if !null {
                    self.structure(structure);
                }
            }
            Shape::Array(element) => {
                let count = if null { None } else { Some(self.entropy.below(4)) };
                if self.flexible {
                    self.out.put_compact_array_length(count);
                } else {
                    self.out.put_array_length(count);
                }
                for _ in 0..count.unwrap_or(0) {
                    match element {
                        Shape::Structure(structure) => self.structure(structure),
                        element => self.value(field, *element, false),
                    }
                }
            }
        }
    }
}

fn body(request: &Request, version: i16, entropy: Vec<u8>) -> BytesMut {
    let flexible = request.flexible.contains(version);
    let mut entropy = Entropy(entropy.into_iter());
    let mut writer = Writer {
        version,
        flexible,
        entropy: &mut entropy,
        out: BytesMut::new(),
    };
    writer.structure(request.body);
    writer.out
}

fn versions(Versions(min, max): Versions) -> RangeInclusive<i16> {
    min..=max
}

/// Decodes with our message where we have one, else with kafka-protocol's, and encodes again.
fn decode_and_encode(request: &Request, version: i16, mut body: Bytes) -> Option<(usize, usize, BytesMut)> {
    fn with<M: Message + Decodable + Encodable>(body: &mut Bytes, version: i16) -> Option<(usize, BytesMut)> {
        if !(M::VERSIONS.min..=M::VERSIONS.max).contains(&version) {
            return None;
        }
        let (message, size_bytes) = measured(|| M::decode(body, version));
        let message = message.unwrap();
        let mut out = BytesMut::new();
        message.encode(&mut out, version).unwrap();
        Some((size_bytes + size_of::<M>(), out))
    }
    use crate::messages::{
        add_raft_voter, broker_heartbeat, describe_log_dirs, list_offsets, offset_commit, offset_fetch,
    };
    let ours = match request.name {
        "AddRaftVoter" => with::<add_raft_voter::AddRaftVoterRequest>(&mut body, version),
        "BrokerHeartbeat" => with::<broker_heartbeat::BrokerHeartbeatRequest>(&mut body, version),
        "DescribeLogDirs" => with::<describe_log_dirs::DescribeLogDirsRequest>(&mut body, version),
        "ListOffsets" => with::<list_offsets::ListOffsetsRequest>(&mut body, version),
        "OffsetCommit" => with::<offset_commit::OffsetCommitRequest>(&mut body, version),
        "OffsetFetch" => with::<offset_fetch::OffsetFetchRequest>(&mut body, version),
        _ => {
            let key = ApiKey::try_from(request.api_key).unwrap();
            let (message, size_bytes) = measured(|| RequestKind::decode(key, &mut body, version));
            // `ApiKey::valid_versions` is no help: it has versions that the request's own decoder lacks.
            if message
                .as_ref()
                .is_err_and(|error| format!("{error:#}").contains("version not supported"))
            {
                return None;
            }
            let message = message.unwrap();
            let mut out = BytesMut::new();
            message.encode(&mut out, version).unwrap();
            Some((size_bytes + request.body.size_bytes, out))
        }
    };
    ours.map(|(size_bytes, out)| (size_bytes, body.len(), out))
}

/// Some request in some version of it, with its bytes.
fn requests() -> impl Strategy<Value = (&'static Request, i16, BytesMut)> {
    let all = table::REQUESTS
        .iter()
        .flat_map(|request| versions(request.versions).map(move |version| (request, version)));
    let one = prop::sample::select(all.collect::<Vec<_>>());
    (one, prop::collection::vec(any::<u8>(), 0..800))
        .prop_map(|((request, version), entropy)| (request, version, body(request, version, entropy)))
}

/// The same for other tests: the API's key, the version and the body.
pub(crate) fn bodies() -> impl Strategy<Value = (i16, i16, Bytes)> {
    requests().prop_map(|(request, version, body)| (request.api_key, version, body.freeze()))
}

proptest! {
    // Several for each version of each request.
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Every request that the table describes is one for kafka-protocol too, and what kafka-protocol writes passes.
    #[test]
    fn kafka_protocol_agrees((request, version, body) in requests()) {
        let body = body.freeze();
        let checked = check_request(request.api_key, version, &body);
        prop_assert!(checked.is_ok(), "{checked:?}");
        if let Some((size_bytes, left, again)) = decode_and_encode(request, version, body) {
            prop_assert_eq!(left, 0);
            let estimate = checked.unwrap().decoded_size_bytes;
            prop_assert!(size_bytes <= estimate, "{size_bytes} > {estimate}");
            let checked = check_request(request.api_key, version, &again);
            prop_assert!(checked.is_ok(), "written by kafka-protocol: {checked:?}");
        }
    }

    #[test]
    fn no_truncated_request_passes((request, version, body) in requests()) {
        for end in 0..body.len() {
            let checked = check_request(request.api_key, version, &body[..end]);
            prop_assert!(checked.is_err(), "{end} of {} bytes", body.len());
        }
        let longer = [&body[..], &[0]].concat();
        prop_assert!(check_request(request.api_key, version, &longer).is_ok());
    }

    /// What passes, however it came to be, decodes without a panic in no more memory than estimated.
    #[test]
    fn no_mutation_takes_more_memory_than_estimated(
        (request, version, mut body) in requests(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (index, byte) in &mutations {
            if !body.is_empty() {
                let index = index.index(body.len());
                body[index] = *byte;
            }
        }
        if let Ok(checked) = check_request(request.api_key, version, &body) {
            let key = ApiKey::try_from(request.api_key).unwrap();
            let mut body = body.freeze();
            let (decoded, size_bytes) = measured(|| RequestKind::decode(key, &mut body, version));
            if decoded.is_ok() {
                prop_assert!(size_bytes <= checked.decoded_size_bytes, "{size_bytes}: {checked:?}");
            }
        }
    }
}

fn create_topics(count: usize) -> BytesMut {
    let topic = CreatableTopic::default().with_name(StrBytes::from_static_str("t").into());
    let mut body = BytesMut::new();
    CreateTopicsRequest::default()
        .with_topics(vec![topic; count])
        .encode(&mut body, 7)
        .unwrap();
    body
}

#[test]
fn a_claimed_length_beyond_the_bytes_is_refused_by_the_fields_name() {
    let mut body = create_topics(1);
    body[0] = 0x7f;
    let problem = DecodeError::Truncated {
        needed: 126,
        remaining: body.len() - 1,
    };
    let expected = CheckError::Field {
        request: "CreateTopics",
        api_version: 7,
        field: "Topics",
        problem,
    };
    assert_eq!(check_request(19, 7, &body), Err(expected));
    body[0] = 0;
    let problem = DecodeError::UnexpectedNull;
    let expected = CheckError::Field {
        request: "CreateTopics",
        api_version: 7,
        field: "Topics",
        problem,
    };
    assert_eq!(check_request(19, 7, &body), Err(expected));
}

#[test]
fn the_estimate_follows_the_decoded_size() {
    let body = create_topics(10_000);
    let checked = check_request(19, 7, &body).unwrap();
    let mut frame = body.freeze();
    let (decoded, size_bytes) = measured(|| CreateTopicsRequest::decode(&mut frame, 7).unwrap());
    assert_eq!(decoded.topics.len(), 10_000);
    assert!(
        size_bytes <= checked.decoded_size_bytes,
        "{size_bytes} > {}",
        checked.decoded_size_bytes
    );
    assert!(
        checked.decoded_size_bytes < 2 * size_bytes,
        "{} is far from {size_bytes}",
        checked.decoded_size_bytes
    );
}

#[test]
fn the_walk_ends_where_decoding_would_take_too_much() {
    let mut body = create_topics(10_000);
    let enough = check_request(19, 7, &body).unwrap().decoded_size_bytes;
    assert!(super::check_request(19, 7, &body, enough).is_ok());
    // Nothing behind the count is looked at.
    body.truncate(10_100);
    let expected = CheckError::TooLarge {
        request: "CreateTopics",
        api_version: 7,
        field: "Topics",
        max_bytes: 100_000,
    };
    assert_eq!(super::check_request(19, 7, &body, 100_000), Err(expected));
}

#[test]
fn unknown_tagged_fields_are_charged() {
    for count in [1, 11, 12, 13, 5_000] {
        let unknown: Vec<(u32, Bytes)> = (0..count).map(|tag| (tag, Bytes::new())).collect();
        let mut body = BytesMut::new();
        body.put_slice(&[1, 0, 0, 0, 0, 0]);
        body.put_tagged_fields(&[], &unknown);
        let checked = check_request(19, 7, &body).unwrap();
        let mut frame = body.freeze();
        let (decoded, size_bytes) = measured(|| CreateTopicsRequest::decode(&mut frame, 7).unwrap());
        assert_eq!(decoded.unknown_tagged_fields.len(), count as usize);
        assert!(
            size_bytes <= checked.decoded_size_bytes,
            "{count}: {size_bytes} > {}",
            checked.decoded_size_bytes
        );
    }
}

#[test]
fn strings_are_no_longer_than_kafka_lets_them_be() {
    // FindCoordinator 4 for one group.
    let of_length = |length: usize| {
        let mut body = BytesMut::new();
        body.put_slice(&[0, 2]);
        body.put_compact_nullable_string(Some(&"x".repeat(length)));
        body.put_u8(0);
        check_request(10, 4, &body)
    };
    assert!(of_length(32_767).is_ok());
    match of_length(32_768) {
        Err(CheckError::Field { problem, .. }) => assert_eq!(problem, DecodeError::StringTooLong(32_768)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_size_that_differs_from_its_tagged_field_is_refused() {
    // Fetch 17 without topics; the tag 0 is the nullable ClusterId, "ab" in three bytes.
    let with_size = |size: u8| {
        let mut body = BytesMut::new();
        body.put_bytes(0, 21);
        body.put_slice(&[1, 1, 1, 1, 0, size, 3, b'a', b'b']);
        check_request(1, 17, &body)
    };
    assert!(with_size(3).is_ok());
    let refused = |size| match with_size(size) {
        Err(CheckError::Field { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(2),
        DecodeError::Truncated {
            needed: 2,
            remaining: 1
        }
    );
    assert_eq!(
        refused(4),
        DecodeError::Truncated {
            needed: 4,
            remaining: 3
        }
    );
}

#[test]
fn requests_that_kafka_does_not_have_are_refused() {
    let unknown = |api_key, api_version| {
        assert_eq!(
            check_request(api_key, api_version, &[]),
            Err(CheckError::UnknownRequest { api_key, api_version })
        );
    };
    unknown(4, 0);
    unknown(-1, 0);
    unknown(19, 8);
    unknown(19, 1);
}
