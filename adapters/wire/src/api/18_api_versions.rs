//! ApiVersions: which keys and versions this listener serves, and which features the cluster has (KIP-35, KIP-584).
//!
//! - Version 0 and error UNSUPPORTED_VERSION answer a version that is not known, with the one key ApiVersions (KIP-511).
//! - The answer's header never has tagged fields: a client reads it before it knows what the node speaks.
//! - Version 3: the client's software, whose name must be well-formed; supported and finalized features.
//! - Version 4: features whose lowest level is 0, which older clients cannot read.

use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::error::ErrorCode;
use ottla_domain::metadata::controller::features::SUPPORTED;
use ottla_domain::metadata::image::KRAFT_VERSION;

use super::{APIS, Answer, Api, Call, Refusal};
use crate::node::Node;

pub(super) static API: Api = Api::both(18, "ApiVersions", (0, 4), 3);

pub(super) fn handle<N: Node>(call: &Call<'_, N>) -> Result<Answer<N::Region>, Refusal> {
    let head = call.request.head();
    if !call.request.is_version_served() {
        let response = ApiVersionsResponse::default()
            .with_error_code(ErrorCode::UnsupportedVersion.number())
            .with_api_keys(vec![advertised(&API)]);
        return head.encode_as(&response, 0, false).map(Answer::Now);
    }
    let request: ApiVersionsRequest = call.request.decode()?;
    let response = respond(call, &request);
    head.encode_as(&response, call.version(), false).map(Answer::Now)
}

fn respond<N: Node>(call: &Call<'_, N>, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let version = call.version();
    if version >= 3
        && !(is_well_formed(&request.client_software_name) && is_well_formed(&request.client_software_version))
    {
        return ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.number());
    }
    let apis = APIS.iter().filter(|api| api.listens_on(call.listener.kind));
    let response = ApiVersionsResponse::default().with_api_keys(apis.map(|api| advertised(api)).collect());
    if version < 3 {
        return response;
    }
    let image = call.node.image();
    let supported = SUPPORTED.iter().filter(|(_, levels)| version >= 4 || levels.0 > 0);
    let kraft_version = Some((KRAFT_VERSION, call.node.kraft_version()));
    let finalized = image
        .features
        .iter()
        .map(|(name, level)| (name.as_str(), *level))
        .chain(kraft_version);
    response
        .with_supported_features(
            supported
                .map(|(name, levels)| {
                    SupportedFeatureKey::default()
                        .with_name(StrBytes::from_static_str(name))
                        .with_min_version(levels.0)
                        .with_max_version(levels.1)
                })
                .collect(),
        )
        .with_finalized_features_epoch(image.provenance.offset.0)
        .with_finalized_features(
            finalized
                .filter(|(_, level)| *level > 0)
                .map(|(name, level)| {
                    FinalizedFeatureKey::default()
                        .with_name(StrBytes::from_string(name.to_owned()))
                        .with_min_version_level(level)
                        .with_max_version_level(level)
                })
                .collect(),
        )
}

fn advertised(api: &Api) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(api.key)
        .with_min_version(api.min_version)
        .with_max_version(api.max_version)
}

/// Letters, digits, dots and dashes, starting and ending with a letter or digit.
fn is_well_formed(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let name = name.as_bytes();
    edge(name.first()) && edge(name.last()) && name.iter().all(|byte| inner(*byte))
}
