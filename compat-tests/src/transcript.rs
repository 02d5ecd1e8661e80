//! What a scenario saw, with everything that differs from run to run replaced by stable names.
use std::collections::HashMap;
use std::io::Write;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use regex::{Captures, Regex};

use crate::node::{CLUSTER_ID, Node};

/// A growing text; two runs of a scenario on equal brokers give equal texts.
pub struct Transcript {
    text: String,
    replacements: Vec<(Regex, String)>,
    ids: HashMap<String, String>,
    id: Regex,
    time: Regex,
    /// The time that scenarios use for records, some minutes ago, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

impl Default for Transcript {
    fn default() -> Self {
        Self {
            text: String::new(),
            replacements: NOISE.map(|(pattern, with)| (regex(pattern), with.to_string())).to_vec(),
            ids: HashMap::new(),
            // Hyphenated, or in the base64 form that Kafka's tools print.
            id: regex(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|[A-Za-z0-9_-]{22,}"),
            time: regex(r"\b1[0-9]{12}\b"),
            now_ms: *NOW_MS,
        }
    }
}

impl Transcript {
    /// Replaces the ports and directories of this node from now on.
    pub fn know(&mut self, node: &Node) {
        let dir = regex::escape(&node.dir().display().to_string());
        self.replacements.push((regex(&dir), "<dir>".into()));
        self.replacements
            .push((regex(&format!(r"\b{}\b", node.port)), "<port>".into()));
        self.replacements.push((
            regex(&format!(r"\b{}\b", node.controller_port)),
            "<controller port>".into(),
        ));
    }

    /// Replaces one more thing.
    pub fn replace(&mut self, pattern: &str, with: &str) {
        self.replacements.push((regex(pattern), with.into()));
    }

    /// Adds a line or more.
    pub fn add(&mut self, text: &str) {
        let mut text = text.to_string();
        for (pattern, with) in &self.replacements {
            text = pattern.replace_all(&text, with.as_str()).into_owned();
        }
        let ids = &mut self.ids;
        let text = self.id.replace_all(&text, |found: &Captures| {
            // Member ids are a client's id, which is kept, and a hyphenated id.
            let (kept, id) = match found[0]
                .len()
                .checked_sub(36)
                .and_then(|at| found[0].split_at_checked(at))
            {
                Some((client, id)) if client.ends_with('-') && is_hyphenated(id) => (client, id),
                _ => ("", &found[0]),
            };
            // The last of 22 base64 digits carries two of the 128 bits.
            let base64 = id.len() == 22 && id.ends_with(['A', 'Q', 'g', 'w']);
            if id.starts_with("00000000-0000") || id == CLUSTER_ID || !base64 && !is_hyphenated(id) {
                return found[0].to_string();
            }
            let next = format!("<id {}>", ids.len() + 1);
            format!("{kept}{}", ids.entry(id.to_string()).or_insert(next))
        });
        let now = self.now_ms;
        let text = self.time.replace_all(&text, |found: &Captures| {
            match found[0].parse::<i64>().map_or(i64::MAX, |time| time - now) {
                // The scenario chose it, or the broker's clock did.
                0 => "<now>".to_string(),
                n @ 1..1000 => format!("<now+{n}>"),
                n if n.abs() < 3 * 3_600_000 => "<recent>".to_string(),
                _ => found[0].to_string(),
            }
        });
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The whole text, to keep.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// The same for both brokers, and long enough ago not to be taken for their clock's.
static NOW_MS: LazyLock<i64> = LazyLock::new(|| now_ms() - 600_000);

/// What differs from run to run whatever the broker is.
const NOISE: [(&str, &str); 6] = [
    // Java's stack traces show how a tool was started.
    (r"(?m)^\s+at [\w.$/]+\(.*\)\n?", ""),
    // Fields that no answer has.
    (r"(?m)^ *unknown_tagged_fields: \{\},\n", ""),
    // Times before log lines of Java and of librdkafka.
    (r"\[\d{4}-\d\d-\d\d [\d:,]+\]", "[<time>]"),
    (r"%\d\|[\d.]+\|", ""),
    // Whether librdkafka asks over the bootstrap connection or the broker's.
    (r"\(from broker -?1: (\S+)/\w+\)", "(from $1)"),
    (r#""originating_broker":\{[^}]*\},"#, ""),
];

fn is_hyphenated(id: &str) -> bool {
    id.len() == 36 && id.matches('-').count() == 4
}

/// Panics with a readable difference unless both are equal.
pub fn assert_equal(apache: &str, ottla: &str) {
    if apache == ottla {
        return;
    }
    let file = |text: &str| {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(text.as_bytes()).expect("temporary file");
        file
    };
    let (left, right) = (file(apache), file(ottla));
    let out = Command::new("diff")
        .args([
            "-U2",
            "-F",
            "^---\\|^[$]\\|^api",
            "--label",
            "Apache Kafka",
            "--label",
            "Ottla",
        ])
        .args([left.path(), right.path()])
        .output()
        .expect("diff (Debian: diffutils)");
    panic!(
        "Ottla differs from Apache Kafka:\n{}",
        String::from_utf8_lossy(&out.stdout)
    );
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_millis() as i64
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"))
}
