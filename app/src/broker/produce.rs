//! Produce: append to each partition on its own, then wait for what `acks` asks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::{Offset, PartitionId, Timestamp};
use ottla_domain::log::validation::Validated;
use ottla_domain::partitioning::names::is_internal;
use ottla_domain::ports::inbound::{
    Acks, Produce, ProduceApi, ProduceError, ProduceReply, Produced, TopicRef, Waiting,
};
use ottla_domain::ports::outbound::LogStore;
use tokio::time::Instant;

use super::Broker;
use super::inline::Inline;
use super::partition::{Appended, Partition};
use super::table::{known_leader, known_topic};
use super::traffic::Count;
use super::waiters::Watch;
use crate::services::Services;

/// A partition whose append has to reach further before it is answered.
struct Pending<S: LogStore> {
    partition: Arc<Partition<S::Log>>,
    /// Every record of the append lies below this offset.
    end: Offset,
    /// Where its answer stands in the reply.
    place: (usize, usize),
}

impl<S: LogStore> ProduceApi for Services<S> {
    async fn produce(&self, request: Produce) -> Waiting<ProduceReply> {
        let (acks, timeout_ms) = (request.acks, request.timeout_ms);
        let options = AppendOptions {
            acks,
            zstd_allowed: request.zstd_allowed,
            internal_topics_allowed: request.internal_topics_allowed,
            term: None,
        };
        let mut reply: ProduceReply = Vec::with_capacity(request.topics.len());
        let mut pending: Vec<Pending<S>> = Vec::new();
        for topic in request.topics {
            let mut answers = Vec::with_capacity(topic.partitions.len());
            for (id, records) in topic.partitions {
                // A request may name a million partitions.
                tokio::task::coop::consume_budget().await;
                let answer = match self.broker.append(&topic.topic, id, records, options).await {
                    Ok((partition, appended)) => {
                        if let Some(end) = appended.unsettled_end {
                            pending.push(Pending {
                                partition,
                                end,
                                place: (reply.len(), answers.len()),
                            });
                        }
                        appended.answer
                    }
                    Err(failed) => *failed,
                };
                answers.push(answer);
            }
            reply.push((topic.topic, answers));
        }
        if acks == Acks::None || pending.is_empty() {
            return Waiting::Ready(reply);
        }
        let deadline = Instant::now() + Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        Waiting::Later(Box::pin(settle(reply, pending, acks, deadline)))
    }
}

#[derive(Clone, Copy)]
pub(super) struct AppendOptions {
    pub(super) acks: Acks,
    pub(super) zstd_allowed: bool,
    pub(super) internal_topics_allowed: bool,
    /// The only term of this leader to append in: a coordinator's state belongs to one.
    pub(super) term: Option<u64>,
}

impl<S: LogStore> Broker<S> {
    fn find_for_append(
        &self,
        topic: &TopicRef,
        id: PartitionId,
        options: AppendOptions,
    ) -> Result<Arc<Partition<S::Log>>, ApiError> {
        let image = self.image.load();
        let topic = known_topic(&image, topic)?;
        if is_internal(&topic.name) && !options.internal_topics_allowed {
            let message = format!("Topic {} is internal and clients may not write to it.", topic.name);
            return Err(ErrorCode::InvalidTopicException.with(message));
        }
        Ok(Arc::clone(self.partitions.load().find(topic, id)?))
    }

    /// Validates here or, if that takes long, on a blocking thread.
    async fn validate(
        &self,
        partition: &Arc<Partition<S::Log>>,
        records: Bytes,
        options: AppendOptions,
    ) -> Result<Validated, Box<Produced>> {
        let inline = Inline::new(&*self.tools.compression);
        let validated = partition.validate(&records, options, &self.tools, &inline);
        if !inline.gave_up() {
            return validated;
        }
        // Never closed.
        let _permit = self.long_validations.acquire().await.ok();
        let (id, partition, tools) = (partition.id, Arc::clone(partition), Arc::clone(&self.tools));
        let validate = move || partition.validate(&records, options, &tools, &*tools.compression);
        elsewhere(id, validate).await
    }

    async fn append(
        &self,
        topic: &TopicRef,
        id: PartitionId,
        records: Option<Bytes>,
        options: AppendOptions,
    ) -> Result<(Arc<Partition<S::Log>>, Appended), Box<Produced>> {
        let partition = match self.find_for_append(topic, id, options) {
            Ok(partition) => partition,
            Err(error) => {
                let is_elsewhere = error.code == ErrorCode::NotLeaderOrFollower;
                let mut refused = Box::new(failed(id, error));
                if is_elsewhere {
                    refused.current_leader = known_leader(&self.image.load(), topic, id);
                }
                return Err(refused);
            }
        };
        let records = records.unwrap_or_default();
        let size_bytes = records.len();
        partition.traffic.add(Count::TotalProduceRequests, 1);
        let tools = Arc::clone(&self.tools);
        let appended = if partition.is_slow() {
            // Never closed.
            let _lane = partition.slow_lane.acquire().await.ok();
            let partition = Arc::clone(&partition);
            let append = move || {
                let validated = partition.validate(&records, options, &tools, &*tools.compression)?;
                partition.append(&validated, options, &tools)
            };
            elsewhere(id, append).await
        } else {
            let validated = self.validate(&partition, records, options).await;
            validated.and_then(|validated| partition.append(&validated, options, &tools))
        };
        match appended {
            Ok(appended) => {
                // Whatever `acks` is: consumers see only what is on disk.
                if partition.claim_sync() {
                    let partition = Arc::clone(&partition);
                    tokio::task::spawn_blocking(move || partition.run_sync());
                }
                Ok((partition, appended))
            }
            Err(refused) => {
                let code = refused
                    .error
                    .as_ref()
                    .map_or(ErrorCode::None, |refusal| refusal.error.code);
                partition.traffic.produce_failed(code, size_bytes);
                Err(refused)
            }
        }
    }
}

/// Work on a partition on a blocking thread.
async fn elsewhere<T: Send + 'static>(
    id: PartitionId,
    work: impl FnOnce() -> Result<T, Box<Produced>> + Send + 'static,
) -> Result<T, Box<Produced>> {
    let lost = |_| Err(Box::new(failed(id, ErrorCode::UnknownServerError.into())));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
}

/// The answer for a partition to which nothing was appended.
pub(super) fn failed(partition: PartitionId, error: ApiError) -> Produced {
    Produced {
        partition,
        error: Some(ProduceError {
            error,
            record_errors: Vec::new(),
        }),
        base_offset: Offset::NONE,
        log_append_time: Timestamp::NONE,
        log_start_offset: Offset::NONE,
        current_leader: None,
    }
}

async fn settle<S: LogStore>(
    mut reply: ProduceReply,
    mut pending: Vec<Pending<S>>,
    acks: Acks,
    deadline: Instant,
) -> ProduceReply {
    let watch = Watch::new(pending.iter().map(|pending| Arc::clone(&pending.partition)).collect());
    let mut expired = false;
    loop {
        pending.retain(|pending| {
            let settled = match pending.partition.is_settled(pending.end, acks) {
                Some(Ok(())) => return false,
                Some(Err(error)) => error,
                None if expired => ErrorCode::RequestTimedOut,
                None => return true,
            };
            let (topic, partition) = pending.place;
            if let Some(answer) = reply.get_mut(topic).and_then(|(_, answers)| answers.get_mut(partition)) {
                *answer = failed(answer.partition, settled.into());
            }
            false
        });
        if pending.is_empty() {
            break;
        }
        expired = !watch.changed(deadline).await;
    }
    reply
}
