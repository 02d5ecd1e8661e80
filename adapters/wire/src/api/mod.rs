//! The APIs: one file a key, and the table of them all.
//!
//! The table is the only place that says which keys and versions are served: ApiVersions, the dispatch below and the
//! README's table come from it.

mod endpoints;
mod groups;
mod operations;
mod quorum;
mod request;
#[cfg(test)]
mod tests;

#[path = "67_allocate_producer_ids.rs"]
mod allocate_producer_ids;
#[path = "33_alter_configs.rs"]
mod alter_configs;
#[path = "56_alter_partition.rs"]
mod alter_partition;
#[path = "18_api_versions.rs"]
mod api_versions;
#[path = "73_assign_replicas_to_dirs.rs"]
mod assign_replicas_to_dirs;
#[path = "53_begin_quorum_epoch.rs"]
mod begin_quorum_epoch;
#[path = "63_broker_heartbeat.rs"]
mod broker_heartbeat;
#[path = "62_broker_registration.rs"]
mod broker_registration;
#[path = "69_consumer_group_describe.rs"]
mod consumer_group_describe;
#[path = "68_consumer_group_heartbeat.rs"]
mod consumer_group_heartbeat;
#[path = "70_controller_registration.rs"]
mod controller_registration;
#[path = "37_create_partitions.rs"]
mod create_partitions;
#[path = "19_create_topics.rs"]
mod create_topics;
#[path = "42_delete_groups.rs"]
mod delete_groups;
#[path = "21_delete_records.rs"]
mod delete_records;
#[path = "20_delete_topics.rs"]
mod delete_topics;
#[path = "29_describe_acls.rs"]
mod describe_acls;
#[path = "60_describe_cluster.rs"]
mod describe_cluster;
#[path = "32_describe_configs.rs"]
mod describe_configs;
#[path = "15_describe_groups.rs"]
mod describe_groups;
#[path = "35_describe_log_dirs.rs"]
mod describe_log_dirs;
#[path = "61_describe_producers.rs"]
mod describe_producers;
#[path = "55_describe_quorum.rs"]
mod describe_quorum;
#[path = "75_describe_topic_partitions.rs"]
mod describe_topic_partitions;
#[path = "43_elect_leaders.rs"]
mod elect_leaders;
#[path = "54_end_quorum_epoch.rs"]
mod end_quorum_epoch;
#[path = "58_envelope.rs"]
mod envelope;
#[path = "01_fetch.rs"]
mod fetch;
#[path = "59_fetch_snapshot.rs"]
mod fetch_snapshot;
#[path = "10_find_coordinator.rs"]
mod find_coordinator;
#[path = "12_heartbeat.rs"]
mod heartbeat;
#[path = "44_incremental_alter_configs.rs"]
mod incremental_alter_configs;
#[path = "22_init_producer_id.rs"]
mod init_producer_id;
#[path = "11_join_group.rs"]
mod join_group;
#[path = "13_leave_group.rs"]
mod leave_group;
#[path = "74_list_config_resources.rs"]
mod list_config_resources;
#[path = "16_list_groups.rs"]
mod list_groups;
#[path = "02_list_offsets.rs"]
mod list_offsets;
#[path = "03_metadata.rs"]
mod metadata;
#[path = "08_offset_commit.rs"]
mod offset_commit;
#[path = "47_offset_delete.rs"]
mod offset_delete;
#[path = "09_offset_fetch.rs"]
mod offset_fetch;
#[path = "23_offset_for_leader_epoch.rs"]
mod offset_for_leader_epoch;
#[path = "00_produce.rs"]
mod produce;
#[path = "14_sync_group.rs"]
mod sync_group;
#[path = "64_unregister_broker.rs"]
mod unregister_broker;
#[path = "57_update_features.rs"]
mod update_features;
#[path = "52_vote.rs"]
mod vote;

use std::fmt::{self, Write as _};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::BrokerId;
use ottla_domain::metadata::controller::Command;
use ottla_domain::metadata::controller::configs::AlterConfigs;

use self::request::Head;
pub(crate) use self::request::{Refusal, Request};
use crate::budget::Account;
use crate::node::Node;
use crate::response::Response;
use crate::server::{ListenerKind, Listening};

/// An API as it is advertised.
pub(crate) struct Api {
    pub(crate) key: i16,
    /// Kafka's name, as `CreateTopics`.
    pub(crate) name: &'static str,
    pub(crate) min_version: i16,
    pub(crate) max_version: i16,
    /// The first version with compact encodings and tagged fields (KIP-482).
    pub(crate) flexible_from: i16,
    /// Broker listeners take it.
    pub(crate) broker: bool,
    /// Controller listeners take it.
    pub(crate) controller: bool,
    /// Brokers may pass it on in an Envelope.
    pub(crate) forwardable: bool,
    /// An answer that is waited for when the node stops is not worth waiting for.
    pub(crate) abandoned_on_stop: bool,
    /// It runs even while `ottla.request.memory.bytes` is used up, because its answers hold little memory.
    pub(crate) served_at_limit: bool,
}

impl Api {
    /// An API of broker listeners.
    const fn broker(key: i16, name: &'static str, (min_version, max_version): (i16, i16), flexible_from: i16) -> Self {
        Api {
            key,
            name,
            min_version,
            max_version,
            flexible_from,
            broker: true,
            controller: false,
            forwardable: false,
            abandoned_on_stop: false,
            served_at_limit: false,
        }
    }

    /// An API of controller listeners.
    const fn controller(key: i16, name: &'static str, versions: (i16, i16), flexible_from: i16) -> Self {
        let mut api = Api::broker(key, name, versions, flexible_from);
        api.broker = false;
        api.controller = true;
        api
    }

    /// An API of both kinds of listeners.
    const fn both(key: i16, name: &'static str, versions: (i16, i16), flexible_from: i16) -> Self {
        let mut api = Api::broker(key, name, versions, flexible_from);
        api.controller = true;
        api
    }

    /// The same, and it runs even while `ottla.request.memory.bytes` is used up.
    const fn served_at_limit(mut self) -> Self {
        self.served_at_limit = true;
        self
    }

    /// The same, and brokers may pass it on in an Envelope.
    const fn forwardable(mut self) -> Self {
        self.forwardable = true;
        self
    }

    fn listens_on(&self, kind: ListenerKind) -> bool {
        match kind {
            ListenerKind::Broker => self.broker,
            ListenerKind::Controller => self.controller,
        }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.key)
    }
}

/// Every API, in the order of the keys.
static APIS: &[&Api] = &[
    &produce::API,
    &fetch::API,
    &list_offsets::API,
    &metadata::API,
    &offset_commit::API,
    &offset_fetch::API,
    &find_coordinator::API,
    &join_group::API,
    &heartbeat::API,
    &leave_group::API,
    &sync_group::API,
    &describe_groups::API,
    &list_groups::API,
    &api_versions::API,
    &create_topics::API,
    &delete_topics::API,
    &delete_records::API,
    &init_producer_id::API,
    &offset_for_leader_epoch::API,
    &describe_acls::API,
    &describe_configs::API,
    &alter_configs::API,
    &describe_log_dirs::API,
    &create_partitions::API,
    &delete_groups::API,
    &elect_leaders::API,
    &incremental_alter_configs::API,
    &offset_delete::API,
    &vote::API,
    &begin_quorum_epoch::API,
    &end_quorum_epoch::API,
    &describe_quorum::API,
    &alter_partition::API,
    &update_features::API,
    &envelope::API,
    &fetch_snapshot::API,
    &describe_cluster::API,
    &describe_producers::API,
    &broker_registration::API,
    &broker_heartbeat::API,
    &unregister_broker::API,
    &allocate_producer_ids::API,
    &consumer_group_heartbeat::API,
    &consumer_group_describe::API,
    &controller_registration::API,
    &assign_replicas_to_dirs::API,
    &list_config_resources::API,
    &describe_topic_partitions::API,
];

/// Every API, in the order of the keys.
pub(crate) fn all() -> impl Iterator<Item = &'static Api> {
    APIS.iter().copied()
}

/// Looks an API up.
fn find(key: i16, kind: ListenerKind) -> Option<&'static Api> {
    let index = APIS.binary_search_by_key(&key, |api| api.key).ok()?;
    APIS.get(index).copied().filter(|api| api.listens_on(kind))
}

/// The APIs and versions as a Markdown table for the README.
pub fn markdown_table() -> String {
    let mut table = "| key | API | versions | listeners |\n|---:|---|---|---|\n".to_owned();
    for api in APIS {
        let listeners = match (api.broker, api.controller) {
            (true, true) => "broker, controller",
            (true, false) => "broker",
            (false, _) => "controller",
        };
        let (key, name) = (api.key, api.name);
        let versions = match (api.min_version, api.max_version) {
            (min, max) if min == max => min.to_string(),
            (min, max) => format!("{min}-{max}"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(table, "| {key} | {name} | {versions} | {listeners} |");
    }
    table
}

/// How long an admin change may take whose request does not say: the `request.timeout.ms` of Kafka's clients.
const DEFAULT_TIMEOUT_MS: i32 = 30_000;

/// What becomes of a request.
pub(crate) enum Answer<R> {
    /// Done.
    Now(Response<R>),
    /// The next request may run.
    Later(Pin<Box<dyn Future<Output = Result<Response<R>, Refusal>> + Send>>),
    /// A produce that waits for no answer.
    Silent,
}

/// What became of a request, and whose it was.
pub(crate) struct Handled<R> {
    pub(crate) answer: Answer<R>,
    /// A replica fetches: Kafka's metrics tell its fetches from those of consumers.
    pub(crate) by_follower: bool,
}

/// What a handler sees besides its message.
struct Call<'a, N> {
    node: &'a Arc<N>,
    listener: &'a Listening,
    /// Where the client connects from.
    peer: IpAddr,
    /// Of the connection.
    account: &'a Arc<Account>,
    request: &'a Request,
    /// A command was refused because another node is the controller.
    not_controller: AtomicBool,
    /// A replica asks.
    by_follower: AtomicBool,
}

impl<N: Node> Call<'_, N> {
    fn version(&self) -> i16 {
        self.request.version
    }

    /// The broker that received the request, if a broker did.
    fn broker(&self) -> Option<BrokerId> {
        (self.listener.kind == ListenerKind::Broker).then(|| self.node.node_id())
    }

    /// Has the controller carry out a command.
    async fn submit<C: Command>(&self, command: C, timeout_ms: i32) -> Result<C::Reply, ApiError> {
        let result = self.node.submit(command, timeout_ms).await;
        if result
            .as_ref()
            .is_err_and(|error| error.code == ErrorCode::NotController)
        {
            self.not_controller.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Changes settings; a refusal of the whole is one of each of the `count` changes.
    async fn submit_each(&self, command: AlterConfigs, count: usize) -> Vec<Result<(), ApiError>> {
        match self.submit(command, DEFAULT_TIMEOUT_MS).await {
            Ok(results) => results.into_iter().map(|(_, result)| result).collect(),
            Err(error) => vec![Err(error); count],
        }
    }
}

/// Executes a request that was checked, up to where the next one may run.
pub(crate) async fn execute<N: Node>(
    node: &Arc<N>,
    listener: &Listening,
    peer: IpAddr,
    account: &Arc<Account>,
    request: &Request,
) -> Result<Handled<N::Region>, Refusal> {
    let call = Call {
        node,
        listener,
        peer,
        account,
        request,
        not_controller: AtomicBool::new(false),
        by_follower: AtomicBool::new(false),
    };
    Ok(Handled {
        answer: dispatch(&call).await?,
        by_follower: call.by_follower.into_inner(),
    })
}

async fn dispatch<N: Node>(call: &Call<'_, N>) -> Result<Answer<N::Region>, Refusal> {
    let request = call.request;
    macro_rules! answer {
        ($api:ident) => {
            request
                .encode(&$api::handle(call, request.decode()?).await)
                .map(Answer::Now)
        };
        ($api:ident?) => {
            request
                .encode(&$api::handle(call, request.decode()?).await?)
                .map(Answer::Now)
        };
    }
    match request.api.key {
        0 => produce::handle(call).await,
        1 => fetch::handle(call).await,
        2 => answer!(list_offsets),
        3 => answer!(metadata),
        8 => answer!(offset_commit),
        9 => answer!(offset_fetch),
        10 => answer!(find_coordinator),
        11 => answer!(join_group?),
        12 => answer!(heartbeat),
        13 => answer!(leave_group),
        14 => answer!(sync_group?),
        15 => answer!(describe_groups),
        16 => answer!(list_groups),
        18 => api_versions::handle(call),
        19 => answer!(create_topics),
        20 => answer!(delete_topics),
        21 => answer!(delete_records),
        22 => answer!(init_producer_id),
        23 => answer!(offset_for_leader_epoch),
        29 => answer!(describe_acls),
        32 => answer!(describe_configs),
        33 => answer!(alter_configs),
        35 => answer!(describe_log_dirs),
        37 => answer!(create_partitions),
        42 => answer!(delete_groups),
        43 => answer!(elect_leaders),
        44 => answer!(incremental_alter_configs),
        47 => answer!(offset_delete),
        52 => answer!(vote),
        53 => answer!(begin_quorum_epoch),
        54 => answer!(end_quorum_epoch),
        55 => answer!(describe_quorum),
        56 => answer!(alter_partition),
        57 => answer!(update_features),
        58 => answer!(envelope),
        59 => answer!(fetch_snapshot),
        60 => answer!(describe_cluster),
        61 => answer!(describe_producers),
        62 => answer!(broker_registration),
        63 => answer!(broker_heartbeat),
        64 => answer!(unregister_broker),
        67 => answer!(allocate_producer_ids),
        68 => answer!(consumer_group_heartbeat),
        69 => answer!(consumer_group_describe),
        70 => answer!(controller_registration),
        73 => answer!(assign_replicas_to_dirs),
        74 => answer!(list_config_resources),
        75 => answer!(describe_topic_partitions),
        key => Err(Refusal::Unsupported {
            key,
            version: request.version,
        }),
    }
}
