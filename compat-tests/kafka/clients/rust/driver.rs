//! What the drivers of all Rust families share: requests, replies and bytes as JSON.
use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Why a request was not carried out.
pub enum Refusal {
    /// The library has no call for it.
    #[allow(dead_code)] // Some libraries have calls for everything.
    Unsupported(&'static str),
    /// The library said so; with the code of a broker's error, or with a name of its own.
    Error { told: Value, text: String },
}

impl Refusal {
    /// An error of the library's own.
    pub fn client(name: impl ToString, text: impl ToString) -> Self {
        Self::Error {
            told: json!({ "client_error": name.to_string() }),
            text: text.to_string(),
        }
    }

    fn reply(self) -> Value {
        match self {
            Self::Unsupported(why) => json!({ "unsupported": why }),
            Self::Error { mut told, text } => {
                told["error"] = text.into();
                told
            }
        }
    }
}

/// What a request comes to: the fields of its reply.
pub type Answer = Result<Value, Refusal>;

/// Answers requests until there are no more.
pub fn run(mut answer: impl FnMut(&Value) -> Answer) -> ! {
    for line in std::io::stdin().lines() {
        let request = serde_json::from_str(&line.expect("UTF-8")).expect("JSON");
        reply(answer(&request));
    }
    // Clients that wait for a broker are not waited for.
    std::process::exit(0)
}

/// Sends a reply.
pub fn reply(answer: Answer) {
    let reply = match answer {
        Ok(mut fields) => {
            fields["ok"] = true.into();
            fields
        }
        Err(refusal) => refusal.reply(),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{reply}")
        .and_then(|()| out.flush())
        .expect("the matrix listens");
}

/// A field that is text.
pub fn text<'a>(request: &'a Value, name: &str) -> &'a str {
    request[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {request}"))
}

/// A field that is a number, or what it is by default.
pub fn number_or(request: &Value, name: &str, default: i64) -> i64 {
    request[name].as_i64().unwrap_or(default)
}

/// A field that is a number.
pub fn number(request: &Value, name: &str) -> i64 {
    request[name]
        .as_i64()
        .unwrap_or_else(|| panic!("no {name} in {request}"))
}

/// The entries of a list, which may be absent.
pub fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map_or(&[], Vec::as_slice)
}

/// The bytes that a request means.
pub fn bytes(told: &Value) -> Option<Vec<u8>> {
    if told.is_null() {
        return None;
    }
    if let Some(text) = told["text"].as_str() {
        return Some(text.as_bytes().to_vec());
    }
    let (size, seed) = (number(told, "size") as usize, number(told, "seed") as usize);
    Some((0..size).map(|i| (i * 31 + (i >> 8) * 17 + seed * 7) as u8).collect())
}

/// How bytes that were read are told.
pub fn seen(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "size": bytes.len(), "sha256": sha256 })
}
