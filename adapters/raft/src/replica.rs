//! The replica's thread: it waits for something to happen, lets the state machine say what follows, and does it.
//!
//! A thread of its own, not a task: a step may sync the disk, and nothing else may be done in between. So no worker of a
//! runtime ever waits for the disk here, and what arrives during a sync shares the next one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, Ordering};
use std::thread;
use std::time::Duration;

use ottla_domain::ids::{LeaderEpoch, Mono, Offset, Timestamp};
use ottla_domain::log::state::LogState;
use ottla_domain::metadata::records::MetadataRecord;
use ottla_domain::ports::outbound::{Clock, Entropy, MetadataEvent, OpenedLog, PartitionLog, RaftTransport};
use ottla_domain::raft::messages::ReplyResult;
use ottla_domain::raft::snapshots::{self, SinceSnapshot, SnapshotConfig};
use ottla_domain::raft::voters::VoterSet;
use ottla_domain::raft::{
    Answer, Effects, Identity, Input, LeaderAndEpoch, Moment, QuorumConfig, Raft, SnapshotId, Token,
};
use ottla_domain::record::batch::RecordBatch;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::batches::{self, RecordsBuilder};
use crate::disk::Disk;
use crate::error::{RaftError, RecordProblem};
use crate::facts::{RaftFacts, Uncommitted};
use crate::handle::RaftHandle;
use crate::inbox::{Command, Inbox, PendingBatch};
use crate::listener::Listener;
use crate::snapshot_file::{self, SNAPSHOT_MODE, SnapshotWriter};

/// How soon a listener whose channel was full is tried again.
const LISTENER_RETRY_MS: i64 = 5;
/// How often old snapshots are looked for, as Kafka does.
const CLEAN_EVERY_MS: i64 = 60_000;

/// What a replica is told when it starts.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Who it is and whom it can ask.
    pub identity: Identity,
    /// Timeouts and sizes.
    pub quorum: QuorumConfig,
    /// `controller.quorum.voters`; empty when the voters are in the log (`kraft.version` 1).
    pub static_voters: VoterSet,
    /// When to make and to delete snapshots.
    pub snapshots: SnapshotConfig,
}

/// What a replica works with.
pub struct ReplicaPorts<L, T, C, E> {
    /// The log of the metadata partition, as it was opened.
    pub log: OpenedLog<L>,
    /// Its folder, where `quorum-state` and the snapshots are ([`crate::metadata_folder`]).
    pub folder: PathBuf,
    /// Takes requests to other nodes.
    pub transport: T,
    /// Time.
    pub clock: C,
    /// Chance.
    pub entropy: E,
    /// Who is told of what is committed; the first one is asked for snapshots.
    pub listeners: Vec<mpsc::Sender<MetadataEvent>>,
}

/// What is left of a replica that has stopped.
pub struct Stopped<L> {
    /// Its log.
    pub log: Arc<L>,
    /// The log's state, for [`ottla_domain::ports::outbound::LogStore::close`].
    pub state: LogState,
    /// Why it stopped: by a shutdown, or because it cannot go on. Then the node cannot either.
    pub result: Result<(), RaftError>,
}

/// A replica that runs.
pub struct Running<L> {
    /// To speak with it.
    pub handle: RaftHandle,
    /// Comes when it has stopped; its sender is dropped without a word when its thread has panicked.
    pub stopped: oneshot::Receiver<Stopped<L>>,
}

/// Opens the quorum state and the snapshots beside the log, and starts the replica. A voter that is alone leads when this
/// returns. Blocks on the disk.
pub fn start<L, T, C, E>(config: ReplicaConfig, ports: ReplicaPorts<L, T, C, E>) -> Result<Running<L>, RaftError>
where
    L: PartitionLog,
    T: RaftTransport,
    C: Clock,
    E: Entropy,
{
    let handle = RaftHandle {
        inbox: Arc::new(Inbox::default()),
        kraft_version: Arc::new(AtomicI16::new(0)),
        facts: Arc::new(Mutex::new(RaftFacts::NONE)),
    };
    let mut replica = Replica::open(config, ports, &handle)?;
    let (ended, stopped) = oneshot::channel();
    let inbox = Arc::clone(&handle.inbox);
    let run = move || {
        let result = replica.run();
        if let Err(error) = &result {
            tracing::error!(%error, "the metadata quorum's replica cannot go on");
        }
        inbox.close();
        let Replica { disk, .. } = replica;
        let Disk { log, state, .. } = disk;
        // The node may be gone already.
        let _ = ended.send(Stopped { log, state, result });
    };
    const NAME: &str = "kraft";
    thread::Builder::new()
        .name(NAME.to_owned())
        .spawn(run)
        .map_err(|source| RaftError::Thread { name: NAME, source })?;
    Ok(Running { handle, stopped })
}

/// A controller that is no voter waits to hear of a leader: in vain, where it could ask itself alone.
fn refuse_solitary_observer(identity: &Identity, voters: &VoterSet, folder: &Path) -> Result<(), RaftError> {
    let local = &identity.local;
    let is_own = |(host, port): &(Arc<str>, u16)| {
        let mut own = local.endpoints.0.iter();
        own.any(|endpoint| endpoint.host == *host && endpoint.port == *port)
    };
    let is_alone = voters.ids().all(|id| id == local.key.id) && identity.bootstrap.iter().all(is_own);
    if !identity.can_become_voter || voters.contains(local.key) || !is_alone {
        return Ok(());
    }
    let names: Vec<_> = voters.iter().map(|voter| voter.key.to_string()).collect();
    Err(RaftError::NotAVoter {
        path: folder.parent().unwrap_or(folder).to_owned(),
        local: local.key,
        voters: if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        },
    })
}

struct Replica<L, T, C, E> {
    raft: Raft,
    disk: Disk<L>,
    transport: T,
    clock: C,
    entropy: E,
    config: SnapshotConfig,
    inbox: Arc<Inbox>,
    kraft_version: Arc<AtomicI16>,
    /// For whoever reads metrics; changed by this thread only.
    facts: Arc<Mutex<RaftFacts>>,
    uncommitted: Uncommitted,
    /// Requests that are not answered yet.
    waiting: BTreeMap<Token, oneshot::Sender<ReplyResult>>,
    next_token: u64,
    /// The epoch that this replica leads, and where its log ended when it began to.
    leading: Option<(LeaderEpoch, Offset)>,
    leader: Option<LeaderAndEpoch>,
    listeners: Vec<Listener>,
    is_listener_behind: bool,
    since_snapshot: SinceSnapshot,
    was_snapshot_asked: bool,
    is_writing_snapshot: bool,
    clean_at: Mono,
    is_stopped: bool,
}

impl<L, T, C, E> Replica<L, T, C, E>
where
    L: PartitionLog,
    T: RaftTransport,
    C: Clock,
    E: Entropy,
{
    fn open(
        config: ReplicaConfig,
        ports: ReplicaPorts<L, T, C, E>,
        handle: &RaftHandle,
    ) -> Result<Replica<L, T, C, E>, RaftError> {
        let ReplicaPorts {
            log,
            folder,
            transport,
            clock,
            entropy,
            listeners,
        } = ports;
        let disk = Disk::open(log, &folder)?;
        let replicated = disk.replicated_log(config.static_voters)?;
        if replicated.voters().is_empty() && config.identity.bootstrap.is_empty() {
            return Err(RaftError::NoControllers);
        }
        refuse_solitary_observer(&config.identity, replicated.voters(), &folder)?;
        let stored = disk.quorum_state.read()?;
        let at = moment(&clock, &entropy);
        let (raft, effects) = Raft::new(config.identity, config.quorum, replicated, stored, at)?;
        let mut replica = Replica {
            raft,
            disk,
            transport,
            clock,
            entropy,
            config: config.snapshots,
            inbox: Arc::clone(&handle.inbox),
            kraft_version: Arc::clone(&handle.kraft_version),
            facts: Arc::clone(&handle.facts),
            uncommitted: Uncommitted::default(),
            waiting: BTreeMap::new(),
            next_token: 0,
            leading: None,
            leader: None,
            listeners: listeners.into_iter().map(Listener::new).collect(),
            is_listener_behind: false,
            since_snapshot: SinceSnapshot::new(at.mono),
            was_snapshot_asked: false,
            is_writing_snapshot: false,
            clean_at: at.mono,
            is_stopped: false,
        };
        replica.perform(effects)?;
        Ok(replica)
    }

    fn run(&mut self) -> Result<(), RaftError> {
        while !self.is_stopped {
            self.tell_listeners()?;
            let asleep = self.clock.mono();
            let timeout = self
                .wake_at()
                .map(|wake| Duration::from_nanos(wake.0.saturating_sub(asleep.0)));
            let work = self.inbox.take(timeout);
            self.facts.lock().idle_ns += self.clock.mono().0.saturating_sub(asleep.0);
            for command in work.commands {
                self.on_command(command)?;
            }
            self.append(work.appends)?;
            let now = self.clock.mono();
            if self.raft.next_deadline().is_some_and(|deadline| deadline <= now) {
                self.step(Input::Tick)?;
            }
            if self.clean_at <= now {
                self.clean_at = now.plus_ms(CLEAN_EVERY_MS);
                self.clean()?;
            }
        }
        Ok(())
    }

    fn wake_at(&self) -> Option<Mono> {
        let retry = self
            .is_listener_behind
            .then(|| self.clock.mono().plus_ms(LISTENER_RETRY_MS));
        let due = self
            .since_snapshot
            .due_at(&self.config)
            .filter(|_| !self.was_snapshot_asked);
        [self.raft.next_deadline(), retry, due, Some(self.clean_at)]
            .into_iter()
            .flatten()
            .min()
    }

    fn on_command(&mut self, command: Command) -> Result<(), RaftError> {
        match command {
            Command::Request { request, reply } => {
                // Fetches whose connection is gone would else be kept until they time out.
                self.waiting.retain(|_, waiting| !waiting.is_closed());
                self.next_token += 1;
                let token = Token(self.next_token);
                self.waiting.insert(token, reply);
                self.step(Input::Request { token, request })
            }
            Command::Reply {
                from,
                correlation,
                reply,
            } => self.step(Input::Reply {
                from,
                correlation,
                reply,
            }),
            Command::Describe(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.raft.status(self.clock.mono(), self.clock.now()));
                Ok(())
            }
            Command::Resign(epoch) => self.step(Input::Resign(epoch)),
            Command::Snapshot { id, timestamp, records } => self.write_snapshot(id, timestamp, records),
            Command::SnapshotWritten(written) => {
                self.is_writing_snapshot = false;
                let id = written?;
                self.disk.snapshots.add(id)?;
                tracing::info!(snapshot = %id, "made a metadata snapshot");
                self.step(Input::SnapshotFrozen(id))
            }
            Command::Shutdown(timeout) => {
                let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
                let deadline = self.clock.mono().plus_ms(timeout_ms);
                self.step(Input::Shutdown { deadline })
            }
        }
    }

    fn append(&mut self, pending: Vec<PendingBatch>) -> Result<(), RaftError> {
        let now = self.clock.now();
        let leading = self.leading.map(|(epoch, _)| epoch);
        let batches: Vec<_> = pending
            .into_iter()
            // The epoch may have ended with the commands before.
            .filter(|batch| Some(batch.epoch) == leading)
            .map(
                |PendingBatch {
                     epoch,
                     base_offset,
                     records,
                 }| {
                    let mut builder = RecordsBuilder::new(base_offset, epoch);
                    records.iter().for_each(|record| builder.push(now, record));
                    builder.build()
                },
            )
            .collect();
        match batches.is_empty() {
            true => Ok(()),
            false => self.step(Input::Append(batches)),
        }
    }

    fn step(&mut self, input: Input) -> Result<(), RaftError> {
        let at = moment(&self.clock, &self.entropy);
        let effects = self.raft.step(at, input)?;
        self.perform(effects)
    }

    /// Does what a step asks for, in its order.
    fn perform(&mut self, effects: Effects) -> Result<(), RaftError> {
        let now = self.clock.now();
        if let Some(election) = &effects.persist {
            self.disk.quorum_state.write(election)?;
        }
        if let Some(end) = effects.truncate {
            tracing::info!(%end, "truncating the metadata log where the leader's departs from it");
            self.disk.log.truncate(end, &mut self.disk.state)?;
        }
        if let Some(epoch) = effects.start_epoch {
            self.disk.state.epochs.assign(epoch, self.disk.log.log_end_offset());
            self.disk.log.store_epochs(&self.disk.state)?;
        }
        if !effects.append.is_empty() {
            self.disk.append(&effects.append, now)?;
            self.count_appended(&effects.append);
        }
        if effects.sync {
            self.disk.log.sync()?;
        }
        let installed = match effects.snapshot {
            Some(piece) => self.disk.write_piece(piece)?,
            None => None,
        };
        if let Some(high_watermark) = effects.high_watermark {
            self.disk.state.raise_high_watermark(high_watermark);
        }
        if let Some(leader) = effects.leader {
            tracing::info!(
                epoch = leader.epoch.0,
                leader = leader.leader.map(|leader| leader.0),
                state = self.raft.state_name(),
                "the metadata quorum changed"
            );
            self.leader = Some(leader);
        }
        self.update_leading();
        self.kraft_version
            .store(self.raft.log().kraft_version().0, Ordering::Relaxed);
        for outgoing in effects.sends {
            let (from, correlation) = (outgoing.to, outgoing.correlation);
            let inbox = Arc::clone(&self.inbox);
            let on_reply = move |reply| {
                inbox.push(Command::Reply {
                    from,
                    correlation,
                    reply,
                })
            };
            self.transport.send(outgoing, Box::new(on_reply));
        }
        for Answer { token, mut reply, read } in effects.answers {
            if let Some(waiting) = self.waiting.remove(&token) {
                if let Some(read) = read {
                    self.disk.fill(read, &mut reply)?;
                }
                // The connection may be gone.
                let _ = waiting.send(reply);
            }
        }
        self.is_stopped |= effects.is_stopped;
        self.note_facts();
        match installed {
            Some(installed) => self.step(installed),
            None => Ok(()),
        }
    }

    fn update_leading(&mut self) {
        let epoch = self.raft.epoch();
        match (self.raft.leading(epoch), self.leading) {
            (Some(_), Some((led, _))) if led == epoch => {}
            (Some(end), _) => {
                self.leading = Some((epoch, end));
                self.inbox.set_leading(self.leading);
            }
            (None, Some(_)) => {
                self.leading = None;
                self.inbox.set_leading(None);
            }
            (None, None) => {}
        }
    }

    // Listeners.

    fn tell_listeners(&mut self) -> Result<(), RaftError> {
        let mut listeners = std::mem::take(&mut self.listeners);
        self.is_listener_behind = false;
        for (index, listener) in listeners.iter_mut().enumerate() {
            let is_first = index == 0;
            while listener.flush() && self.tell(listener, is_first)? {}
            self.is_listener_behind |= !listener.flush();
        }
        self.listeners = listeners;
        Ok(())
    }

    /// Queues what a listener is to hear next; false when there is nothing.
    fn tell(&mut self, listener: &mut Listener, is_first: bool) -> Result<bool, RaftError> {
        let high_watermark = self.raft.high_watermark().unwrap_or(Offset::ZERO);
        let log_start = self.raft.log().start();
        if listener.next_offset.unwrap_or(Offset::ZERO) < high_watermark {
            let next = match (listener.next_offset, self.raft.log().latest_snapshot()) {
                (None, Some(id)) if id != SnapshotId::BOOTSTRAP => return self.tell_snapshot(listener, id, is_first),
                (Some(next), Some(id)) if next < log_start => {
                    tracing::debug!(%next, %log_start, "a listener continues with a snapshot");
                    return self.tell_snapshot(listener, id, is_first);
                }
                (next, _) => next.unwrap_or(Offset::ZERO),
            };
            return self.tell_batches(listener, next, high_watermark, is_first);
        }
        if self.tell_leader(listener) {
            return Ok(true);
        }
        let now = self.clock.mono();
        if is_first && !self.was_snapshot_asked && self.since_snapshot.is_due(now, &self.config) {
            self.was_snapshot_asked = true;
            listener.queue(MetadataEvent::SnapshotDue);
            return Ok(true);
        }
        Ok(false)
    }

    fn tell_snapshot(&mut self, listener: &mut Listener, id: SnapshotId, is_first: bool) -> Result<bool, RaftError> {
        let content = snapshot_file::read(&self.disk.snapshots.path(id))?;
        listener.next_offset = Some(id.end_offset);
        if is_first {
            self.since_snapshot = SinceSnapshot::new(self.clock.mono());
        }
        listener.queue(MetadataEvent::Snapshot {
            end_offset: id.end_offset,
            epoch: id.epoch,
            timestamp: content.timestamp,
            records: content.records,
        });
        Ok(true)
    }

    fn tell_batches(
        &mut self,
        listener: &mut Listener,
        from: Offset,
        high_watermark: Offset,
        is_first: bool,
    ) -> Result<bool, RaftError> {
        let batches = self.disk.read(from, high_watermark)?;
        if batches.is_empty() {
            return Err(RaftError::record(from, RecordProblem::Missing));
        }
        for batch in batches {
            let header = &batch.header;
            if is_first && !header.attributes.is_control() {
                self.since_snapshot.add(header.size_bytes());
                self.was_snapshot_asked = false;
            }
            listener.next_offset = Some(header.next_offset());
            listener.queue(MetadataEvent::Committed {
                last_offset: header.last_offset(),
                epoch: header.partition_leader_epoch,
                timestamp: header.max_timestamp,
                records: batches::records(&batch)?,
            });
        }
        Ok(true)
    }

    fn tell_leader(&self, listener: &mut Listener) -> bool {
        let Some(leader) = self.leader.filter(|leader| listener.is_leader_news(*leader)) else {
            return false;
        };
        // The listener of a new leader hears of it when it knows all that was committed before.
        let next_offset = match self.leading {
            Some((epoch, end)) if epoch == leader.epoch => {
                if listener.next_offset.is_none_or(|next| next < end) {
                    return false;
                }
                end
            }
            _ => Offset::NONE,
        };
        listener.leader = Some(leader);
        listener.queue(MetadataEvent::Leader {
            epoch: leader.epoch,
            leader: leader.leader,
            next_offset,
        });
        true
    }

    // Snapshots.

    fn write_snapshot(
        &mut self,
        id: SnapshotId,
        timestamp: Timestamp,
        records: Vec<MetadataRecord>,
    ) -> Result<(), RaftError> {
        let log = self.raft.log();
        let is_committed = self
            .raft
            .high_watermark()
            .is_some_and(|committed| id.end_offset <= committed);
        if self.is_writing_snapshot || !is_committed || id.end_offset <= log.start() || log.has_snapshot(id) {
            tracing::debug!(snapshot = %id, "not writing a metadata snapshot");
            return Ok(());
        }
        let (version, voters) = log.quorum_at(id.end_offset);
        let quorum = version.has_dynamic_voters().then(|| (version, voters.cloned()));
        let (target, now) = (self.disk.snapshots.path(id), self.clock.now());
        let inbox = Arc::clone(&self.inbox);
        let write = move || {
            let write = || {
                let mut writer = SnapshotWriter::begin(target, SNAPSHOT_MODE, id.epoch, now, timestamp, quorum)?;
                records.iter().try_for_each(|record| writer.push(record))?;
                writer.finish()
            };
            inbox.push(Command::SnapshotWritten(write().map(|()| id)));
        };
        const NAME: &str = "kraft-snapshot";
        thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(write)
            .map_err(|source| RaftError::Thread { name: NAME, source })?;
        self.is_writing_snapshot = true;
        self.since_snapshot = SinceSnapshot::new(self.clock.mono());
        Ok(())
    }

    /// Moves the log's start to a later snapshot while log and snapshots are too old or too large.
    fn clean(&mut self) -> Result<(), RaftError> {
        loop {
            let log_size_bytes = self.disk.log.segments().iter().map(|segment| segment.size_bytes).sum();
            let now = self.clock.now();
            let facts = self.disk.snapshots.facts();
            let Some(id) = snapshots::new_log_start(&facts, log_size_bytes, now, &self.config) else {
                return Ok(());
            };
            self.disk.log.advance_log_start(id.end_offset)?;
            // It is committed, so the high watermark does not stand in the way.
            self.disk.state.raise_high_watermark(id.end_offset);
            if self.disk.state.raise_log_start(id.end_offset).is_err() {
                return Ok(());
            }
            self.disk.snapshots.remove_before(id)?;
            self.step(Input::LogStartAdvanced(id))?;
        }
    }

    // Metrics.

    fn count_appended(&mut self, batches: &[RecordBatch]) {
        let mut facts = self.facts.lock();
        for batch in batches {
            let records = u64::try_from(batch.header.record_count).unwrap_or(0);
            if self.raft.is_leader() {
                facts.appended_records += records;
                self.uncommitted.push(batch.header.next_offset(), self.clock.mono());
            } else {
                facts.fetched_records += records;
            }
        }
    }

    fn note_facts(&mut self) {
        let log = self.raft.log();
        let facts = &mut *self.facts.lock();
        match self.raft.high_watermark() {
            _ if !self.raft.is_leader() => self.uncommitted.forget(),
            Some(high_watermark) => self.uncommitted.commit(high_watermark, self.clock.mono(), facts),
            None => {}
        }
        facts.state = self.raft.state_name();
        facts.leader = self.raft.leader();
        facts.voted = self.raft.voted_id();
        facts.epoch = self.raft.epoch();
        facts.high_watermark = self.raft.high_watermark();
        facts.log_end = log.end();
        facts.log_end_epoch = log.last_epoch();
        facts.voter_count = log.voters().len();
    }
}

fn moment(clock: &impl Clock, entropy: &impl Entropy) -> Moment {
    Moment {
        mono: clock.mono(),
        wall: clock.now(),
        entropy: entropy.draw() as u64,
    }
}
