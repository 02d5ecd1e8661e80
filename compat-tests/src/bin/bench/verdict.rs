//! What measured values say about a goal.
use ottla_compat_tests::usage::Work;

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

/// Whether the clients used most of the machine.
pub fn is_client_bound(work: Work) -> bool {
    work.amount > 0.0 && work.share(work.client) > CLIENT_SHARE_MAX
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
        // Clients that hold the rival back make Ottla look better, not worse.
        (false, Better::Higher) if is_client_bound(session.work[Side::Ottla as usize]) => Verdict::ClientBound,
        (false, _) => Verdict::Missed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::workloads::ALL;

    fn values(ottla: f64, rival: f64, floor: f64) -> Values {
        Values {
            ottla: vec![ottla],
            rival: vec![rival],
            floor: vec![floor],
        }
    }

    #[test]
    fn median_is_in_the_middle_of_the_sorted() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[2.0, 1.0]), 2.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn costs_are_to_be_low_or_near_the_floor() {
        let session = Session::new(&ALL[0], 1);
        let figure = Figure::lower("cost").goal(0.5).or_floor(1.1);
        let of = |ottla, rival, floor| verdict(&session, &figure, &values(ottla, rival, floor));
        assert_eq!(of(5.0, 10.0, 1.0), Verdict::Met);
        assert_eq!(of(6.0, 10.0, 1.0), Verdict::Missed);
        assert_eq!(of(6.0, 10.0, 5.5), Verdict::Met);
        assert_eq!(of(f64::NAN, 10.0, f64::NAN), Verdict::Missed);
    }

    #[test]
    fn what_a_client_cannot_do_is_not_missed() {
        let mut session = Session::new(&ALL[0], 1);
        let figure = Figure::higher("throughput").goal(5.0);
        let values = values(4.0, 1.0, f64::NAN);
        for (side, expected) in [(Side::Rival, Verdict::Missed), (Side::Ottla, Verdict::ClientBound)] {
            assert_eq!(verdict(&session, &figure, &values), Verdict::Missed);
            let work = &mut session.work[side as usize];
            (work.amount, work.time, work.client) = (1.0, Duration::from_secs(1), Duration::from_secs(1000));
            assert_eq!(verdict(&session, &figure, &values), expected);
        }
    }
}
