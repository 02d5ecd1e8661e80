//! Where the time of requests goes, as `/metrics` tells it.
use kafka_protocol::messages::{FetchRequest, MetadataRequest};
use ottla_compat_tests::metrics::{sample, scrape};
use ottla_compat_tests::node::free_ports;
use ottla_compat_tests::requests::{at, create_topic, fetch, metadata};
use ottla_compat_tests::scenario::wait_for;

use crate::{connect, start};

const VERSION: i16 = 9;
const PHASES: [&str; 5] = ["requestqueue", "local", "remote", "responsequeue", "responsesend"];

/// One of `kafka_network_requestmetrics_*`; 0 while there is none.
fn value(text: &str, name: &str, request: &str) -> f64 {
    let name = format!("kafka_network_requestmetrics_{name}{{request=\"{request}\"}}");
    sample(text, &name).unwrap_or_default()
}

/// Apache Kafka does not run a request before the one before it is answered.
#[test]
fn waiting_is_told_from_working() {
    let [http] = free_ports();
    let node = start(&[&format!("ottla.http.listener=127.0.0.1:{http}")]);
    let topic = create_topic(&mut connect(&node), "t", 1, &[]);
    let wait_ms = 1000;
    let mut connection = connect(&node);
    let poll = fetch(VERSION, &topic, vec![at(0, 0)]).with_max_wait_ms(wait_ms);
    connection.send(VERSION, &poll).unwrap();
    connection.send(VERSION, &metadata(&["t"])).unwrap();
    connection.receive::<FetchRequest>(VERSION).unwrap();
    connection.receive::<MetadataRequest>(VERSION).unwrap();

    // Counted once the kernel has the answer: maybe after the client has it.
    let wait_ms = f64::from(wait_ms);
    let is_counted = |text: &String| {
        // Metadata was done at once, but answers go out in the order of the requests.
        let queued_ms = value(text, "responsequeuetimems_sum", "Metadata");
        value(text, "totaltimems_count", "Fetch") == 1.0 && queued_ms > wait_ms / 2.0
    };
    let text = wait_for(|| Some(scrape(http)).filter(is_counted), || scrape(http));
    let of_fetch = |phase: &str| value(&text, &format!("{phase}timems_sum"), "Fetch");
    assert!(of_fetch("remote") >= wait_ms, "{text}");
    let sum: f64 = PHASES.into_iter().map(of_fetch).sum();
    assert!((sum - of_fetch("total")).abs() < 0.01, "{sum} {text}");
    assert!(value(&text, "requestbytes_sum", "Fetch") > 0.0, "{text}");
}
