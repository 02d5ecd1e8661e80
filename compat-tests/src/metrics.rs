//! Reads `/metrics`.
use std::io::{Read, Write};
use std::net::TcpStream;

/// The answer to a GET of a node that listens on 127.0.0.1, head and body.
pub fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("ottla.http.listener");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    answer
}

/// The text at `/metrics` of a node that listens there on 127.0.0.1.
pub fn scrape(port: u16) -> String {
    let answer = get(port, "/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// The value of a sample, by its name and labels as they stand in the text; `None` where there is none.
pub fn sample(text: &str, name: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value)
}
