//! DescribeConfigs: the settings of topics, of groups, of this node, and of all brokers, and the levels of this node's loggers.
//!
//! - Version 1: synonyms and sources (KIP-226). 3: types and documentation (KIP-569). 4: flexible.
//! - A null list of names asks for all settings.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::{ApiError, ErrorCode};
use ottla_domain::ids::BrokerId;
use ottla_domain::metadata::config::describe::ConfigEntry;
use ottla_domain::metadata::config::effective::{ConfigSource, NodeConfig};
use ottla_domain::metadata::config::setting::SettingType;
use ottla_domain::metadata::image::{ConfigResource, ConfigResourceType};
use ottla_domain::metadata::loggers::LogLevel;
use ottla_domain::partitioning::names;

use super::endpoints::text;
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::both(32, "DescribeConfigs", (1, 4), 4);

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let known = |resource: &DescribeConfigsResource| {
        ConfigResourceType::from_number(resource.resource_type) != ConfigResourceType::Unknown
    };
    let all_known = request.resources.iter().all(known);
    let results = request.resources.iter().map(|resource| {
        let described = if all_known {
            describe(call, resource)
        } else {
            Err(ErrorCode::InvalidRequest.into())
        };
        let response = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match described {
            Ok(entries) => {
                // No names at all ask for everything, as in Kafka.
                let names = resource.configuration_keys.as_deref().filter(|names| !names.is_empty());
                let wanted =
                    |entry: &ConfigEntry| names.is_none_or(|names| names.iter().any(|name| **name == *entry.name));
                let entries = entries.into_iter().filter(wanted);
                response.with_configs(entries.map(|entry| render(&request, entry)).collect())
            }
            Err(error) => response
                .with_error_code(error.code.number())
                .with_error_message(Some(text(error.message.as_deref().unwrap_or_default()))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe<N: Node>(call: &Call<'_, N>, resource: &DescribeConfigsResource) -> Result<Vec<ConfigEntry>, ApiError> {
    let image = &call.node.image();
    let node = call.node.node_id();
    let config = NodeConfig::of(image, node, call.node.properties());
    let name = &*resource.resource_name;
    match ConfigResourceType::from_number(resource.resource_type) {
        ConfigResourceType::Topic => {
            names::validate(name).map_err(|error| ErrorCode::InvalidTopicException.with(error.to_string()))?;
            if image.topics.by_name(name).is_none() {
                return Err(ErrorCode::UnknownTopicOrPartition.into());
            }
            Ok(config.describe_topic(image.config(&ConfigResource::topic(name))))
        }
        ConfigResourceType::Broker if name.is_empty() => Ok(config.describe_cluster_default()),
        ConfigResourceType::Broker => {
            check_broker(name, node, " or empty string,")?;
            Ok(config.describe_broker())
        }
        ConfigResourceType::BrokerLogger => {
            if name.is_empty() {
                return Err(ErrorCode::InvalidRequest.with("Broker id must not be empty"));
            }
            check_broker(name, node, "")?;
            Ok(call.node.loggers().into_iter().map(logger).collect())
        }
        ConfigResourceType::Group if name.is_empty() => {
            Err(ErrorCode::InvalidRequest.with("Group name must not be empty"))
        }
        ConfigResourceType::Group => {
            let group = ConfigResource::new(ConfigResourceType::Group, name);
            Ok(config.describe_group(image.config(&group)))
        }
        kind => Err(ErrorCode::InvalidRequest.with(format!("Unsupported resource type: {}", kind.name()))),
    }
}

/// Only the broker itself tells its settings.
fn check_broker(name: &str, node: BrokerId, or: &str) -> Result<(), ApiError> {
    let invalid = |message| Err(ErrorCode::InvalidRequest.with(message));
    match name.parse::<i32>() {
        Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
        Ok(id) if id != node.0 => invalid(format!("Unexpected broker id, expected {node}{or} but received {name}")),
        Ok(_) => Ok(()),
    }
}

fn logger((name, level): (String, LogLevel)) -> ConfigEntry {
    ConfigEntry {
        name,
        value: Some(level.name().to_owned()),
        is_read_only: false,
        source: ConfigSource::DynamicBrokerLogger,
        is_sensitive: false,
        synonyms: Vec::new(),
        kind: SettingType::Unknown,
        doc: None,
    }
}

fn render(request: &DescribeConfigsRequest, entry: ConfigEntry) -> DescribeConfigsResourceResult {
    let synonyms = entry
        .synonyms
        .iter()
        .filter(|_| request.include_synonyms)
        .map(|synonym| {
            DescribeConfigsSynonym::default()
                .with_name(text(&synonym.name))
                .with_value(synonym.value.as_deref().map(text))
                .with_source(synonym.source.number())
        });
    let doc = entry.doc.filter(|_| request.include_documentation);
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_string(entry.name))
        .with_value(entry.value.map(StrBytes::from_string))
        .with_read_only(entry.is_read_only)
        .with_config_source(entry.source.number())
        .with_is_sensitive(entry.is_sensitive)
        .with_synonyms(synonyms.collect())
        .with_config_type(entry.kind.number())
        .with_documentation(doc.map(StrBytes::from_static_str))
}
