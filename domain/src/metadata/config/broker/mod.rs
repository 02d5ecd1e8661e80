//! The settings of brokers and controllers.

use super::setting::Setting;

mod groups;
mod log;
mod ottla;
mod quorum;
mod remote;
mod replication;
mod security;
mod server;
mod transactions;

/// Every setting of brokers and controllers, by subject.
pub const BROKER_SETTINGS: &[&[Setting]] = &[
    groups::SETTINGS,
    log::SETTINGS,
    ottla::SETTINGS,
    quorum::SETTINGS,
    remote::SETTINGS,
    replication::SETTINGS,
    security::SETTINGS,
    server::SETTINGS,
    transactions::SETTINGS,
];
