//! Frames that nobody can read: at least one for each field of each version of each API on each listener, and others.
use std::collections::{BTreeMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kafka_protocol::messages::ApiVersionsRequest;
use ottla_compat_tests::raw::Connection;
use ottla_schema::jars;
use ottla_schema::schema::{Kind, Message};

use crate::Attack;
use crate::generate::Request;
use crate::victim::{MEMORY_MAX_MB, Victim};

pub const ATTACKS: &[Attack] = &[("hostile-frames", false, hostile_frames)];

const API_VERSIONS: i16 = 18;
/// What there was to attack when this was written.
const FRAMES_MIN: usize = 11_773;
const FIELDS_MIN: usize = 2_992;
/// How much more may be held after all the frames a second time, MB: a scrape takes some, and the heap has its ways.
const GROWTH_MAX_MB: f64 = 24.0;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Closed,
    Answered,
    Either,
}

struct Shot {
    /// What is wrong with it.
    class: &'static str,
    what: String,
    expected: Expected,
    /// With its size.
    bytes: Vec<u8>,
}

impl Shot {
    fn new(class: &'static str, what: String, expected: Expected, content: &[u8]) -> Self {
        let mut bytes = (content.len() as u32).to_be_bytes().to_vec();
        bytes.extend(content);
        Self {
            class,
            what,
            expected,
            bytes,
        }
    }
}

/// The requests that a listener serves, in all versions; and those that it does not.
fn requests(address: SocketAddr, schemas: &[Message]) -> (Vec<Request>, Vec<Request>) {
    let served = Connection::open(address)
        .unwrap()
        .call(0, &ApiVersionsRequest::default())
        .unwrap()
        .api_keys;
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for message in schemas.iter().filter(|message| message.kind == Kind::Request) {
        let range = served.iter().find(|api| Some(api.api_key) == message.api_key);
        let valid = message.valid_versions;
        for version in valid.min..=valid.max {
            let request = Request::new(message, version);
            let is_served = range.is_some_and(|range| (range.min_version..=range.max_version).contains(&version));
            if is_served { &mut here } else { &mut elsewhere }.push(request);
        }
    }
    (here, elsewhere)
}

/// Deterministic noise.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}

/// All that is sent to a listener, and how many fields of versions that is about.
fn shots(here: &[Request], elsewhere: &[Request]) -> (Vec<Shot>, usize) {
    let mut shots = Vec::new();
    let mut fields = HashSet::new();
    for request in here {
        let name = format!("{} {}", request.api, request.version);
        for site in &request.sites {
            fields.insert((request.key, request.version, site.path.clone()));
            for (class, content) in request.hostile(site) {
                // The key and the version of a request cut short are all that was wanted of it.
                let what = format!("{name} {}", site.path);
                shots.push(Shot::new(class, what, Expected::Closed, &content));
            }
        }
        shots.push(Shot::new(
            "bytes behind",
            name.clone(),
            Expected::Answered,
            &request.trailing(),
        ));
        for seed in 0..3 {
            let size = [10, 100, 1000][seed as usize];
            let content =
                request.noise(noise(seed + 7 * request.version as u64 + 1000 * request.key as u64).take(size));
            shots.push(Shot::new(
                "noise",
                format!("{name} seed {seed}"),
                Expected::Either,
                &content,
            ));
        }
        if request.flexible {
            shots.push(Shot::new("many tags", name, Expected::Answered, &request.tagged(5000)));
        }
    }
    let versions = here.iter().fold(BTreeMap::new(), |mut versions, request| {
        let (min, max, one) = versions.entry(request.key).or_insert((i16::MAX, 0, request));
        (*min, *max) = ((*min).min(request.version), (*max).max(request.version));
        *one = request;
        versions
    });
    for (key, (min, max, request)) in versions {
        let expected = if key == API_VERSIONS {
            Expected::Answered
        } else {
            Expected::Closed
        };
        for version in [min - 1, max + 1, i16::MAX, i16::MIN] {
            let content = request.in_version(version);
            shots.push(Shot::new(
                "unknown version",
                format!("{} {version}", request.api),
                expected,
                &content,
            ));
        }
    }
    for request in elsewhere {
        let what = format!("{} {}", request.api, request.version);
        shots.push(Shot::new("not served here", what, Expected::Closed, &request.bytes));
    }
    for key in [-1, 93, 999, i16::MAX, i16::MIN] {
        let mut content = here[0].bytes.clone();
        content[..2].copy_from_slice(&key.to_be_bytes());
        shots.push(Shot::new("unknown key", key.to_string(), Expected::Closed, &content));
    }
    for size in [i32::MAX, i32::MIN, -2, -1, 0, (100 << 20) + 1] {
        let bytes = size.to_be_bytes().to_vec();
        shots.push(Shot {
            class: "size of frame",
            what: size.to_string(),
            expected: Expected::Closed,
            bytes,
        });
    }
    // Only a Produce may be large.
    let bytes = [&(5i32 << 20).to_be_bytes()[..], &[0, 3, 0, 9]].concat();
    shots.push(Shot {
        class: "size of frame",
        what: "5 MiB".into(),
        expected: Expected::Closed,
        bytes,
    });
    for seed in 0..500 {
        let content: Vec<u8> = noise(seed).take(seed as usize).collect();
        shots.push(Shot::new(
            "all noise",
            format!("seed {seed}"),
            Expected::Either,
            &content,
        ));
    }
    (shots, fields.len())
}

/// Sends a frame on a connection of its own; true when it was answered.
fn is_answered(address: SocketAddr, shot: &Shot) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A broker may close before it has read everything.
    let _ = stream.write_all(&shot.bytes);
    match stream.read(&mut [0; 4]) {
        Ok(read) => read > 0,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            panic!("{} of {}: neither an answer nor an end", shot.class, shot.what)
        }
        Err(_) => false,
    }
}

/// Sends them all; returns how many connections were closed, and what went otherwise than expected.
fn fire(address: SocketAddr, shots: &[Shot]) -> (usize, Vec<String>) {
    let results = Mutex::new((0, Vec::new()));
    std::thread::scope(|scope| {
        for part in shots.chunks(shots.len().div_ceil(4)) {
            let results = &results;
            scope.spawn(move || {
                for shot in part {
                    let answered = is_answered(address, shot);
                    let (closed, wrong) = &mut *results.lock().unwrap();
                    *closed += usize::from(!answered);
                    let is_right = match shot.expected {
                        Expected::Closed => !answered,
                        Expected::Answered => answered,
                        Expected::Either => true,
                    };
                    if !is_right {
                        wrong.push(format!(
                            "{} of {}: {}",
                            shot.class,
                            shot.what,
                            if answered { "answered" } else { "closed" }
                        ));
                    }
                }
            });
        }
    });
    results.into_inner().unwrap()
}

fn kafka_lib() -> PathBuf {
    PathBuf::from(std::env::var_os("OTTLA_KAFKA_HOME").expect("OTTLA_KAFKA_HOME: run ./dev test")).join("lib")
}

fn hostile_frames() {
    let victim = Victim::start(&[]);
    let before = victim.serve(300);
    let schemas = jars::schemas(&kafka_lib(), "kafka-clients").unwrap();
    let listeners = [("PLAINTEXT", victim.node.socket()), ("CONTROLLER", victim.controller())];
    let (mut all, mut all_fields, mut all_wrong) = (0, 0, Vec::new());
    let begun = Instant::now();
    for (listener, address) in listeners {
        let (here, elsewhere) = requests(address, &schemas);
        let (shots, fields) = shots(&here, &elsewhere);
        let ((closed, wrong), during) = victim.serve_during(|| fire(address, &shots));
        let mut classes = BTreeMap::new();
        for shot in &shots {
            *classes.entry(shot.class).or_insert(0) += 1;
        }
        let (count, versions) = (shots.len(), here.len());
        println!("{listener}: {count} frames for {fields} fields in {versions} versions: {classes:?}");
        assert!(count >= fields, "at least one for each");
        victim.wait_refused(listener, closed);
        during.assert_like(&before, 20);
        let before_mb = victim.memory().now_mb;
        let (closed_again, _) = fire(address, &shots);
        victim.wait_refused(listener, closed + closed_again);
        let now_mb = victim.memory().now_mb;
        println!("{closed} closed and counted; {now_mb} MB after {before_mb} MB");
        assert!(now_mb < before_mb + GROWTH_MAX_MB);
        (all, all_fields) = (all + count, all_fields + fields);
        all_wrong.extend(wrong);
    }
    all_wrong.truncate(50);
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
    println!("{all} frames for {all_fields} fields");
    assert!(all >= FRAMES_MIN && all_fields >= FIELDS_MIN);
    let [told] = victim.complaints(["connection closed"]);
    let seconds = begun.elapsed().as_secs() as usize;
    assert!((1..=seconds + 3).contains(&told), "{told} lines in {seconds} s");
    assert!(victim.memory().peak_mb < MEMORY_MAX_MB);
    victim.serve(10);
}
