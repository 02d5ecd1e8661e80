//! Incremental fetch sessions (KIP-227): a client names its partitions once, later requests carry only changes, and
//! replies carry only partitions that have something to tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::ErrorCode;
use crate::ids::{BrokerId, Mono, Offset, PartitionId};
use crate::ports::inbound::{Fetch, FetchPartition, Fetched, TopicRef};

const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

type Key = (TopicRef, PartitionId);

/// A partition to read.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its topic, as the request names it.
    pub topic: TopicRef,
    /// Where to read it, and how much.
    pub request: FetchPartition,
    /// The name of a topic that is given by id, remembered by the session: the topic may have gone since, or another one
    /// may have its name.
    pub name: Option<Arc<str>>,
}

#[derive(Debug)]
struct CachedPartition {
    request: FetchPartition,
    name: Option<Arc<str>>,
    high_watermark: Offset,
    log_start_offset: Offset,
    /// Its place in the session's order: partitions that returned records go to the end, so that none starves.
    turn: u64,
}

#[derive(Debug)]
struct Session {
    /// Followers' sessions are never evicted for consumers'.
    privileged: bool,
    by_topic_id: bool,
    /// The epoch that the next request must carry.
    epoch: i32,
    partitions: BTreeMap<Key, CachedPartition>,
    turns: BTreeMap<u64, Key>,
    next_turn: u64,
    created: Mono,
    last_used: Mono,
}

impl Session {
    fn put(&mut self, asked: Asked) {
        let Asked { topic, request, name } = asked;
        let key = (topic, request.partition);
        if let Some(cached) = self.partitions.get_mut(&key) {
            cached.request = request;
            return;
        }
        let turn = self.take_turn();
        self.turns.insert(turn, key.clone());
        let cached = CachedPartition {
            request,
            name,
            high_watermark: Offset::NONE,
            log_start_offset: Offset::NONE,
            turn,
        };
        self.partitions.insert(key, cached);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(cached) = self.partitions.remove(key) {
            self.turns.remove(&cached.turn);
        }
    }

    fn take_turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    /// Remembers what a reply tells of a partition and says whether it is worth telling.
    fn note<R>(&mut self, key: &Key, fetched: &Fetched<R>) -> bool {
        let turn = self.take_turn();
        let Some(cached) = self.partitions.get_mut(key) else {
            return true;
        };
        let mut tell = fetched.preferred_read_replica != BrokerId::NONE || fetched.diverging_epoch.is_some();
        if cached.high_watermark != fetched.high_watermark {
            cached.high_watermark = fetched.high_watermark;
            tell = true;
        }
        if cached.log_start_offset != fetched.log_start_offset {
            cached.log_start_offset = fetched.log_start_offset;
            tell = true;
        }
        if !fetched.error.is_none() {
            // So that the partition is told of again when the error has gone.
            cached.high_watermark = Offset::NONE;
            tell = true;
        }
        if fetched.records.as_ref().is_some_and(|records| records.size_bytes() > 0) {
            tell = true;
            self.turns.remove(&cached.turn);
            cached.turn = turn;
            self.turns.insert(turn, key.clone());
        }
        tell
    }

    fn asked(&mut self, name_of: impl Fn(&TopicRef) -> Option<Arc<str>>) -> Vec<Asked> {
        let mut all = Vec::with_capacity(self.turns.len());
        for key in self.turns.values() {
            let Some(cached) = self.partitions.get_mut(key) else {
                continue;
            };
            if cached.name.is_none() {
                cached.name = name_of(&key.0);
            }
            all.push(Asked {
                topic: key.0.clone(),
                request: cached.request,
                name: cached.name.clone(),
            });
        }
        all
    }
}

/// What a request is part of; [`SessionCache::finish`] wants it back.
#[derive(Debug)]
pub struct FetchContext(Kind);

impl FetchContext {
    /// True when the reply starts a session: [`SessionCache::finish`] may be that of any cache.
    pub fn is_new(&self) -> bool {
        matches!(self.0, Kind::Full { .. })
    }
}

#[derive(Debug)]
enum Kind {
    Sessionless,
    Full {
        privileged: bool,
        by_topic_id: bool,
        partitions: Vec<Asked>,
    },
    Incremental {
        session_id: i32,
        epoch: i32,
    },
}

/// The fetch sessions of a broker, or one share of them: session ids are unique within `ids`, so that several caches
/// with their own locks can serve one broker.
#[derive(Debug)]
pub struct SessionCache {
    sessions: BTreeMap<i32, Session>,
    /// How many partitions they remember together.
    partition_count: usize,
    partitions_max: usize,
    capacity: usize,
    eviction_ms: i64,
    ids: std::ops::Range<i32>,
}

impl SessionCache {
    /// A cache of up to `capacity` sessions (`max.incremental.fetch.session.cache.slots`), in which a session unused
    /// for `eviction_ms` makes room for any other, and of up to `partitions_max` partitions in all of them. Kafka has no
    /// such limit; a client whose partitions find no room has no session and names them all each time.
    pub fn new(capacity: usize, partitions_max: usize, eviction_ms: i64, ids: std::ops::Range<i32>) -> Self {
        SessionCache {
            sessions: BTreeMap::new(),
            partition_count: 0,
            partitions_max,
            capacity,
            eviction_ms,
            ids,
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// True without sessions.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many partitions all sessions remember.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    fn remove(&mut self, session_id: i32) -> bool {
        let removed = self.sessions.remove(&session_id);
        self.partition_count -= removed.as_ref().map_or(0, |session| session.partitions.len());
        removed.is_some()
    }

    /// Takes in a request: all partitions to read in the session's order, and the context for the reply. `name_of` tells
    /// the names of topics given by id that exist now.
    ///
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH or FETCH_SESSION_TOPIC_ID_ERROR tell the client to start
    /// a new session.
    pub fn begin(
        &mut self,
        now: Mono,
        request: &mut Fetch,
        name_of: impl Fn(&TopicRef) -> Option<Arc<str>>,
    ) -> Result<(Vec<Asked>, FetchContext), ErrorCode> {
        let asked = |(topic, request)| Asked {
            name: name_of(&topic),
            topic,
            request,
        };
        if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            if request.session_id != NO_SESSION {
                self.remove(request.session_id);
            }
            let partitions = last_of_each(std::mem::take(&mut request.partitions));
            let partitions: Vec<_> = partitions.into_iter().map(asked).collect();
            let context = if request.session_epoch == FINAL_EPOCH {
                Kind::Sessionless
            } else {
                let privileged = request.replica.is_broker();
                Kind::Full {
                    privileged,
                    by_topic_id: request.by_topic_id,
                    partitions: partitions.clone(),
                }
            };
            return Ok((partitions, FetchContext(context)));
        }
        let session = self
            .sessions
            .get_mut(&request.session_id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_topic_id != request.by_topic_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let before = session.partitions.len();
        request
            .partitions
            .drain(..)
            .map(asked)
            .for_each(|asked| session.put(asked));
        for key in request.forgotten.drain(..) {
            session.remove(&key);
        }
        self.partition_count = self.partition_count + session.partitions.len() - before;
        if self.partition_count > self.partitions_max {
            self.remove(request.session_id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        if session.partitions.is_empty() {
            self.remove(request.session_id);
            return Ok((Vec::new(), FetchContext(Kind::Sessionless)));
        }
        session.last_used = now;
        session.epoch = next_epoch(session.epoch);
        let context = Kind::Incremental {
            session_id: request.session_id,
            epoch: session.epoch,
        };
        Ok((session.asked(name_of), FetchContext(context)))
    }

    /// Completes a reply: drops what an incremental reply need not tell, and returns the session id to tell the client
    /// (0 for none). An error means that the session went on or went away while the fetch waited.
    pub fn finish<R>(
        &mut self,
        now: Mono,
        entropy: u128,
        context: FetchContext,
        reply: &mut Vec<(TopicRef, Fetched<R>)>,
    ) -> Result<i32, ErrorCode> {
        match context.0 {
            Kind::Sessionless => Ok(NO_SESSION),
            Kind::Incremental { session_id, epoch } => {
                // A session that was evicted meanwhile still answers in full; the next request learns of it.
                let Some(session) = self.sessions.get_mut(&session_id) else {
                    return Ok(session_id);
                };
                if session.epoch != epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                reply.retain(|(topic, fetched)| session.note(&(topic.clone(), fetched.partition), fetched));
                Ok(session_id)
            }
            Kind::Full {
                privileged,
                by_topic_id,
                partitions,
            } => {
                if partitions.is_empty() || !self.make_room(now, privileged, partitions.len()) {
                    return Ok(NO_SESSION);
                }
                let mut session = Session {
                    privileged,
                    by_topic_id,
                    epoch: next_epoch(INITIAL_EPOCH),
                    partitions: BTreeMap::new(),
                    turns: BTreeMap::new(),
                    next_turn: 0,
                    created: now,
                    last_used: now,
                };
                partitions.into_iter().for_each(|asked| session.put(asked));
                for (topic, fetched) in reply.iter() {
                    session.note(&(topic.clone(), fetched.partition), fetched);
                }
                self.partition_count += session.partitions.len();
                let id = self.free_id(entropy);
                self.sessions.insert(id, session);
                Ok(id)
            }
        }
    }

    fn free_id(&self, entropy: u128) -> i32 {
        let first = self.ids.start.max(1);
        let count = i64::from(self.ids.end.saturating_sub(first)).max(1);
        let mut id = first.saturating_add((entropy % count as u128) as i32);
        while self.sessions.contains_key(&id) {
            id = if id + 1 < self.ids.end { id + 1 } else { first };
        }
        id
    }

    /// Evicts a session when the cache is full and one may go: one that is stale, or one that is worth less than the new
    /// one (a consumer's for a follower's, a smaller one for a larger one) unless it is new itself.
    fn make_room(&mut self, now: Mono, privileged: bool, partitions: usize) -> bool {
        let has_room = |freed: usize| (self.partition_count - freed).saturating_add(partitions) <= self.partitions_max;
        if self.sessions.len() < self.capacity && has_room(0) {
            return true;
        }
        let stale = |session: &Session| now.ms_since(session.last_used) > self.eviction_ms;
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.last_used);
        let victim = match oldest {
            Some((id, session)) if stale(session) => Some(*id),
            _ => {
                let worth = |session: &Session| (session.privileged, session.partitions.len());
                let evictable = |session: &Session| {
                    (privileged && !session.privileged) || now.ms_since(session.created) > self.eviction_ms
                };
                let candidates = self.sessions.iter().filter(|(_, session)| evictable(session));
                let least = candidates.min_by_key(|(_, session)| worth(session));
                least
                    .filter(|(_, session)| worth(session) <= (privileged, partitions))
                    .map(|(id, _)| *id)
            }
        };
        let remembered = |id: &i32| self.sessions.get(id).map_or(0, |session| session.partitions.len());
        victim
            .filter(|id| has_room(remembered(id)))
            .is_some_and(|id| self.remove(id))
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// A request that names a partition twice means the last one, at the first one's place.
fn last_of_each(partitions: Vec<(TopicRef, FetchPartition)>) -> Vec<(TopicRef, FetchPartition)> {
    let mut places: BTreeMap<Key, usize> = BTreeMap::new();
    let mut unique: Vec<(TopicRef, FetchPartition)> = Vec::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        let place = *places
            .entry((topic.clone(), partition.partition))
            .or_insert(unique.len());
        match unique.get_mut(place) {
            Some(known) => known.1 = partition,
            None => unique.push((topic, partition)),
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ids::{BrokerEpoch, LeaderEpoch, TopicId};
    use crate::ports::inbound::Isolation;
    use crate::ports::outbound::RecordSlice;

    fn partition(number: i32, fetch_offset: i64) -> (TopicRef, FetchPartition) {
        let partition = FetchPartition {
            partition: PartitionId(number),
            current_leader_epoch: LeaderEpoch::UNKNOWN,
            fetch_offset: Offset(fetch_offset),
            last_fetched_epoch: LeaderEpoch::UNKNOWN,
            log_start_offset: Offset::NONE,
            max_bytes: 1024,
        };
        (TopicRef::Name("t".into()), partition)
    }

    fn request(session_id: i32, session_epoch: i32, partitions: Vec<(TopicRef, FetchPartition)>) -> Fetch {
        Fetch {
            replica: BrokerId::NONE,
            replica_epoch: BrokerEpoch::UNKNOWN,
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 1024,
            isolation: Isolation::ReadUncommitted,
            session_id,
            session_epoch,
            by_topic_id: false,
            partitions,
            forgotten: Vec::new(),
            rack: String::new(),
        }
    }

    fn fetched(number: i32, high_watermark: i64, records: usize) -> (TopicRef, Fetched<()>) {
        let fetched = Fetched {
            partition: PartitionId(number),
            error: ErrorCode::None,
            high_watermark: Offset(high_watermark),
            last_stable_offset: Offset(high_watermark),
            log_start_offset: Offset(0),
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            aborted: None,
            preferred_read_replica: BrokerId::NONE,
            records: Some(RecordSlice::Memory(Bytes::from(vec![0; records]))),
        };
        (TopicRef::Name("t".into()), fetched)
    }

    fn nameless(_: &TopicRef) -> Option<Arc<str>> {
        None
    }

    fn numbers<T>(list: &[T], number: impl Fn(&T) -> PartitionId) -> Vec<i32> {
        list.iter().map(|entry| number(entry).0).collect()
    }

    fn start(cache: &mut SessionCache, now: Mono, partitions: &[i32]) -> i32 {
        let mut first = request(0, 0, partitions.iter().map(|number| partition(*number, 0)).collect());
        let (_, context) = cache.begin(now, &mut first, nameless).unwrap();
        let mut reply = partitions.iter().map(|number| fetched(*number, 5, 0)).collect();
        cache.finish(now, 7, context, &mut reply).unwrap()
    }

    #[test]
    fn an_incremental_reply_tells_only_what_changed() {
        let mut cache = SessionCache::new(10, 100, 1000, 1..1000);
        let id = start(&mut cache, Mono(0), &[0, 1, 2]);
        assert_ne!(id, 0);

        let mut second = request(id, 1, vec![]);
        let (partitions, context) = cache.begin(Mono(1), &mut second, nameless).unwrap();
        assert_eq!(numbers(&partitions, |p| p.request.partition), [0, 1, 2]);
        let mut reply = vec![fetched(0, 6, 10), fetched(1, 5, 0), fetched(2, 6, 0)];
        assert_eq!(cache.finish(Mono(1), 8, context, &mut reply), Ok(id));
        assert_eq!(numbers(&reply, |p| p.1.partition), [0, 2]);

        // The partition that returned records goes last; changes and forgotten partitions count.
        let mut third = request(id, 2, vec![partition(0, 6), partition(3, 0)]);
        third.forgotten.push((TopicRef::Name("t".into()), PartitionId(2)));
        let (partitions, _) = cache.begin(Mono(2), &mut third, nameless).unwrap();
        assert_eq!(numbers(&partitions, |p| p.request.partition), [1, 0, 3]);
        assert_eq!(partitions[1].request.fetch_offset, Offset(6));
    }

    #[test]
    fn a_session_remembers_the_names_of_topics_that_have_gone() {
        let mut cache = SessionCache::new(10, 100, 1000, 1..1000);
        let gone = TopicRef::Id(TopicId(uuid::Uuid::from_u128(1)));
        let later = TopicRef::Id(TopicId(uuid::Uuid::from_u128(2)));
        let asked = [&gone, &later].map(|topic| (topic.clone(), partition(0, 0).1));
        let mut first = request(0, 0, asked.to_vec());
        let is = |known: &TopicRef, name: &str| {
            let (known, name) = (known.clone(), Arc::from(name));
            move |topic: &TopicRef| (*topic == known).then(|| Arc::clone(&name))
        };
        let (_, context) = cache.begin(Mono(0), &mut first, is(&gone, "gone")).unwrap();
        let id = cache.finish::<()>(Mono(0), 7, context, &mut Vec::new()).unwrap();
        // The first topic goes, the second one comes.
        let mut second = request(id, 1, vec![]);
        let (partitions, _) = cache.begin(Mono(1), &mut second, is(&later, "later")).unwrap();
        let names: Vec<_> = partitions.iter().map(|asked| asked.name.as_deref()).collect();
        assert_eq!(names, [Some("gone"), Some("later")]);
    }

    #[test]
    fn an_error_is_told_and_so_is_its_end() {
        let mut cache = SessionCache::new(10, 100, 1000, 1..1000);
        let id = start(&mut cache, Mono(0), &[0]);
        for (epoch, error) in [(1, ErrorCode::NotLeaderOrFollower), (2, ErrorCode::None)] {
            let (_, context) = cache.begin(Mono(1), &mut request(id, epoch, vec![]), nameless).unwrap();
            let mut reply = vec![fetched(0, 5, 0)];
            reply[0].1.error = error;
            cache.finish(Mono(1), 8, context, &mut reply).unwrap();
            assert_eq!(reply.len(), 1, "{error}");
        }
    }

    #[test]
    fn a_wrong_session_or_epoch_is_refused() {
        let mut cache = SessionCache::new(10, 100, 1000, 1..1000);
        let id = start(&mut cache, Mono(0), &[0]);
        let mut begin = |mut request: Fetch| cache.begin(Mono(0), &mut request, nameless).map(|_| ()).unwrap_err();
        assert_eq!(begin(request(id + 1, 1, vec![])), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(begin(request(id, 2, vec![])), ErrorCode::InvalidFetchSessionEpoch);
        let mut by_id = request(id, 1, vec![]);
        by_id.by_topic_id = true;
        assert_eq!(begin(by_id), ErrorCode::FetchSessionTopicIdError);
    }

    #[test]
    fn a_session_that_moved_on_while_a_fetch_waited_is_an_error() {
        let mut cache = SessionCache::new(10, 100, 1000, 1..1000);
        let id = start(&mut cache, Mono(0), &[0]);
        let (_, waiting) = cache.begin(Mono(1), &mut request(id, 1, vec![]), nameless).unwrap();
        cache.begin(Mono(1), &mut request(id, 2, vec![]), nameless).unwrap();
        let mut reply = vec![fetched(0, 5, 0)];
        assert_eq!(
            cache.finish(Mono(1), 8, waiting, &mut reply),
            Err(ErrorCode::InvalidFetchSessionEpoch)
        );
    }

    #[test]
    fn a_final_epoch_and_an_empty_session_end_it() {
        let mut cache = SessionCache::new(10, 100, 1000, 1..1000);
        let id = start(&mut cache, Mono(0), &[0]);
        cache.begin(Mono(1), &mut request(id, -1, vec![]), nameless).unwrap();
        assert!(cache.is_empty());
        let id = start(&mut cache, Mono(0), &[0]);
        let mut last = request(id, 1, vec![]);
        last.forgotten.push((TopicRef::Name("t".into()), PartitionId(0)));
        cache.begin(Mono(1), &mut last, nameless).unwrap();
        assert!(cache.is_empty());
    }

    #[test]
    fn a_full_cache_evicts_stale_or_lesser_sessions() {
        let ms = |n: u64| Mono(n * 1_000_000);
        let mut cache = SessionCache::new(1, 100, 1000, 1..1000);
        assert_ne!(start(&mut cache, ms(0), &[0, 1]), 0);
        assert_eq!(start(&mut cache, ms(10), &[0, 1, 2]), 0, "the other is young");
        assert_ne!(start(&mut cache, ms(1500), &[0]), 0, "the other is stale");
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.partition_count(), 1);
    }

    #[test]
    fn partitions_that_find_no_room_are_in_no_session() {
        let mut cache = SessionCache::new(10, 4, 1000, 1..1000);
        let first = start(&mut cache, Mono(0), &[0, 1]);
        assert_eq!(start(&mut cache, Mono(0), &[0, 1, 2]), 0);
        let second = start(&mut cache, Mono(0), &[0, 1]);
        assert!(first != 0 && second != 0);
        let mut growing = request(first, 1, vec![partition(2, 0)]);
        assert_eq!(
            cache.begin(Mono(0), &mut growing, nameless).unwrap_err(),
            ErrorCode::FetchSessionIdNotFound,
            "the client starts a new session"
        );
        assert_eq!((cache.len(), cache.partition_count()), (1, 2));
        let mut changing = request(second, 1, vec![partition(2, 0), partition(3, 0)]);
        changing.forgotten.push((TopicRef::Name("t".into()), PartitionId(0)));
        cache.begin(Mono(0), &mut changing, nameless).unwrap();
        assert_eq!(cache.partition_count(), 3);
        cache
            .begin(Mono(0), &mut request(second, -1, vec![]), nameless)
            .unwrap();
        assert_eq!((cache.len(), cache.partition_count()), (0, 0));
    }

    #[test]
    fn a_partition_named_twice_counts_once() {
        let unique = last_of_each(vec![partition(1, 0), partition(2, 0), partition(1, 9)]);
        assert_eq!(numbers(&unique, |p| p.1.partition), [1, 2]);
        assert_eq!(unique[0].1.fetch_offset, Offset(9));
    }
}
