//! Timers as data: what is due when.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::Mono;

/// Deadlines by what they are for. Putting one off, as every heartbeat does, only notes the new time: the entry in the queue
/// is moved once its old time comes.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    timers: BTreeMap<K, Timer>,
    queue: BTreeSet<(Mono, K)>,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    due: Mono,
    /// Where it stands in the queue: at `due` or before it.
    queued: Mono,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers {
            timers: BTreeMap::new(),
            queue: BTreeSet::new(),
        }
    }
}

impl<K: Clone + Ord> Timers<K> {
    /// Sets the time of `key`, in place of the one that it had.
    pub fn set(&mut self, key: K, due: Mono) {
        if let Some(timer) = self.timers.get_mut(&key) {
            if timer.queued <= due {
                timer.due = due;
                return;
            }
            self.queue.remove(&(timer.queued, key.clone()));
        }
        self.queue.insert((due, key.clone()));
        self.timers.insert(key, Timer { due, queued: due });
    }

    /// Forgets `key`.
    pub fn cancel(&mut self, key: &K) {
        if let Some((key, timer)) = self.timers.remove_entry(key) {
            self.queue.remove(&(timer.queued, key));
        }
    }

    /// When `key` is due.
    pub fn due(&self, key: &K) -> Option<Mono> {
        Some(self.timers.get(key)?.due)
    }

    /// When to call [`Timers::pop_due`] next: no later than the first deadline.
    pub fn next(&self) -> Option<Mono> {
        Some(self.queue.first()?.0)
    }

    /// Takes one that is due out.
    pub fn pop_due(&mut self, now: Mono) -> Option<K> {
        while self.next()? <= now {
            let (_, key) = self.queue.pop_first()?;
            let timer = self.timers.get_mut(&key)?;
            if timer.due <= now {
                self.timers.remove(&key);
                return Some(key);
            }
            timer.queued = timer.due;
            self.queue.insert((timer.due, key));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_once_at_the_time_that_was_set_last() {
        let mut timers = Timers::default();
        timers.set("a", Mono(10));
        timers.set("b", Mono(20));
        timers.set("a", Mono(30));
        timers.set("c", Mono(40));
        timers.set("c", Mono(15));
        timers.set("d", Mono(12));
        timers.cancel(&"d");
        assert_eq!(timers.pop_due(Mono(9)), None);
        assert_eq!(timers.pop_due(Mono(14)), None);
        assert_eq!(timers.due(&"a"), Some(Mono(30)));
        assert_eq!(timers.next(), Some(Mono(15)));
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(Mono(100))).collect();
        assert_eq!(fired, ["c", "b", "a"]);
        assert_eq!(timers.next(), None);
    }
}
