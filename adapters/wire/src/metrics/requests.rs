//! What becomes of requests: how many, how large, and where their time goes, by API.
//!
//! Every thread writes to counters that are its own while it lives, so that none waits for another, and a scrape adds
//! them up.

use std::cell::OnceCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::histogram::{Histogram, Totals};
use crate::api::{self, Api};

/// More versions than any API has, and more APIs than there are.
const VERSIONS_MAX: usize = 32;
const KEYS_MAX: usize = 96;
/// Fetches of followers, which Kafka tells from those of consumers.
const FOLLOWER_FETCHES: usize = KEYS_MAX;
const PLACES: usize = KEYS_MAX + 1;

/// Nothing is recorded, and no clock read for it, until somebody wants to know.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// The time, if anybody wants to know how requests spend it.
pub(crate) fn now() -> Option<Instant> {
    IS_ON.load(Ordering::Relaxed).then(Instant::now)
}

/// What is measured of each request: Kafka's `RequestMetrics`, but for throttling, which there is none of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Measure {
    /// From its last byte to its turn: requests before it on its connection, and room in `ottla.request.memory.bytes`.
    RequestQueueTime,
    /// Until it is done or waits for something else.
    LocalTime,
    /// Until its answer is known: replicas, syncs, records to come, and the answers that go before.
    RemoteTime,
    /// Until the answers before it are written.
    ResponseQueueTime,
    /// Until the kernel has taken the last byte of the answer.
    ResponseSendTime,
    /// All of that.
    TotalTime,
    /// The size of its body.
    RequestBytes,
}

impl Measure {
    /// All of them, in the order of their numbers.
    pub const ALL: [Measure; 7] = [
        Measure::RequestQueueTime,
        Measure::LocalTime,
        Measure::RemoteTime,
        Measure::ResponseQueueTime,
        Measure::ResponseSendTime,
        Measure::TotalTime,
        Measure::RequestBytes,
    ];

    /// The end of its name in the metrics of Apache Kafka.
    pub fn name(self) -> &'static str {
        match self {
            Measure::RequestQueueTime => "requestqueuetimems",
            Measure::LocalTime => "localtimems",
            Measure::RemoteTime => "remotetimems",
            Measure::ResponseQueueTime => "responsequeuetimems",
            Measure::ResponseSendTime => "responsesendtimems",
            Measure::TotalTime => "totaltimems",
            Measure::RequestBytes => "requestbytes",
        }
    }

    /// How much of what is recorded makes one of what is shown.
    fn unit(self) -> f64 {
        match self {
            Measure::RequestBytes => 1.0,
            _ => 1_000_000.0,
        }
    }
}

/// A request that was executed, up to where the next one may run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Executed {
    pub(crate) api: &'static Api,
    /// It is the fetch of a replica.
    pub(crate) by_follower: bool,
    pub(crate) version: i16,
    pub(crate) body_bytes: usize,
    /// Its last byte was received.
    pub(crate) received: Instant,
    /// Its execution began.
    pub(crate) begun: Instant,
    /// Its execution ended.
    pub(crate) done: Instant,
}

impl Executed {
    fn place(self) -> Option<usize> {
        match self.by_follower {
            true => Some(FOLLOWER_FETCHES),
            false => usize::try_from(self.api.key).ok(),
        }
    }

    /// Records a request that has no answer.
    pub(crate) fn silently(self) {
        if IS_ON.load(Ordering::Relaxed) {
            self.answered(self.done, self.done, self.done);
        }
    }

    /// Records a request whose answer was `known` and `taken` to be sent; it was sent now, at `sent`.
    pub(crate) fn answered(self, known: Instant, taken: Instant, sent: Instant) {
        let nanos = |from: Instant, to: Instant| {
            let nanos = to.saturating_duration_since(from).as_nanos();
            u64::try_from(nanos).unwrap_or(u64::MAX)
        };
        // Answers that go out together were taken together, before the later ones among them were known.
        let taken = taken.max(known);
        let values = [
            nanos(self.received, self.begun),
            nanos(self.begun, self.done),
            nanos(self.done, known),
            nanos(known, taken),
            nanos(taken, sent),
            nanos(self.received, sent),
            self.body_bytes as u64,
        ];
        OF_THREAD.with(|lease| {
            let Lease(counters) = lease.get_or_init(Lease::take);
            if let Some(of_api) = self.place().and_then(|place| counters.0.get(place)) {
                of_api
                    .get_or_init(|| Box::new(OfApi::new()))
                    .record(self.version, values);
            }
        });
    }
}

/// The counters of one thread at a time, by key of the API.
struct Counters([OnceLock<Box<OfApi>>; PLACES]);

/// As many as there ever were threads at a time that had served connections. They are leaked, because what a thread
/// counted stays when it is gone.
static ALL: Mutex<Vec<&'static Counters>> = Mutex::new(Vec::new());
/// Those whose threads are gone, for the next ones: workers come and go where a disk holds them up (`block_in_place`).
static FREE: Mutex<Vec<&'static Counters>> = Mutex::new(Vec::new());

thread_local! {
    static OF_THREAD: OnceCell<Lease> = const { OnceCell::new() };
}

/// The counters that a thread writes to until it ends.
struct Lease(&'static Counters);

impl Lease {
    fn take() -> Lease {
        let free = FREE.lock().pop();
        Lease(free.unwrap_or_else(|| {
            let counters = Box::leak(Box::new(Counters([const { OnceLock::new() }; PLACES])));
            ALL.lock().push(counters);
            counters
        }))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        FREE.lock().push(self.0);
    }
}

/// The requests of one API, as one thread saw them.
struct OfApi {
    count: AtomicU64,
    by_version: [AtomicU64; VERSIONS_MAX],
    measures: [Histogram; Measure::ALL.len()],
}

impl OfApi {
    const fn new() -> Self {
        OfApi {
            count: AtomicU64::new(0),
            by_version: [const { AtomicU64::new(0) }; VERSIONS_MAX],
            measures: [const { Histogram::new() }; Measure::ALL.len()],
        }
    }

    fn record(&self, version: i16, values: [u64; Measure::ALL.len()]) {
        // The thread is the only writer.
        let add_one = |counter: &AtomicU64| counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        add_one(&self.count);
        let of_version = usize::try_from(version).ok();
        if let Some(counter) = of_version.and_then(|version| self.by_version.get(version)) {
            add_one(counter);
        }
        for (histogram, value) in self.measures.iter().zip(values) {
            histogram.record(value);
        }
    }
}

/// The requests of one API, as all threads saw them.
struct Sum {
    count: u64,
    by_version: [u64; VERSIONS_MAX],
    measures: [Totals; Measure::ALL.len()],
}

impl Sum {
    /// `None` when there were no requests.
    fn of(places: &[usize]) -> Option<Sum> {
        let mut sum: Option<Sum> = None;
        let all = ALL.lock();
        let counters = all
            .iter()
            .flat_map(|counters| places.iter().map(|place| counters.0.get(*place)));
        for of_api in counters.flatten().filter_map(OnceLock::get) {
            let sum = sum.get_or_insert_with(|| Sum {
                count: 0,
                by_version: [0; VERSIONS_MAX],
                measures: std::array::from_fn(|_| Totals::new()),
            });
            sum.count += of_api.count.load(Ordering::Relaxed);
            for (sum, counter) in sum.by_version.iter_mut().zip(&of_api.by_version) {
                *sum += counter.load(Ordering::Relaxed);
            }
            for (sum, histogram) in sum.measures.iter_mut().zip(&of_api.measures) {
                sum.add(histogram);
            }
        }
        sum
    }

    fn since<const N: usize>(&self, earlier: Option<&Sum>, name: &'static str, quantiles: [f64; N]) -> ApiRequests<N> {
        let by_version = (0..).zip(self.by_version).filter(|(_, count)| *count > 0);
        let summary = |measure: Measure| {
            let earlier = earlier.and_then(|earlier| earlier.measures.get(measure as usize));
            let now = self.measures.get(measure as usize);
            let of_recent = now.map_or([0.0; N], |now| now.quantiles(earlier, quantiles));
            Summary {
                sum: now.map_or(0.0, |now| now.sum as f64 / measure.unit()),
                quantiles: of_recent.map(|value| value / measure.unit()),
            }
        };
        ApiRequests {
            name,
            count: self.count,
            by_version: by_version.collect(),
            measures: Measure::ALL.map(summary),
        }
    }
}

/// What is shown, and where its counters are. As in Kafka, a fetch counts twice: as such, and as a consumer's or follower's.
fn rows() -> impl Iterator<Item = (&'static str, Vec<usize>)> {
    api::all().flat_map(|api| {
        let places: Vec<usize> = usize::try_from(api.key).into_iter().collect();
        match api.name {
            "Fetch" => vec![
                (api.name, [&*places, &[FOLLOWER_FETCHES]].concat()),
                ("FetchConsumer", places),
                ("FetchFollower", vec![FOLLOWER_FETCHES]),
            ],
            name => vec![(name, places)],
        }
    })
}

/// The requests of one API.
#[derive(Clone, Debug)]
pub struct ApiRequests<const N: usize> {
    /// Kafka's name, as `CreateTopics`; `FetchConsumer` and `FetchFollower` are parts of `Fetch`.
    pub name: &'static str,
    /// How many there were, of any version.
    pub count: u64,
    /// How many there were of each version that was in use.
    pub by_version: Vec<(i16, u64)>,
    /// In the order of [`Measure::ALL`].
    pub measures: [Summary<N>; Measure::ALL.len()],
}

/// A measure of the requests of one API, in milliseconds or bytes.
#[derive(Clone, Copy, Debug)]
pub struct Summary<const N: usize> {
    /// Of all requests.
    pub sum: f64,
    /// Of the requests since an earlier moment; 0 when there were none.
    pub quantiles: [f64; N],
}

/// Has all listeners record requests from now on.
pub fn record_requests() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// All that was recorded up to a moment.
pub struct RequestTotals(Vec<Option<Sum>>);

impl RequestTotals {
    /// Up to now.
    pub fn now() -> Self {
        RequestTotals(rows().map(|(_, places)| Sum::of(&places)).collect())
    }

    /// Every API that was used, in the order of the keys, with quantiles of what came after `earlier`.
    pub fn since<const N: usize>(&self, earlier: &RequestTotals, quantiles: [f64; N]) -> Vec<ApiRequests<N>> {
        let sums = self.0.iter().zip(&earlier.0);
        let summarize = |((name, _), (sum, earlier)): (_, (&Option<Sum>, &Option<Sum>))| {
            Some(sum.as_ref()?.since(earlier.as_ref(), name, quantiles))
        };
        rows().zip(sums).filter_map(summarize).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_api_has_its_place() {
        for api in api::all() {
            assert!((0..KEYS_MAX as i16).contains(&api.key), "{api:?}");
            assert!((0..VERSIONS_MAX as i16).contains(&api.max_version), "{api:?}");
        }
        assert!(
            Measure::ALL
                .iter()
                .enumerate()
                .all(|(index, measure)| *measure as usize == index)
        );
    }

    #[test]
    fn threads_take_over_the_counters_of_those_that_ended() {
        let count = || ALL.lock().len();
        let (before, threads) = (count(), 1000);
        for _ in 0..threads {
            let take = || OF_THREAD.with(|lease| lease.get_or_init(Lease::take).0.0.len());
            assert_eq!(std::thread::spawn(take).join().unwrap(), PLACES);
        }
        // Other tests have threads, too.
        assert!(count() - before < threads / 2);
    }

    #[test]
    fn what_threads_saw_is_added_up() {
        record_requests();
        let before = RequestTotals::now();
        // No other test has connections that ask for this.
        let api = api::all().find(|api| api.name == "UnregisterBroker").unwrap();
        let received = now().unwrap();
        let after = move |ms| received + Duration::from_millis(ms);
        let record = move || {
            let request = Executed {
                api,
                by_follower: false,
                version: 0,
                body_bytes: 100,
                received,
                begun: after(1),
                done: after(3),
            };
            // Taken together with others, before it was known.
            request.answered(after(10), after(5), after(30));
            request.silently();
        };
        let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(record)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let read = RequestTotals::now().since(&before, [0.99]);
        let read = read.iter().find(|read| read.name == api.name).unwrap();
        assert_eq!((read.count, &read.by_version), (6, &vec![(0, 6)]));
        let sums = read.measures.map(|summary| summary.sum);
        assert_eq!(sums, [6.0, 12.0, 21.0, 0.0, 60.0, 99.0, 600.0]);
        for (measure, largest) in Measure::ALL.into_iter().zip([1.0, 2.0, 7.0, 0.0, 20.0, 30.0, 100.0]) {
            let [found] = read.measures[measure as usize].quantiles;
            assert!((found - largest).abs() <= largest / 16.0, "{measure:?}: {found}");
        }
    }
}
