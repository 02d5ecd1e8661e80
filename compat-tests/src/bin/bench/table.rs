//! The table of results.
use std::fmt;

use ottla_compat_tests::node::Target;

/// Which values are good ones.
#[derive(Clone, Copy)]
pub enum Better {
    /// Costs.
    Lower,
    /// Throughput.
    Higher,
}

/// Rows in the order of their first values.
#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    name: String,
    better: Better,
    ottla: Vec<f64>,
    apache: Vec<f64>,
}

impl Table {
    /// Adds one measurement to a row.
    pub fn add(&mut self, name: &str, better: Better, target: Target, value: f64) {
        let place = self.0.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.0.push(Row {
                name: name.to_string(),
                better,
                ottla: Vec::new(),
                apache: Vec::new(),
            });
            self.0.len() - 1
        });
        let row = &mut self.0[place];
        match target {
            Target::Ottla => row.ottla.push(value),
            Target::Apache => row.apache.push(value),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| median (smallest–largest) | Ottla | Apache Kafka | Ottla is better by |"
        )?;
        writeln!(f, "|---|---:|---:|---:|")?;
        for row in &self.0 {
            let (ottla, apache) = (median(&row.ottla), median(&row.apache));
            let factor = match row.better {
                Better::Lower => apache / ottla,
                Better::Higher => ottla / apache,
            };
            let factor = match factor.is_finite() {
                true => format!("{}x", number(factor)),
                false => "–".to_string(),
            };
            let (name, ottla, apache) = (&row.name, cell(&row.ottla), cell(&row.apache));
            writeln!(f, "| {name} | {ottla} | {apache} | {factor} |")?;
        }
        Ok(())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn cell(values: &[f64]) -> String {
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values.len() {
        1 => number(smallest),
        _ => format!("{} ({}–{})", number(median(values)), number(smallest), number(largest)),
    }
}

/// Two or three digits that say something.
fn number(value: f64) -> String {
    match value {
        ..1.0 => format!("{value:.2}"),
        ..10.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
