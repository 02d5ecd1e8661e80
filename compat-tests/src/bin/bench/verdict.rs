//! What measured values say about a goal.
use crate::session::{Session, Values};
use crate::workload::{Better, Figure, Side};

/// Clients that use more of the machine than this are what is measured.
const CLIENT_SHARE_MAX: f64 = 0.6;

/// How a figure stands to its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has none.
    None,
    /// Reached.
    Met,
    /// Not reached.
    Missed,
    /// Not reached, but it is the client that could do no more: the broker's CPU time counts instead.
    ClientBound,
}

/// The middle one; of an even number, the larger of the middle two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Ottla's value divided by the rival's.
pub fn ratio(values: &Values) -> f64 {
    median(&values.ottla) / median(&values.rival)
}

/// Whether the clients used most of the machine with either broker.
pub fn is_client_bound(session: &Session) -> bool {
    Side::BOTH.iter().any(|side| {
        let work = session.work[*side as usize];
        work.amount > 0.0 && work.share(work.client) > CLIENT_SHARE_MAX
    })
}

/// Of a figure of a workload.
pub fn verdict(session: &Session, figure: &Figure, values: &Values) -> Verdict {
    let Some(goal) = figure.goal else {
        return Verdict::None;
    };
    let ratio = ratio(values);
    let near_floor = median(&values.ottla) / median(&values.floor);
    let is_met = match figure.better {
        Better::Lower => ratio <= goal || figure.floor_goal.is_some_and(|goal| near_floor <= goal),
        Better::Higher => ratio >= goal,
    };
    match (is_met, figure.better) {
        (true, _) => Verdict::Met,
        (false, Better::Higher) if is_client_bound(session) => Verdict::ClientBound,
        (false, _) => Verdict::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_in_the_middle_of_the_sorted() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[2.0, 1.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
