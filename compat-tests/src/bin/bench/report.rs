//! The results in Markdown, and where they are kept.
use std::fmt::{self, Write};
use std::{fs, io};

use ottla_compat_tests::usage::Work;

use crate::chart;
use crate::session::{JVM, Session, Values};
use crate::verdict::{Verdict, is_client_bound, median, ratio, verdict};
use crate::workload::{Better, Figure, Rival};

const DOCUMENT: &str = "docs/bench.md";
const CHART: &str = "docs/bench.svg";

/// Marks the part of README.md that is ours.
const BEGIN: &str = "<!-- bench -->\n";
const END: &str = "<!-- /bench -->";

const INTRODUCTION: &str = "\
Both brokers on the same machine, in the same run, with the same clients; medians of all runs. Each is broker and \
controller in one and has its defaults, but for addresses, directories, replication factors of 1 for internal topics, \
and what a row names; Apache Kafka is formatted without the features that Ottla does not serve yet, and its JVM has \
the flags of its own scripts. Where both are loaded in turn, each is first loaded for 10 s that do not count; the page \
cache is full from the beginning, as on a machine that has been up for a while.";

/// All results of a run.
pub struct Report {
    /// What it ran on.
    pub machine: String,
    /// How often each workload counted.
    pub rounds: usize,
    /// In the order of the workloads.
    pub sessions: Vec<Session>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Ottla beside Apache Kafka 4.3.1\n")?;
        writeln!(f, "{INTRODUCTION}\n\n{}\n\n{}", self.circumstances(), self.table())?;
        self.sessions.iter().try_for_each(|session| detail(f, session))
    }
}

impl Report {
    /// Writes the document, the chart, and README's part.
    pub fn save(&self) -> io::Result<()> {
        fs::create_dir_all("docs")?;
        fs::write(DOCUMENT, self.to_string())?;
        fs::write(CHART, chart::svg(&self.sessions))?;
        let readme = fs::read_to_string("README.md")?;
        let parts = readme
            .split_once(BEGIN)
            .and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
        let (head, tail) = parts.ok_or_else(|| io::Error::other(format!("README.md has no {BEGIN}")))?;
        let ours = format!(
            "![Times better than Apache Kafka]({CHART})\n\n{}\n\n{}\n[All runs, settings and methods]({DOCUMENT})\n",
            self.circumstances(),
            self.table()
        );
        fs::write("README.md", format!("{head}{BEGIN}{ours}{END}{tail}"))
    }

    fn circumstances(&self) -> String {
        format!("{} Rounds: {}.", self.machine, self.rounds)
    }

    fn table(&self) -> String {
        let mut out = String::from(
            "| workload | | Ottla | Apache Kafka | Ottla / Apache Kafka | goal | | machine's floor |\n\
             |---|---|---:|---:|---:|---:|---|---:|\n",
        );
        for session in &self.sessions {
            for (figure, values) in session.workload.figures.iter().zip(&session.values) {
                row(&mut out, session, figure, values);
            }
        }
        out
    }
}

fn row(out: &mut String, session: &Session, figure: &Figure, values: &Values) {
    let goal = match (figure.goal, figure.better, figure.floor_goal) {
        (None, ..) => String::new(),
        (Some(goal), Better::Lower, None) => format!("≤ {}", number(goal)),
        (Some(goal), Better::Lower, Some(floor)) => format!("≤ {}, or ≤ {} × floor", number(goal), number(floor)),
        (Some(goal), Better::Higher, _) => format!("≥ {}", number(goal)),
    };
    let verdict = match verdict(session, figure, values) {
        Verdict::None => "",
        Verdict::Met => "met",
        Verdict::Missed => "**missed**",
        Verdict::ClientBound => "client-bound: see CPU",
    };
    let floor = match values.floor.is_empty() {
        true => String::new(),
        false => {
            let floor = median(&values.floor);
            format!("{} (Ottla {} ×)", number(floor), number(median(&values.ottla) / floor))
        }
    };
    let rival = match session.workload.rival {
        Rival::Apache => number(median(&values.rival)),
        Rival::Itself(name) => format!("{} ({name})", number(median(&values.rival))),
    };
    let _ = writeln!(
        out,
        "| {} | {} | {} | {rival} | {} | {goal} | {verdict} | {floor} |",
        session.workload.title,
        figure.name,
        number(median(&values.ottla)),
        number(ratio(values)),
    );
}

fn detail(out: &mut impl Write, session: &Session) -> fmt::Result {
    let workload = session.workload;
    let rival = workload.rival.name();
    writeln!(
        out,
        "## {}: `{}`\n\n{}\n",
        workload.title, workload.name, workload.method
    )?;
    let jvm = match workload.rival {
        Rival::Apache => format!("; java {}", JVM.join(" ")),
        Rival::Itself(_) => String::new(),
    };
    let [ottla, other] = [
        settings(workload.settings.ottla, &[]),
        settings(workload.settings.rival, workload.settings.rival_topic),
    ];
    writeln!(out, "- Ottla: {ottla}\n- {rival}: {other}{jvm}")?;
    if session.work[0].amount > 0.0 {
        let [ottla, other] = session.work.map(shares);
        let mark = if session.work.into_iter().any(is_client_bound) {
            " **Client-bound.**"
        } else {
            ""
        };
        writeln!(out, "- CPU of the machine: Ottla {ottla}; {rival} {other}.{mark}")?;
    }
    session.notes.iter().try_for_each(|note| writeln!(out, "- {note}"))?;
    writeln!(out, "\n| all runs | Ottla | {rival} | floor |\n|---|---|---|---|")?;
    for (figure, values) in workload.figures.iter().zip(&session.values) {
        let [ottla, other, floor] = [&values.ottla, &values.rival, &values.floor].map(|values| runs(values));
        writeln!(out, "| {} | {ottla} | {other} | {floor} |", figure.name)?;
    }
    writeln!(out)
}

fn settings(node: &[&str], topic: &[(&str, &str)]) -> String {
    let node = node.iter().map(|line| format!("`{line}`"));
    let topic = topic
        .iter()
        .map(|(name, value)| format!("`{name}={value}` of the topic"));
    let all: Vec<_> = node.chain(topic).collect();
    match all.is_empty() {
        true => "defaults".to_owned(),
        false => format!("defaults but {}", all.join(", ")),
    }
}

fn shares(work: Work) -> String {
    let percent = |cpu| work.share(cpu) * 100.0;
    format!(
        "broker {:.0} %, clients {:.0} %",
        percent(work.broker),
        percent(work.client)
    )
}

fn runs(values: &[f64]) -> String {
    let values: Vec<_> = values.iter().map(|value| number(*value)).collect();
    values.join(", ")
}

/// A session in some lines, for those who wait.
pub fn brief(session: &Session) -> String {
    let mut out = String::new();
    for (figure, values) in session.workload.figures.iter().zip(&session.values) {
        row(&mut out, session, figure, values);
    }
    out.trim_end().to_owned()
}

/// Digits that say something.
fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "–".to_owned(),
        ..0.1 => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_what_says_something() {
        let numbers = [0.048, 0.35, 9.53, 28.04, 66249.0, f64::NAN].map(number);
        assert_eq!(numbers, ["0.048", "0.35", "9.53", "28.0", "66249", "–"]);
    }
}
