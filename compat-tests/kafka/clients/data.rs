//! Records as drivers are told to write them, and as they must come back.
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::outcome::{Checked, ensure, failed};

/// Bytes of a key, a value or a header.
#[derive(Clone, Debug)]
pub enum Data {
    Null,
    Text(String),
    Made { size: usize, seed: usize },
}

impl Data {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn told(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Text(text) => json!({ "text": text }),
            Self::Made { size, seed } => json!({ "size": size, "seed": seed }),
        }
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.as_bytes().to_vec()),
            Self::Made { size, seed } => Some((0..*size).map(|i| (i * 31 + (i >> 8) * 17 + seed * 7) as u8).collect()),
        }
    }

    fn seen(&self) -> Value {
        match self.bytes() {
            None => Value::Null,
            Some(bytes) => {
                let sha256: String = Sha256::digest(&bytes)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                json!({ "size": bytes.len(), "sha256": sha256 })
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Record {
    pub key: Data,
    pub value: Data,
    pub headers: Vec<(String, Data)>,
    pub timestamp: Option<i64>,
}

impl Record {
    pub fn new(key: Data, value: Data) -> Self {
        Self {
            key,
            value,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// Records with short texts, all different.
    pub fn texts(count: usize) -> Vec<Self> {
        let text = |n| {
            Self::new(
                Data::text(format!("key {n}")),
                Data::text(format!("value {n} ").repeat(20)),
            )
        };
        (0..count).map(text).collect()
    }

    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    pub fn told(&self) -> Value {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| json!([name, value.told()]))
            .collect();
        let mut told = json!({ "key": self.key.told(), "value": self.value.told(), "headers": headers });
        if let Some(timestamp) = self.timestamp {
            told["timestamp"] = timestamp.into();
        }
        told
    }
}

/// A stored record.
#[derive(Clone, Debug)]
pub struct Expected {
    always: [(&'static str, Value); 3],
    headers: Value,
    timestamp: Option<i64>,
}

impl Expected {
    /// What every reader must see of records that were written from an offset on.
    pub fn of(records: &[Record], first: usize) -> Vec<Self> {
        records
            .iter()
            .zip(first..)
            .map(|(record, offset)| Self::at(record, offset))
            .collect()
    }

    fn at(record: &Record, offset: usize) -> Self {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| json!([name, value.seen()]))
            .collect();
        Self {
            always: [
                ("offset", offset.into()),
                ("key", record.key.seen()),
                ("value", record.value.seen()),
            ],
            headers: headers.into(),
            timestamp: record.timestamp,
        }
    }

    pub fn check(&self, seen: &Value) -> Checked {
        let mut fields = self.always.to_vec();
        // A library without headers may leave out that there are none.
        if seen.get("headers").is_some() || self.headers != json!([]) {
            fields.push(("headers", self.headers.clone()));
        }
        if let (Some(timestamp), Some(_)) = (self.timestamp, seen.get("timestamp")) {
            fields.push(("timestamp", timestamp.into()));
        }
        for (name, value) in fields {
            ensure(seen.get(name) == Some(&value), || {
                format!("{name} is not {value}: {seen}")
            })?;
        }
        Ok(())
    }

    /// Whether these are the records of a reply.
    pub fn check_all(expected: &[Self], reply: &Value) -> Checked {
        let seen = reply["records"]
            .as_array()
            .ok_or_else(|| failed(format!("no records: {reply}")))?;
        ensure(seen.len() == expected.len(), || {
            format!("{} records instead of {}", seen.len(), expected.len())
        })?;
        expected
            .iter()
            .zip(seen)
            .try_for_each(|(expected, seen)| expected.check(seen))
    }
}
