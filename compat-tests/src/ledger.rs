//! What the members of a consumer group were told and did, and what must be true of it whoever coordinates them.
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// The books of one group that reads one topic, whose partitions hold records at all offsets from 0 on.
///
/// Members are heard of one by one, so that a partition may seem to have two owners for a moment.
pub struct Ledger {
    partitions: Vec<Partition>,
    /// Those that are members now, and whether they commit before partitions are taken from them.
    members: BTreeMap<String, bool>,
}

#[derive(Default)]
struct Partition {
    /// In the order in which they were heard of.
    periods: Vec<Period>,
    /// What was seen to be committed, each offset once.
    committed: Vec<i64>,
}

/// The time from when a member gets a partition until it gives it up.
struct Period {
    member: String,
    /// The first offset that was processed and the one after the last.
    processed: Option<(i64, i64)>,
    /// None: it goes on.
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// All that was processed is committed.
    Committed,
    /// What was not committed is processed again.
    Uncommitted,
    /// And it may have committed more than is known to have been processed.
    Killed,
}

impl Ledger {
    /// The books of a group that nobody joined yet.
    pub fn new(partitions: usize) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            members: BTreeMap::new(),
        }
    }

    /// Someone joins, who commits before partitions are taken from him, or does not.
    pub fn joined(&mut self, member: &str, commits_when_revoked: bool) {
        self.members.insert(member.to_string(), commits_when_revoked);
    }

    /// A member gets a partition.
    pub fn assigned(&mut self, member: &str, partition: usize) -> Result<(), String> {
        let periods = &mut self.at(partition)?.periods;
        if periods.iter().any(|period| period.is_open_for(member)) {
            return Err(format!("{member} was assigned partition {partition}, and has it"));
        }
        periods.push(Period {
            member: member.to_string(),
            processed: None,
            end: None,
        });
        Ok(())
    }

    /// A member gives up a partition, or has lost it.
    pub fn revoked(&mut self, member: &str, partition: usize) -> Result<(), String> {
        let end = match self.members.get(member) {
            Some(false) => End::Uncommitted,
            _ => End::Committed,
        };
        self.open(member, partition)?.end = Some(end);
        Ok(())
    }

    /// A member processes a record.
    pub fn processed(&mut self, member: &str, partition: usize, offset: i64) -> Result<(), String> {
        let period = self.open(member, partition)?;
        let (first, next) = period.processed.unwrap_or((offset, offset));
        if offset != next {
            return Err(format!(
                "{member} processed offset {offset} of partition {partition} where {next} is next"
            ));
        }
        period.processed = Some((first, offset + 1));
        Ok(())
    }

    /// A member committed what it processed and left.
    pub fn left(&mut self, member: &str) {
        self.gone(member, End::Committed);
    }

    /// A member died without notice.
    pub fn killed(&mut self, member: &str) {
        self.gone(member, End::Killed);
    }

    fn gone(&mut self, member: &str, end: End) {
        self.members.remove(member);
        let periods = self.partitions.iter_mut().flat_map(|partition| &mut partition.periods);
        periods
            .filter(|period| period.is_open_for(member))
            .for_each(|period| period.end = Some(end));
    }

    /// The group's committed offset is this, or -1 for none.
    pub fn committed(&mut self, partition: usize, offset: i64) -> Result<(), String> {
        let known = &mut self.at(partition)?.committed;
        let last = known.last().copied().unwrap_or(-1);
        if offset < last {
            return Err(format!(
                "the committed offset of partition {partition} went back from {last} to {offset}"
            ));
        }
        if offset > last {
            known.push(offset);
        }
        Ok(())
    }

    /// Whether its members share all partitions: each has one owner, and each member is an owner.
    pub fn is_shared(&self) -> bool {
        let owners: Vec<_> = self.partitions.iter().map(Partition::owners).collect();
        owners.iter().all(|owners| owners.len() == 1)
            && self
                .members
                .keys()
                .all(|member| owners.iter().any(|owners| owners[..] == [member.as_str()]))
    }

    /// Whether nobody is a member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// By partition: the offset after the last that was processed.
    pub fn next(&self) -> Vec<i64> {
        self.partitions.iter().map(Partition::next).collect()
    }

    /// Whether nothing is left to do when the logs end here: everything is committed, or processed by who has it.
    pub fn is_done(&self, ends: &[i64]) -> bool {
        self.partitions.iter().zip(ends).all(|(partition, end)| {
            partition.committed.last() == Some(end)
                || partition
                    .periods
                    .iter()
                    .any(|period| period.end.is_none() && period.processed.is_some_and(|(_, next)| next == *end))
        })
    }

    /// When all members have left and the logs end here: nothing was skipped, nothing came twice but what may, everything
    /// is committed.
    pub fn check(&self, ends: &[i64]) -> Result<(), String> {
        for (number, (partition, end)) in self.partitions.iter().zip(ends).enumerate() {
            partition
                .check(*end)
                .map_err(|what| format!("partition {number}: {what}"))?;
        }
        Ok(())
    }

    fn at(&mut self, partition: usize) -> Result<&mut Partition, String> {
        self.partitions
            .get_mut(partition)
            .ok_or_else(|| format!("there is no partition {partition}"))
    }

    fn open(&mut self, member: &str, partition: usize) -> Result<&mut Period, String> {
        let periods = &mut self.at(partition)?.periods;
        periods
            .iter_mut()
            .find(|period| period.is_open_for(member))
            .ok_or_else(|| format!("{member} does not have partition {partition}"))
    }
}

impl Partition {
    fn owners(&self) -> Vec<&str> {
        let open = self.periods.iter().filter(|period| period.end.is_none());
        open.map(|period| period.member.as_str()).collect()
    }

    fn next(&self) -> i64 {
        let next = self.periods.iter().filter_map(|period| period.processed);
        next.map(|(_, next)| next).max().unwrap_or(0)
    }

    fn check(&self, end: i64) -> Result<(), String> {
        let mut periods: Vec<_> = self
            .periods
            .iter()
            .filter_map(|period| Some((period, period.processed?)))
            .collect();
        // Each begins where something was committed, and that never goes back.
        periods.sort_by_key(|(_, (first, _))| *first);
        let mut before: Option<(&Period, (i64, i64))> = None;
        for (period, (first, next)) in periods {
            let may = match before {
                None => first == 0,
                Some((before, (from, to))) => match before.end {
                    Some(End::Killed) => (from..=to).contains(&first) || self.committed.contains(&first),
                    Some(End::Uncommitted) => (from..=to).contains(&first),
                    _ => first == to,
                },
            };
            if !may {
                let after = before.map_or(String::new(), |(before, (from, to))| {
                    format!(" after {} processed {from} to {}", before.member, to - 1)
                });
                return Err(format!("{} processed {first} to {}{after}", period.member, next - 1));
            }
            before = Some((period, (first, next)));
        }
        let (next, committed) = (self.next(), self.committed.last());
        if next != end || committed != Some(&end) {
            return Err(format!(
                "ends at {end}, processed up to {next}, committed {committed:?}"
            ));
        }
        Ok(())
    }
}

impl Period {
    fn is_open_for(&self, member: &str) -> bool {
        self.end.is_none() && self.member == member
    }
}

/// Who has what, and how far it is.
impl Display for Ledger {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let members: Vec<_> = self.members.keys().map(String::as_str).collect();
        write!(f, "members {}", members.join(", "))?;
        for (number, partition) in self.partitions.iter().enumerate() {
            let owners = partition.owners().join(" and ");
            let committed = partition.committed.last();
            let next = partition.next();
            write!(
                f,
                "; partition {number}: of {owners:?}, next {next}, committed {committed:?}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One partition and members who commit, except `lazy`.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(1);
        for member in ["a", "b", "lazy"] {
            ledger.joined(member, member != "lazy");
        }
        ledger
    }

    fn process(ledger: &mut Ledger, member: &str, offsets: std::ops::Range<i64>) {
        ledger.assigned(member, 0).unwrap();
        offsets.for_each(|offset| ledger.processed(member, 0, offset).unwrap());
    }

    /// What `check` says when `b` goes on at an offset after `before` ended at 10, and everything gets committed.
    fn goes_on(before: &str, killed: bool, seen_committed: i64, at: i64) -> Result<(), String> {
        let mut ledger = ledger();
        process(&mut ledger, before, 0..10);
        match killed {
            true => ledger.killed(before),
            false => ledger.revoked(before, 0).unwrap(),
        }
        ledger.committed(0, seen_committed).unwrap();
        process(&mut ledger, "b", at..20);
        ledger.committed(0, 20).unwrap();
        ledger.check(&[20])
    }

    #[test]
    fn what_was_committed_comes_once() {
        goes_on("a", false, 10, 10).unwrap();
        goes_on("a", false, 10, 9).unwrap_err();
        goes_on("a", false, 10, 11).unwrap_err();
    }

    #[test]
    fn what_was_not_committed_may_come_again() {
        goes_on("lazy", false, 5, 5).unwrap();
        goes_on("lazy", false, 10, 10).unwrap();
        goes_on("lazy", false, 11, 11).unwrap_err();
        goes_on("a", true, 5, 5).unwrap();
    }

    #[test]
    fn who_is_killed_may_have_committed_more_than_it_told() {
        goes_on("a", true, 12, 12).unwrap();
        goes_on("a", true, 12, 11).unwrap_err();
        goes_on("a", true, 12, 13).unwrap_err();
    }

    #[test]
    fn offsets_are_in_order() {
        let mut ledger = ledger();
        process(&mut ledger, "a", 3..5);
        ledger.processed("a", 0, 4).unwrap_err();
        ledger.processed("a", 0, 6).unwrap_err();
        ledger.processed("a", 0, 5).unwrap();
        ledger.committed(0, 6).unwrap();
        // From the beginning.
        ledger.check(&[6]).unwrap_err();
    }

    #[test]
    fn only_owners_process() {
        let mut ledger = ledger();
        ledger.processed("a", 0, 0).unwrap_err();
        ledger.revoked("a", 0).unwrap_err();
        process(&mut ledger, "a", 0..1);
        ledger.assigned("a", 0).unwrap_err();
        ledger.processed("b", 0, 1).unwrap_err();
        ledger.revoked("a", 0).unwrap();
        ledger.processed("a", 0, 1).unwrap_err();
        ledger.assigned("a", 1).unwrap_err();
    }

    #[test]
    fn commits_go_on_to_the_end() {
        let mut ledger = ledger();
        process(&mut ledger, "a", 0..5);
        ledger.committed(0, -1).unwrap();
        assert!(ledger.is_done(&[5]) && !ledger.is_done(&[6]));
        ledger.revoked("a", 0).unwrap();
        ledger.committed(0, 4).unwrap();
        ledger.check(&[5]).unwrap_err();
        assert!(!ledger.is_done(&[5]));
        ledger.committed(0, 5).unwrap();
        assert!(ledger.is_done(&[5]));
        ledger.check(&[5]).unwrap();
        ledger.check(&[6]).unwrap_err();
        ledger.committed(0, 4).unwrap_err();
        ledger.committed(0, -1).unwrap_err();
    }

    #[test]
    fn all_share_all() {
        let mut ledger = Ledger::new(2);
        ledger.joined("a", true);
        ledger.assigned("a", 0).unwrap();
        assert!(!ledger.is_shared());
        ledger.assigned("a", 1).unwrap();
        assert!(ledger.is_shared());
        ledger.joined("b", true);
        assert!(!ledger.is_shared());
        ledger.assigned("b", 1).unwrap();
        assert!(!ledger.is_shared());
        ledger.revoked("a", 1).unwrap();
        assert!(ledger.is_shared());
        ledger.left("b");
        assert!(!ledger.is_shared());
    }
}
