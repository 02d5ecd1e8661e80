//! DescribeCluster: the brokers, or on a controller listener the controllers (KIP-700, KIP-919).
//!
//! - Version 1: the client says which of the two it asks for. 2: fenced brokers on demand (KIP-1073).

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use ottla_domain::error::ErrorCode;
use ottla_domain::ids::BrokerId;

use super::endpoints::{Sight, text};
use super::{Api, Call, operations};
use crate::fetch_response::NodeEndpoint;
use crate::node::Node;
use crate::server::ListenerKind;

pub(super) static API: Api = Api::both(60, "DescribeCluster", (0, 2), 0);
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let (served, name) = match call.listener.kind {
        ListenerKind::Broker => (BROKERS, "BROKER"),
        ListenerKind::Controller => (CONTROLLERS, "CONTROLLER"),
    };
    let wanted = match request.endpoint_type {
        BROKERS => "BROKER",
        CONTROLLERS => "CONTROLLER",
        other => {
            let message = format!("Unsupported endpoint type {other}");
            return refuse(call.version(), ErrorCode::UnsupportedEndpointType, &message);
        }
    };
    if request.endpoint_type != served {
        let message =
            format!("The request was sent to an endpoint of type {name}, but we wanted an endpoint of type {wanted}");
        return refuse(call.version(), ErrorCode::MismatchedEndpointType, &message);
    }
    let image = &call.node.image();
    let sight = Sight {
        image,
        listener: &call.listener.name,
    };
    let (nodes, controller): (Vec<_>, _) = match call.listener.kind {
        ListenerKind::Broker => {
            let brokers = image
                .brokers
                .values()
                .filter(|broker| request.include_fenced_brokers || !broker.fenced);
            let brokers = brokers.filter_map(|broker| Some((sight.endpoint(broker)?, broker.fenced)));
            (brokers.collect(), sight.controller(call.node.node_id()))
        }
        ListenerKind::Controller => {
            let controllers = image.controllers.values().filter_map(|controller| {
                let mut endpoints = controller.end_points.iter();
                let endpoint = endpoints.find(|endpoint| endpoint.name == *call.listener.name)?;
                let endpoint = NodeEndpoint {
                    node: BrokerId(controller.controller_id),
                    host: endpoint.host.clone(),
                    port: i32::from(endpoint.port),
                    rack: None,
                };
                Some((endpoint, false))
            });
            (controllers.collect(), call.node.quorum_leader())
        }
    };
    let controller = nodes
        .iter()
        .map(|(endpoint, _)| endpoint.node)
        .find(|node| *node == controller);
    let nodes = nodes.iter().map(|(endpoint, fenced)| {
        let node = DescribeClusterBroker::default()
            .with_broker_id(endpoint.node.0.into())
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
            .with_rack(endpoint.rack.as_deref().map(text));
        if call.version() >= 2 {
            node.with_is_fenced(*fenced)
        } else {
            node
        }
    });
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(text(call.node.cluster_id()))
        .with_controller_id(controller.unwrap_or(BrokerId::NONE).0.into())
        .with_brokers(nodes.collect());
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = operations::ON_CLUSTER;
    }
    if call.version() >= 1 {
        response.endpoint_type = served;
    }
    response
}

fn refuse(version: i16, error: ErrorCode, message: &str) -> DescribeClusterResponse {
    let error = if version == 0 { ErrorCode::InvalidRequest } else { error };
    DescribeClusterResponse::default()
        .with_error_code(error.number())
        .with_error_message(Some(text(message)))
}
