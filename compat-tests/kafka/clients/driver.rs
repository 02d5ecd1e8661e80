//! A driver: the program of a family that does what the matrix says.
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ottla_compat_tests::process;
use serde_json::Value;

use super::outcome::{Checked, Stop, failed};

/// How long a reply may take: drivers end what they do within a minute.
const DEADLINE: Duration = Duration::from_secs(70);

pub struct Driver {
    child: Child,
    requests: ChildStdin,
    replies: Receiver<String>,
}

impl Driver {
    pub fn start(family: &str, bootstrap: &str) -> Self {
        let dir = std::env::var_os("OTTLA_CLIENTS_DIR").expect("OTTLA_CLIENTS_DIR has the drivers: run ./dev test");
        let program = PathBuf::from(dir).join(family).join("driver");
        assert!(program.exists(), "{} is missing: run ./dev test", program.display());
        let mut command = process::tied(&program.display().to_string());
        command.arg(bootstrap).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Clients complain of much that the cases do to them on purpose.
        if std::env::var_os("OTTLA_COMPAT_SHOW").is_none() {
            command.stderr(Stdio::null());
        }
        let mut child = process::spawn(command);
        let requests = child.stdin.take().expect("standard input");
        let output = BufReader::new(child.stdout.take().expect("standard output"));
        let (sender, replies) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self {
            child,
            requests,
            replies,
        }
    }

    /// Whether it still takes requests.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it; returns how it ended.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        let _ = self.child.kill();
        self.child.wait()
    }

    /// Sends a request and waits for its (first) reply.
    pub fn ask(&mut self, request: &Value) -> Checked<Value> {
        self.tell(request)?;
        self.reply()
    }

    /// Sends a request.
    pub fn tell(&mut self, request: &Value) -> Checked {
        writeln!(self.requests, "{request}").map_err(|e| failed(format!("the driver takes no requests: {e}")))
    }

    /// Waits for a reply.
    pub fn reply(&mut self) -> Checked<Value> {
        let Ok(line) = self.replies.recv_timeout(DEADLINE) else {
            // What comes later would be taken for the reply to another request.
            let status = self.end();
            return Err(failed(format!("the driver gave no reply, and ended with {status:?}")));
        };
        let reply: Value = serde_json::from_str(&line).map_err(|e| failed(format!("{e}: {line}")))?;
        if let Some(why) = reply["unsupported"].as_str() {
            return Err(Stop::Unsupported(why.to_string()));
        }
        if reply["ok"] != true {
            return Err(Stop::Failed {
                code: ending(&reply),
                what: reply["error"].to_string(),
            });
        }
        Ok(reply)
    }
}

/// The code or the name by which a reply says how a request ended.
pub fn ending(reply: &Value) -> String {
    let fields = ["kafka_error", "client_error", "ended"];
    let told = fields
        .iter()
        .filter_map(|name| reply.get(name).map(|value| format!("{name} {value}")));
    told.collect::<Vec<_>>().join(", ")
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
