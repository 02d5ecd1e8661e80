//! The results as a picture: how many times better than Apache Kafka Ottla is, and should be.
use std::fmt::Write;

use crate::session::Session;
use crate::verdict::{Verdict, ratio, verdict};
use crate::workload::{Better, Rival};

const WIDTH: f64 = 880.0;
const LEFT: f64 = 410.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 52.0;
const ROW: f64 = 24.0;

/// The axis goes from here ...
const SMALLEST: f64 = 0.5;
/// ... to here.
const LARGEST: f64 = 200.0;

const STYLE: &str = "\
text{font:11.5px system-ui,sans-serif;fill:#24292f}.axis{stroke:#d0d7de}.one{stroke:#57606a}.met{fill:#1a7f37}\
.missed{fill:#bf8700}.goal{stroke:#24292f;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.axis{stroke:#30363d}.one{stroke:#8b949e}.met{fill:#3fb950}\
.missed{fill:#d29922}.goal{stroke:#e6edf3}}";

/// One bar for each figure that has a goal against Apache Kafka.
pub fn svg(sessions: &[Session]) -> String {
    let mut bars = String::new();
    let mut y = TOP;
    for session in sessions
        .iter()
        .filter(|session| session.workload.rival == Rival::Apache)
    {
        for (figure, values) in session.workload.figures.iter().zip(&session.values) {
            let Some(goal) = figure.goal else { continue };
            let (better, goal) = match figure.better {
                Better::Lower => (1.0 / ratio(values), 1.0 / goal),
                Better::Higher => (ratio(values), goal),
            };
            let class = match verdict(session, figure, values) {
                Verdict::Met => "met",
                _ => "missed",
            };
            let label = format!("{}: {}", session.workload.title, figure.name);
            bar(&mut bars, y, &label, class, better, goal);
            y += ROW;
        }
    }
    let bottom = y + 4.0;
    let height = bottom + 12.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <style>{STYLE}</style>\n\
         <text x=\"{LEFT}\" y=\"16\">times better than Apache Kafka 4.3.1 (log scale; ┃ is the goal)</text>\n"
    );
    for tick in [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0] {
        let (x, class) = (place(tick), if tick == 1.0 { "one" } else { "axis" });
        let _ = writeln!(
            out,
            "<path class=\"{class}\" d=\"M{x:.1} {:.0}V{bottom:.0}\"/>\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{tick}×</text>",
            TOP - 8.0,
            TOP - 14.0,
        );
    }
    out + &bars + "</svg>\n"
}

fn bar(out: &mut String, y: f64, label: &str, class: &str, better: f64, goal: f64) {
    let (from, to, goal) = (place(1.0), place(better), place(goal));
    let (x, width) = (from.min(to), (to - from).abs());
    let digits = usize::from(better < 10.0);
    let _ = writeln!(
        out,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{label}</text>\
         <rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"16\"/>\
         <path class=\"goal\" d=\"M{goal:.1} {:.0}V{:.0}\"/>\
         <text x=\"{:.1}\" y=\"{:.0}\">{better:.digits$}×</text>",
        LEFT - 8.0,
        y + 12.0,
        y - 2.0,
        y + 18.0,
        from.max(to).max(goal) + 6.0,
        y + 12.0,
    );
}

/// Where a factor is on the axis.
fn place(factor: f64) -> f64 {
    let part = (factor.clamp(SMALLEST, LARGEST) / SMALLEST).ln() / (LARGEST / SMALLEST).ln();
    LEFT + part * (WIDTH - LEFT - RIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Side;
    use crate::workloads::ALL;

    #[test]
    fn each_goal_has_a_bar() {
        let sessions: Vec<_> = ALL.iter().map(|workload| Session::new(workload, 1)).collect();
        let sessions = sessions.into_iter().map(|mut session| {
            for figure in 0..session.values.len() {
                session.add(Side::Ottla, figure, 1.0);
                session.add(Side::Rival, figure, 10.0);
            }
            session
        });
        let svg = svg(&sessions.collect::<Vec<_>>());
        let against_apache = ALL.iter().filter(|workload| workload.rival == Rival::Apache);
        let figures = against_apache.flat_map(|workload| workload.figures);
        assert_eq!(
            svg.matches("<rect").count(),
            figures.filter(|figure| figure.goal.is_some()).count()
        );
    }
}
