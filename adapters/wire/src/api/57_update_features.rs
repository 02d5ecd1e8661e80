//! UpdateFeatures: sets levels of features, all of them or none (KIP-584).
//!
//! - Version 1: which way a level may go, and validation only (KIP-778). 2: no results of single features.

use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_domain::metadata::controller::features::{FeatureUpdate, UpdateFeatures, UpgradeType};

use super::endpoints::message;
use super::{Api, Call};
use crate::node::Node;

pub(super) static API: Api = Api::both(57, "UpdateFeatures", (0, 2), 0).forwardable();

pub(super) async fn handle<N: Node>(call: &Call<'_, N>, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let version = call.version();
    let update = |update: &kafka_protocol::messages::update_features_request::FeatureUpdateKey| FeatureUpdate {
        name: update.feature.to_string(),
        level: update.max_version_level,
        upgrade_type: match version {
            0 if update.allow_downgrade => UpgradeType::SafeDowngrade,
            0 => UpgradeType::Upgrade,
            _ => UpgradeType::from_number(update.upgrade_type),
        },
    };
    let command = UpdateFeatures {
        updates: request.feature_updates.iter().map(update).collect(),
        validate_only: request.validate_only,
    };
    let response = UpdateFeaturesResponse::default().with_error_message(None);
    match call.submit(command, request.timeout_ms).await {
        Ok(()) if version < 2 => {
            let updated = request.feature_updates.into_iter();
            let results = updated.map(|update| {
                // Kafka names the code where there is no error.
                let none = StrBytes::from_static_str("NONE");
                UpdatableFeatureResult::default()
                    .with_feature(update.feature)
                    .with_error_message(Some(none))
            });
            response.with_results(results.collect())
        }
        Ok(()) => response,
        Err(error) => response
            .with_error_code(error.code.number())
            .with_error_message(message(&error)),
    }
}
