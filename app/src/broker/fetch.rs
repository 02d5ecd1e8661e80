//! Fetch: sessions, reading, and waiting for records.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ottla_domain::error::ErrorCode;
use ottla_domain::fetch::sessions::{Asked, FetchContext};
use ottla_domain::ids::{BrokerId, Mono};
use ottla_domain::metadata::image::MetadataImage;
use ottla_domain::metadata::topics::TopicImage;
use ottla_domain::ports::inbound::{Fetch, FetchApi, FetchPartition, FetchReply, Fetched, TopicRef, Waiting};
use ottla_domain::ports::outbound::{Clock, Entropy, LogStore, PartitionLog};
use tokio::time::Instant;

use super::partition::{Partition, Reader};
use super::table::{known_leader, known_topic};
use super::traffic::Count;
use super::waiters::Watch;
use super::{Broker, RegionOf};
use crate::services::Services;

/// A partition of a request: the replica to read, or why there is none.
struct Wanted<L: PartitionLog> {
    asked: Asked,
    source: Result<Arc<Partition<L>>, ErrorCode>,
}

/// What is to be done for a partition of a request.
enum Step<L: PartitionLog> {
    Read(Arc<Partition<L>>, FetchPartition),
    Failed(Box<Fetched<L::Region>>),
}

impl<L: PartitionLog> Step<L> {
    /// True when no disk has to be waited for.
    fn is_quick(&self) -> bool {
        match self {
            Step::Read(partition, request) => partition.is_resident(request.fetch_offset),
            Step::Failed(_) => true,
        }
    }
}

/// A fetch under way.
struct Run<S: LogStore> {
    broker: Arc<Broker<S>>,
    wanted: Vec<Wanted<S::Log>>,
    context: FetchContext,
    session_id: i32,
    reader: Reader,
    min_bytes: usize,
    max_bytes: usize,
}

impl<S: LogStore> FetchApi for Services<S> {
    type Region = RegionOf<S>;

    async fn fetch(
        &self,
        mut request: Fetch,
        hung_up: impl Future<Output = ()> + Send + 'static,
    ) -> Waiting<FetchReply<Self::Region>> {
        let broker = Arc::clone(&self.broker);
        let session_id = request.session_id;
        let image = broker.image();
        let name_of = |topic: &TopicRef| match topic {
            TopicRef::Name(_) => None,
            TopicRef::Id(_) => known_topic(&image, topic).ok().map(|known| Arc::clone(&known.name)),
        };
        let begun = broker
            .sessions
            .shard(session_id)
            .lock()
            .begin(broker.tools.clock.mono(), &mut request, name_of);
        let (partitions, context) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                return Waiting::Ready(FetchReply {
                    error,
                    session_id: 0,
                    topics: Vec::new(),
                });
            }
        };
        let max_bytes = usize::try_from(request.max_bytes.min(broker.settings.fetch_max_bytes)).unwrap_or(0);
        let run = Run {
            wanted: broker.resolve(partitions),
            context,
            session_id,
            reader: Reader {
                replica: request.replica,
                isolation: request.isolation,
            },
            // Nobody waits for more than may be returned.
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            max_bytes,
            broker,
        };
        let read = run.read().await;
        if request.max_wait_ms <= 0 || run.is_enough(&read) {
            return Waiting::Ready(run.finish(read));
        }
        let deadline = Instant::now() + patience(run.broker.tools.clock.mono(), request.max_wait_ms);
        Waiting::Later(Box::pin(run.wait(deadline, hung_up)))
    }
}

/// How long a fetch waits for records that do not come. Waits end together, at multiples of a sixty-fourth of their
/// length: thousands of idle consumers would otherwise wake the node thousands of times a second.
fn patience(now: Mono, max_wait_ms: i32) -> Duration {
    let max_wait_ns = u64::try_from(max_wait_ms).unwrap_or(0) * 1_000_000;
    let end_ns = now.0.saturating_add(max_wait_ns);
    let together_ns = end_ns.checked_next_multiple_of((max_wait_ns / 64).max(1));
    Duration::from_nanos(together_ns.unwrap_or(end_ns) - now.0)
}

impl<S: LogStore> Broker<S> {
    fn resolve(&self, partitions: Vec<Asked>) -> Vec<Wanted<S::Log>> {
        let image = self.image();
        let table = self.partitions.load();
        let resolve = |asked: Asked| {
            let known = asked_topic(&image, &asked);
            let source = known.and_then(|known| table.find(known, asked.request.partition).cloned());
            Wanted { asked, source }
        };
        partitions.into_iter().map(resolve).collect()
    }
}

/// The topic that is asked for. One that is known by name has gone, or has made place for another, when its id leads
/// nowhere.
fn asked_topic<'a>(image: &'a MetadataImage, asked: &Asked) -> Result<&'a TopicImage, ErrorCode> {
    known_topic(image, &asked.topic).map_err(|error| {
        let Some(name) = &asked.name else { return error };
        let namesake = image.topics.by_name(name);
        match namesake.and_then(|namesake| namesake.partition(asked.request.partition)) {
            Some(_) => ErrorCode::InconsistentTopicId,
            None => ErrorCode::UnknownTopicOrPartition,
        }
    })
}

impl<S: LogStore> Run<S> {
    /// Reads every partition; on another thread if any of it may wait for a disk.
    async fn read(&self) -> Vec<Fetched<RegionOf<S>>> {
        let steps: Vec<_> = self.wanted.iter().map(|wanted| self.step(wanted)).collect();
        let (reader, max_bytes) = (self.reader, self.max_bytes);
        if steps.iter().all(Step::is_quick) {
            return read(steps, reader, max_bytes);
        }
        let task = tokio::task::spawn_blocking(move || read(steps, reader, max_bytes));
        let failed =
            |wanted: &Wanted<_>| Fetched::failed(wanted.asked.request.partition, ErrorCode::UnknownServerError);
        task.await.unwrap_or_else(|_| self.wanted.iter().map(failed).collect())
    }

    fn step(&self, wanted: &Wanted<S::Log>) -> Step<S::Log> {
        match &wanted.source {
            Ok(partition) => Step::Read(Arc::clone(partition), wanted.asked.request),
            Err(error) => {
                let mut failed = Fetched::failed(wanted.asked.request.partition, *error);
                if *error == ErrorCode::NotLeaderOrFollower {
                    failed.current_leader =
                        known_leader(&self.broker.image.load(), &wanted.asked.topic, failed.partition);
                }
                Step::Failed(Box::new(failed))
            }
        }
    }

    /// True when the answer need not wait. Topics that the cluster does not know do not hurry the others' wait, as in
    /// Kafka; any other error does.
    fn is_enough(&self, read: &[Fetched<RegionOf<S>>]) -> bool {
        let known = || {
            let is_unknown = |error| matches!(error, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId);
            let all = self.wanted.iter().zip(read);
            all.filter(move |(wanted, _)| !wanted.source.as_ref().err().is_some_and(|error| is_unknown(*error)))
                .map(|(_, read)| read)
        };
        let urgent = |read: &Fetched<_>| {
            !read.error.is_none() || read.diverging_epoch.is_some() || read.preferred_read_replica != BrokerId::NONE
        };
        known().next().is_none() || known().any(urgent) || known().map(size_of).sum::<usize>() >= self.min_bytes
    }

    async fn wait(mut self, deadline: Instant, hung_up: impl Future<Output = ()>) -> FetchReply<RegionOf<S>> {
        let mut hung_up = pin!(hung_up);
        let watch = Watch::new(
            self.wanted
                .iter()
                .filter_map(|wanted| wanted.source.as_ref().ok())
                .cloned()
                .collect(),
        );
        loop {
            // Read after joining the waiters, so that no append in between is missed.
            let read = self.read().await;
            if self.has_moved() {
                let wanted = std::mem::take(&mut self.wanted);
                self.wanted = self
                    .broker
                    .resolve(wanted.into_iter().map(|wanted| wanted.asked).collect());
                let read = self.read().await;
                return self.finish(read);
            }
            if self.is_enough(&read) {
                return self.finish(read);
            }
            let has_changed = tokio::select! {
                biased;
                () = &mut hung_up => false,
                has_changed = watch.changed(deadline) => has_changed,
            };
            if !has_changed {
                return self.finish(read);
            }
        }
    }

    /// True when a replica was replaced or left this broker while the fetch waited.
    fn has_moved(&self) -> bool {
        self.wanted
            .iter()
            .any(|wanted| wanted.source.as_ref().is_ok_and(|partition| partition.is_closed()))
    }

    fn count(&self, read: &[Fetched<RegionOf<S>>]) {
        let bytes_out = if self.reader.replica.is_broker() {
            Count::ReplicationBytesOut
        } else {
            Count::BytesOut
        };
        for (wanted, fetched) in self.wanted.iter().zip(read) {
            let Ok(partition) = &wanted.source else { continue };
            partition.traffic.add(Count::TotalFetchRequests, 1);
            partition.traffic.add(bytes_out, size_of(fetched) as u64);
            if fetched.error == ErrorCode::UnknownServerError {
                partition.traffic.add(Count::FailedFetchRequests, 1);
            }
        }
    }

    fn finish(self, read: Vec<Fetched<RegionOf<S>>>) -> FetchReply<RegionOf<S>> {
        self.count(&read);
        let broker = &self.broker;
        let mut reply: Vec<_> = self
            .wanted
            .into_iter()
            .map(|wanted| wanted.asked.topic)
            .zip(read)
            .collect();
        let sessions = &broker.sessions;
        let shard = if self.context.is_new() {
            sessions.next_shard()
        } else {
            sessions.shard(self.session_id)
        };
        let (now, entropy) = (broker.tools.clock.mono(), broker.tools.entropy.draw());
        let finished = shard.lock().finish(now, entropy, self.context, &mut reply);
        match finished {
            Err(error) => FetchReply {
                error,
                session_id: 0,
                topics: Vec::new(),
            },
            Ok(session_id) => FetchReply {
                error: ErrorCode::None,
                session_id,
                topics: by_topic(reply),
            },
        }
    }
}

/// Reads partition after partition, each limited by what the ones before it left of `max_bytes`; the first batch of all is
/// returned even if it is larger than every limit, so that a reader always gets on (KIP-74).
fn read<L: PartitionLog>(steps: Vec<Step<L>>, reader: Reader, max_bytes: usize) -> Vec<Fetched<L::Region>> {
    let mut left_bytes = max_bytes;
    let mut at_least_one = true;
    let read = |step| match step {
        Step::Failed(failed) => *failed,
        Step::Read(partition, request) => {
            let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(left_bytes);
            let fetched = partition.read(&request, reader, max_bytes, at_least_one);
            let size_bytes = size_of(&fetched);
            at_least_one &= size_bytes == 0;
            left_bytes = left_bytes.saturating_sub(size_bytes);
            fetched
        }
    };
    steps.into_iter().map(read).collect()
}

fn size_of<R>(fetched: &Fetched<R>) -> usize {
    fetched.records.as_ref().map_or(0, |records| records.size_bytes())
}

/// Groups neighbours of the same topic.
fn by_topic<R>(reply: Vec<(TopicRef, Fetched<R>)>) -> Vec<(TopicRef, Vec<Fetched<R>>)> {
    let mut topics: Vec<(TopicRef, Vec<Fetched<R>>)> = Vec::new();
    for (topic, fetched) in reply {
        match topics.last_mut() {
            Some((last, partitions)) if *last == topic => partitions.push(fetched),
            _ => topics.push((topic, vec![fetched])),
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_together_and_never_early() {
        let end = |now, max_wait_ms| Duration::from_nanos(now) + patience(Mono(now), max_wait_ms);
        let (ms, start) = (1_000_000, 7_812_500 * 3 + 1);
        assert_eq!(end(start, 500), end(start + 7 * ms, 500));
        for max_wait_ms in [1, 20, 500, i32::MAX] {
            let least = Duration::from_millis(max_wait_ms as u64);
            let found = patience(Mono(start), max_wait_ms);
            assert!(found >= least && found <= least + least / 64, "{found:?}");
        }
    }
}
