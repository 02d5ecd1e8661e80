//! One limit on the memory of all requests and answers under way (`ottla.request.memory.bytes`).
//!
//! A connection pays for what it holds: bytes received, structures decoded from them, answers that its client has not
//! taken. Small things are free, so that every connection can go on. At the limit whoever needs more waits; as partial
//! frames could wait for one another for ever, the connections that hold most with least progress are closed then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What is free: a connection's reserve.
pub(crate) const FREE_BYTES: usize = 16 * 1024;
/// How long others make room before somebody is closed.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much of the limit is freed then: one connection at a time would not help against many small ones.
const FREED_SHARE: usize = 8;

/// More is needed than may ever be held.
#[derive(Debug, thiserror::Error)]
#[error("{needed_bytes} bytes are needed, ottla.request.memory.bytes is {limit_bytes}")]
pub(crate) struct NoRoom {
    needed_bytes: usize,
    limit_bytes: usize,
}

/// The memory that may be held, and who holds it.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    /// How many wait for room.
    waiting: AtomicUsize,
    freed: Notify,
    /// Changed when connections come and go, read when somebody must be closed; never by requests.
    accounts: Mutex<Accounts>,
}

/// The use of `ottla.request.memory.bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestMemory {
    /// May be held.
    pub limit_bytes: usize,
    /// Are held; more than the limit at times, because what exists is counted even if there is no room.
    pub used_bytes: usize,
    /// How many connections wait for room.
    pub waiting: usize,
}

#[derive(Debug, Default)]
struct Accounts {
    next_id: u64,
    open: HashMap<u64, Weak<Account>>,
    reviewed: Option<Instant>,
}

impl Budget {
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Budget {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            accounts: Mutex::default(),
        })
    }

    /// `ottla.request.memory.bytes`.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    pub(crate) fn usage(&self) -> RequestMemory {
        RequestMemory {
            limit_bytes: self.limit_bytes,
            used_bytes: self.used_bytes.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// The account of a new connection.
    pub(crate) fn open(self: &Arc<Self>) -> Arc<Account> {
        let accounts = &mut *self.accounts.lock();
        let id = accounts.next_id;
        accounts.next_id += 1;
        let account = Arc::new(Account {
            budget: Arc::clone(self),
            id,
            opened: Instant::now(),
            last_moved_ms: AtomicU64::new(0),
            moved_bytes: AtomicU64::new(0),
            moved_at_review: AtomicU64::new(0),
            held_bytes: AtomicUsize::new(0),
            ending: AtomicU8::new(GOING_ON),
            is_hung_up: AtomicBool::new(false),
            waits: AtomicUsize::new(0),
            signal: Notify::new(),
        });
        accounts.open.insert(id, Arc::downgrade(&account));
        account
    }

    fn try_take(&self, bytes: usize) -> bool {
        let taken = self
            .used_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|used| *used <= self.limit_bytes)
            });
        taken.is_ok()
    }

    /// Waits until `bytes` more may be held, and takes them.
    async fn take(&self, bytes: usize) {
        if self.try_take(bytes) {
            return;
        }
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let freed = self.freed.notified();
            if self.try_take(bytes) {
                return;
            }
            if tokio::time::timeout(PATIENCE, freed).await.is_err() {
                self.review();
            }
        }
    }

    fn give_back(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::AcqRel);
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.freed.notify_waiters();
        }
    }

    /// Closes the connections that hold most beyond what they moved since the last review, until that frees a share of
    /// the limit: first those whose clients others wait for, then those that wait themselves.
    fn review(&self) {
        // Gathered first: the last owner of an account takes the lock when it drops it.
        let open: Vec<Arc<Account>> = {
            let accounts = &mut *self.accounts.lock();
            if accounts.reviewed.is_some_and(|reviewed| reviewed.elapsed() < PATIENCE) {
                return;
            }
            accounts.reviewed = Some(Instant::now());
            accounts.open.values().filter_map(Weak::upgrade).collect()
        };
        let stuck = open.iter().map(|account| (account.stuck_bytes(), account));
        let mut stuck: Vec<_> = stuck.filter(|(bytes, _)| *bytes > 0).collect();
        stuck.sort_by_cached_key(|(bytes, account)| {
            let waits = account.waits.load(Ordering::Relaxed) > 0;
            (waits, std::cmp::Reverse(*bytes))
        });
        let mut freed_bytes = 0;
        for (_, account) in stuck {
            if freed_bytes >= self.limit_bytes / FREED_SHARE {
                break;
            }
            freed_bytes += account.held_bytes.load(Ordering::Relaxed);
            account.end(CROWDED);
        }
    }
}

/// Whether and how a connection is to end; the larger number wins.
const GOING_ON: u8 = 0;
const STOPPING: u8 = 1;
const CROWDED: u8 = 2;

/// What one connection holds and moves, and how it is told to end: nothing here is shared with another connection, but
/// for the budget's one number.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<Budget>,
    id: u64,
    opened: Instant,
    last_moved_ms: AtomicU64,
    moved_bytes: AtomicU64,
    moved_at_review: AtomicU64,
    held_bytes: AtomicUsize,
    ending: AtomicU8,
    /// The client sends no more and, most likely, is gone.
    is_hung_up: AtomicBool,
    /// Above zero while it waits for room itself.
    waits: AtomicUsize,
    signal: Notify,
}

impl Account {
    /// Notes that bytes were received or sent, and tells when that was: now.
    pub(crate) fn moved(&self, bytes: usize) -> Instant {
        let now = Instant::now();
        let now_ms = u64::try_from(now.duration_since(self.opened).as_millis()).unwrap_or(u64::MAX);
        self.last_moved_ms.store(now_ms, Ordering::Relaxed);
        self.moved_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        now
    }

    /// When bytes moved last, in either direction.
    pub(crate) fn last_moved(&self) -> Instant {
        self.opened + Duration::from_millis(self.last_moved_ms.load(Ordering::Relaxed))
    }

    /// Has the connection end once what was accepted is answered.
    pub(crate) fn stop(&self) {
        self.end(STOPPING);
    }

    /// Returns once no more requests are to be read.
    pub(crate) async fn stopped(&self) {
        self.reached(STOPPING).await;
    }

    /// Returns once the connection must go to make room for others.
    pub(crate) async fn crowded_out(&self) {
        self.reached(CROWDED).await;
    }

    /// Notes that the client sends no more.
    pub(crate) fn hang_up(&self) {
        self.is_hung_up.store(true, Ordering::Release);
        self.signal.notify_waiters();
    }

    /// Returns once the client sends no more: what waits on its behalf need wait no longer.
    pub(crate) async fn hung_up(&self) {
        self.until(|| self.is_hung_up.load(Ordering::Acquire)).await;
    }

    fn end(&self, ending: u8) {
        self.ending.fetch_max(ending, Ordering::AcqRel);
        self.signal.notify_waiters();
    }

    async fn reached(&self, ending: u8) {
        self.until(|| self.ending.load(Ordering::Acquire) >= ending).await;
    }

    async fn until(&self, happened: impl Fn() -> bool) {
        loop {
            let signal = self.signal.notified();
            if happened() {
                return;
            }
            signal.await;
        }
    }

    /// Waits while the limit is reached. `is_spared` is for requests whose answers are small next to them: they wait
    /// only while the connection has answers that its client does not take.
    pub(crate) async fn admit(&self, is_spared: bool) {
        let is_full = self.budget.used_bytes.load(Ordering::Acquire) >= self.budget.limit_bytes;
        if is_full && !(is_spared && self.held_bytes.load(Ordering::Relaxed) == 0) {
            self.budget.take(1).await;
            self.budget.give_back(1);
        }
    }

    /// Takes room for `bytes` at once, even beyond the limit: for what exists already.
    pub(crate) fn force(self: &Arc<Self>, bytes: usize) -> Charge {
        let charged_bytes = if bytes > FREE_BYTES { bytes } else { 0 };
        if charged_bytes > 0 {
            self.budget.used_bytes.fetch_add(charged_bytes, Ordering::AcqRel);
            self.held_bytes.fetch_add(charged_bytes, Ordering::Relaxed);
        }
        Charge {
            account: Arc::clone(self),
            bytes: charged_bytes,
        }
    }

    /// Room that is yet to be paid for.
    pub(crate) fn charge(self: &Arc<Self>) -> Charge {
        self.force(0)
    }

    /// What the connection holds beyond what it moved since the last review; that was now.
    fn stuck_bytes(&self) -> u64 {
        let moved = self.moved_bytes.load(Ordering::Relaxed);
        let before = self.moved_at_review.swap(moved, Ordering::Relaxed);
        let held = self.held_bytes.load(Ordering::Relaxed) as u64;
        held.saturating_sub(moved.saturating_sub(before))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.accounts.lock().open.remove(&self.id);
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Room that a connection has; given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Charge {
    /// Waits for more room.
    pub(crate) async fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let limit_bytes = self.account.budget.limit_bytes;
        let needed_bytes = self.bytes.saturating_add(bytes);
        if needed_bytes > limit_bytes {
            return Err(NoRoom {
                needed_bytes,
                limit_bytes,
            });
        }
        {
            let _waiting = Waiting::new(&self.account.waits);
            self.account.budget.take(bytes).await;
        }
        self.account.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.account.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            self.account.budget.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_is_waited_for() {
        let budget = Budget::new(100_000);
        let (first, second) = (budget.open(), budget.open());
        let mut held = first.charge();
        held.grow(80_000).await.unwrap();
        let mut wanted = second.charge();
        let mut growing = std::pin::pin!(wanted.grow(30_000));
        assert!(tokio::time::timeout(PATIENCE / 2, &mut growing).await.is_err());
        let usage = |used_bytes, waiting| RequestMemory {
            limit_bytes: 100_000,
            used_bytes,
            waiting,
        };
        assert_eq!(budget.usage(), usage(80_000, 1));
        drop(held);
        growing.await.unwrap();
        assert_eq!(budget.usage(), usage(30_000, 0));
    }

    #[tokio::test]
    async fn the_connection_with_most_and_least_progress_is_closed() {
        let budget = Budget::new(100_000);
        let (stuck, moving, waiting) = (budget.open(), budget.open(), budget.open());
        let (mut of_stuck, mut of_moving) = (stuck.charge(), moving.charge());
        of_stuck.grow(40_000).await.unwrap();
        of_moving.grow(60_000).await.unwrap();
        moving.moved(50_000);
        let closing = async {
            stuck.crowded_out().await;
            drop(of_stuck);
        };
        let mut wanted = waiting.charge();
        let ended = tokio::time::timeout(PATIENCE * 10, async { tokio::join!(closing, wanted.grow(20_000)) });
        ended.await.expect("nobody was closed").1.unwrap();
        assert_eq!(moving.ending.load(Ordering::Acquire), GOING_ON);
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_holders_make_room_together() {
        let budget = Budget::new(100_000);
        let mut holders = Vec::new();
        for _ in 0..100 {
            let account = budget.open();
            let mut charge = account.charge();
            charge.grow(1_000).await.unwrap();
            holders.push(tokio::spawn(async move {
                account.crowded_out().await;
                drop(charge);
            }));
        }
        let mut wanted = budget.open().charge();
        let began = tokio::time::Instant::now();
        wanted.grow(12_000).await.unwrap();
        assert!(began.elapsed() <= PATIENCE * 2, "{:?}", began.elapsed());
        let closed = holders.iter().filter(|holder| holder.is_finished()).count();
        assert_eq!(closed, 13, "a share of the limit and no more");
    }

    #[tokio::test]
    async fn what_can_never_be_had_is_refused_at_once() {
        let budget = Budget::new(100_000);
        let mut charge = budget.open().charge();
        charge.grow(60_000).await.unwrap();
        assert!(charge.grow(60_000).await.is_err());
        charge.grow(40_000).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_only_spared_requests_of_those_who_hold_nothing_run() {
        let budget = Budget::new(100_000);
        let (holder, other) = (budget.open(), budget.open());
        let held = holder.force(150_000);
        other.admit(true).await;
        for (account, is_spared) in [(&holder, true), (&holder, false), (&other, false)] {
            let admitted = tokio::time::timeout(PATIENCE / 2, account.admit(is_spared)).await;
            assert!(admitted.is_err(), "{is_spared}");
        }
        drop(held);
        other.admit(false).await;
        holder.admit(true).await;
        assert_eq!(budget.used_bytes.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn who_waits_for_room_is_closed_after_who_holds_it() {
        let budget = Budget::new(100_000);
        let (holder, waiting) = (budget.open(), budget.open());
        let (mut of_holder, mut of_waiting) = (holder.charge(), waiting.charge());
        of_holder.grow(40_000).await.unwrap();
        of_waiting.grow(60_000).await.unwrap();
        let closing = async {
            holder.crowded_out().await;
            drop(of_holder);
        };
        let ended = tokio::time::timeout(PATIENCE * 10, async { tokio::join!(closing, of_waiting.grow(30_000)) });
        ended.await.expect("nobody was closed").1.unwrap();
        assert_eq!(waiting.ending.load(Ordering::Acquire), GOING_ON);
    }

    #[test]
    fn what_is_small_is_free() {
        let budget = Budget::new(100_000);
        let account = budget.open();
        let _small = account.force(FREE_BYTES);
        assert_eq!(budget.used_bytes.load(Ordering::Acquire), 0);
        let large = account.force(1_000_000);
        assert_eq!(budget.used_bytes.load(Ordering::Acquire), 1_000_000);
        drop(large);
        assert_eq!(budget.used_bytes.load(Ordering::Acquire), 0);
        drop(account);
        drop(_small);
        assert!(budget.accounts.lock().open.is_empty());
    }
}
