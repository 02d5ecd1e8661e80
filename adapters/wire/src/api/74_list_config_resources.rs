//! ListConfigResources: what has settings (KIP-714, KIP-1142).
//!
//! - Version 0: client metrics subscriptions only. 1: all types, which an empty list asks for.

use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::metadata::image::ConfigResourceType;

use super::endpoints::{Sight, text};
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::broker(74, "ListConfigResources", (0, 1), 0);

const ALL: [ConfigResourceType; 5] = [
    ConfigResourceType::Group,
    ConfigResourceType::ClientMetrics,
    ConfigResourceType::BrokerLogger,
    ConfigResourceType::Broker,
    ConfigResourceType::Topic,
];

pub(super) async fn handle<N: Node>(
    call: &Call<'_, N>,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let version = call.version();
    let supported = |kind: ConfigResourceType| match version {
        0 => kind == ConfigResourceType::ClientMetrics,
        _ => ALL.contains(&kind),
    };
    let asked: Vec<_> = request
        .resource_types
        .iter()
        .map(|kind| ConfigResourceType::from_number(*kind))
        .collect();
    if !asked.iter().all(|kind| supported(*kind)) {
        return ListConfigResourcesResponse::default().with_error_code(ErrorCode::UnsupportedVersion.number());
    }
    let wanted = |kind: &ConfigResourceType| supported(*kind) && (asked.is_empty() || asked.contains(kind));
    let image = &call.node.image();
    let sight = &Sight {
        image,
        listener: &call.listener.name,
    };
    let mut resources = Vec::new();
    for kind in ALL.into_iter().filter(wanted) {
        let mut add = |name: &str| {
            let resource = ConfigResource::default().with_resource_name(text(name));
            resources.push(if version >= 1 {
                resource.with_resource_type(kind.number())
            } else {
                resource
            });
        };
        match kind {
            ConfigResourceType::Topic => image.topics.iter().for_each(|topic| add(&topic.name)),
            ConfigResourceType::Broker | ConfigResourceType::BrokerLogger => {
                let brokers = image.brokers.values().filter_map(|broker| sight.endpoint(broker));
                brokers.for_each(|endpoint| add(&endpoint.node.to_string()));
            }
            _ => {
                let configs = image.configs.iter().filter(|(resource, _)| resource.kind == kind);
                configs.for_each(|(resource, _)| add(&resource.name));
            }
        }
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}
