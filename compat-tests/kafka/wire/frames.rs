//! Frames that no client sends: the connection may end, the broker must not.
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, MetadataRequest, ProduceRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable};
use ottla_compat_tests::raw::{Connection, encode};
use ottla_compat_tests::records::Batch;
use ottla_compat_tests::scenario::{Case, Session};

use super::{Wire, at, fetch, metadata, produce};

pub const CASES: &[Case] = &[
    Case::code("frames-bad", bad),
    Case::code("frames-unknown-versions", unknown_versions),
    Case::code("frames-in-pieces", in_pieces),
    Case::code("frames-too-long", too_long),
    Case::code("frames-half-closed", half_closed),
    Case::code("frames-api-versions-fallback", api_versions_fallback),
];

fn header(key: i16, version: i16) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_i16(key);
    bytes.put_i16(version);
    bytes.put_i32(77);
    bytes.put_i16(-1);
    bytes
}

fn frame(body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32(body.len() as u32);
    bytes.put_slice(body);
    bytes.freeze()
}

/// Sends bytes on a connection of their own and notes what comes back.
fn send(w: &mut Wire, title: &str, bytes: &[u8]) {
    let mut connection = w.connect();
    // A broker may close before it has read everything.
    let _ = connection.send_bytes(bytes);
    note_answer(w, title, &mut connection);
}

fn note_answer(w: &mut Wire, title: &str, connection: &mut Connection) {
    match connection.receive_frame() {
        Ok(answer) => w.s.note(title, answer),
        Err(e) => w.s.note(title, e.kind()),
    }
}

fn bad(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let good = encode(9, 1, &metadata(&[&topic.name]));
    let mut long_array = header(3, 1);
    long_array.put_i32(i32::MAX);
    let mut long_string = header(3, 1);
    long_string.put_i32(1);
    long_string.put_i16(i16::MAX);
    let mut compact = header(3, 9);
    compact.put_u8(0);
    compact.put_slice(b"\xff\xff\xff\xff\x0f");
    let cases: [(&str, Bytes); 12] = [
        ("a frame of size 0", frame(b"")),
        ("negative size", Bytes::from_static(b"\xff\xff\xff\xff")),
        ("a size above every limit", Bytes::from_static(b"\x7f\xff\xff\xff")),
        (
            "an HTTP request",
            Bytes::from_static(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ),
        (
            "a TLS hello",
            Bytes::from_static(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ),
        ("half a header", frame(b"\0\x03\0")),
        ("unknown API", frame(&header(999, 0))),
        ("negative API", frame(&header(-1, 0))),
        ("a request cut short", frame(&good[..good.len() - 2])),
        ("an array longer than the frame", frame(&long_array)),
        ("a string longer than the frame", frame(&long_string)),
        ("a compact array longer than the frame", frame(&compact)),
    ];
    for (title, bytes) in cases {
        send(&mut w, title, &bytes);
    }
    w.title("others are served on");
    w.call(9, &metadata(&[&topic.name]));
}

/// APIs for the controller, versions above and below the known ones.
fn unknown_versions(s: &mut Session) {
    let mut w = Wire::open(s);
    for (key, version) in [
        (0, 2),
        (0, 14),
        (1, 3),
        (1, 19),
        (2, 0),
        (3, 14),
        (3, -1),
        (10, 7),
        (19, 1),
        (22, 7),
        (32, 0),
        (55, 3),
        (60, 3),
        (75, 1),
        (52, 0),
        (53, 0),
        (56, 2),
        (58, 0),
        (59, 0),
        (62, 0),
        (63, 0),
        (4, 0),
        (5, 0),
        (6, 0),
        (7, 0),
    ] {
        let mut request = header(key, version);
        request.put_slice(&[0; 40]);
        send(&mut w, &format!("API {key} version {version}"), &frame(&request));
    }
}

/// A frame that arrives byte by byte, and two that arrive as one.
fn in_pieces(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let bytes = frame(&encode(9, 1, &metadata(&[&topic.name])));
    for byte in &bytes {
        w.connection.send_bytes(std::slice::from_ref(byte)).unwrap();
    }
    w.connection
        .send_bytes(&[&bytes[..], &bytes[..], &bytes[..7]].concat())
        .unwrap();
    w.connection.send_bytes(&bytes[7..]).unwrap();
    for _ in 0..4 {
        let answer = w.connection.receive::<MetadataRequest>(9);
        w.s.answer::<MetadataRequest>(9, answer);
    }
}

/// librdkafka leaves three bytes behind some of its requests.
fn too_long(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let request = encode(9, 1, &metadata(&[&topic.name]));
    w.connection.send_frame(&[&request[..], &[1, 0, 0]].concat()).unwrap();
    let answer = w.connection.receive::<MetadataRequest>(9);
    w.s.answer::<MetadataRequest>(9, answer);
    let batch = Batch::of(w.now(), &["a"]).encode();
    let request = encode(9, 2, &produce(9, &topic, -1, &[(0, Some(batch))]));
    w.connection.send_frame(&[&request[..], &[1, 0, 0]].concat()).unwrap();
    let answer = w.connection.receive::<ProduceRequest>(9);
    w.s.answer::<ProduceRequest>(9, answer);
}

/// Whoever has only finished sending is answered, even if it takes a moment, and then the connection ends.
fn half_closed(s: &mut Session) {
    let mut w = Wire::open(s);
    let topic = w.topic();
    let poll = fetch(9, &topic, vec![at(0, 0)]).with_max_wait_ms(300);
    w.connection.send(9, &metadata(&[&topic.name])).unwrap();
    w.connection.send(9, &poll).unwrap();
    w.connection.finish().unwrap();
    let answer = w.connection.receive::<MetadataRequest>(9);
    w.s.answer::<MetadataRequest>(9, answer);
    let answer = w.connection.receive::<FetchRequest>(9);
    w.s.answer::<FetchRequest>(9, answer);
    let end = w.connection.receive_frame().map_err(|e| e.kind());
    w.s.note("then", end);
}

/// A version of ApiVersions that is too new is answered in version 0, so that the client can choose another.
fn api_versions_fallback(s: &mut Session) {
    let mut w = Wire::open(s);
    for port in [w.node.port, w.node.controller_port] {
        for version in [5, 99, i16::MAX, -1] {
            let mut body = BytesMut::new();
            body.put_i16(18);
            body.put_i16(version);
            body.put_i32(42);
            body.put_i16(-1);
            body.put_u8(0);
            ApiVersionsRequest::default().encode(&mut body, 3).unwrap();
            let mut connection = Connection::open(([127, 0, 0, 1], port).into()).unwrap();
            connection.send_frame(&body).unwrap();
            let answer = connection.receive_frame().map(|mut frame| {
                let id = frame.split_to(4);
                (
                    id,
                    ApiVersionsResponse::decode(&mut frame, 0)
                        .map(|answer| (answer.error_code, answer.api_keys))
                        .ok(),
                )
            });
            w.s.note(&format!("version {version}"), answer.map_err(|e| e.kind()));
            w.title("the connection goes on");
            let next = connection.call(0, &ApiVersionsRequest::default());
            w.s.note("next", next.map(|answer| answer.error_code).map_err(|e| e.kind()));
        }
    }
}
