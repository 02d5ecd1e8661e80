//! Records go from the page cache to plaintext connections without passing through the broker's memory.
use bytes::Bytes;
use ottla_compat_tests::metrics::{sample, scrape};
use ottla_compat_tests::node::{Node, free_ports};
use ottla_compat_tests::records::{Batch, Record};
use ottla_compat_tests::tools;
use ottla_compat_tests::transcript::now_ms;

use crate::{connect, make_topic, produce, start};

/// What was read from log files for clients so far, by how it was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    by_sendfile: f64,
    copied: f64,
    /// What Kafka's own counter says.
    bytes_out: f64,
}

impl Sent {
    fn now(http: u16) -> Sent {
        let text = scrape(http);
        let of = |name| sample(&text, name).unwrap_or_default();
        Sent {
            by_sendfile: of("ottla_network_sendfile_bytes_total"),
            copied: of("ottla_network_copied_file_bytes_total"),
            bytes_out: of("kafka_server_brokertopicmetrics_bytesout_total"),
        }
    }

    fn since(self, before: Sent) -> Sent {
        Sent {
            by_sendfile: self.by_sendfile - before.by_sendfile,
            copied: self.copied - before.copied,
            bytes_out: self.bytes_out - before.bytes_out,
        }
    }
}

/// Has librdkafka read topic t from `offset` on.
fn consume(node: &Node, offset: usize) -> usize {
    let from = offset.to_string();
    let bootstrap = node.bootstrap();
    let args = [
        "-b", &bootstrap, "-C", "-t", "t", "-p", "0", "-o", &from, "-e", "-q", "-f", "%o\n",
    ];
    let output = tools::run(std::process::Command::new("kcat").args(args), b"");
    assert_eq!(output.code, 0, "{output:?}");
    output.stdout.lines().count()
}

/// Appends `count` batches of one record and returns their size together.
fn append(node: &Node, count: usize, value_bytes: usize) -> f64 {
    let mut connection = connect(node);
    let batch = Batch::new(now_ms(), vec![Record::value(Bytes::from(vec![b'x'; value_bytes]))]);
    for _ in 0..count {
        assert_eq!(produce(&mut connection, &batch), 0);
    }
    (batch.encode().len() * count) as f64
}

/// Apache Kafka uses sendfile, too, and does not count what it sends so.
#[test]
fn records_are_sent_by_sendfile() {
    let [http] = free_ports();
    let node = start(&[&format!("ottla.http.listener=127.0.0.1:{http}")]);
    make_topic(&mut connect(&node));
    // However these are cut into fetches, each is larger than what is worth a copy.
    let (large_count, small_count) = (60, 40);
    let large_bytes = append(&node, large_count, 100_000);
    let before = Sent::now(http);
    assert_eq!(consume(&node, 0), large_count);
    let large = Sent::now(http).since(before);
    assert_eq!((large.by_sendfile, large.copied), (large_bytes, 0.0), "{large:?}");
    assert_eq!(large.bytes_out, large_bytes, "{large:?}");

    let small_bytes = append(&node, small_count, 100);
    let before = Sent::now(http);
    assert_eq!(consume(&node, large_count), small_count);
    let small = Sent::now(http).since(before);
    assert_eq!(small.by_sendfile + small.copied, small_bytes, "{small:?}");
    assert_eq!(small.bytes_out, small_bytes, "{small:?}");
}
