//! Limits of connections and requests, and following their change.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use ottla_domain::metadata::config::effective::NodeConfig as Effective;
use ottla_domain::metadata::image::MetadataImage;
use ottla_wire::server::{ConnectionLimits, ConnectionQuota, RequestLimits};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::broker::BrokerSettings;
use crate::config::check::connection_overrides;

/// How many connections the settings in effect allow.
pub fn connection_limits(settings: &Effective<'_>) -> ConnectionLimits {
    let limit = |name: &str| usize::try_from(settings.number(name)).unwrap_or(usize::MAX);
    let mut limits = ConnectionLimits {
        total_max: limit("max.connections"),
        per_ip_max: limit("max.connections.per.ip"),
        ..ConnectionLimits::default()
    };
    let overrides = settings.text("max.connections.per.ip.overrides").unwrap_or_default();
    for (host, count) in connection_overrides(overrides).unwrap_or_default() {
        match (host, 0).to_socket_addrs() {
            Ok(addresses) => limits
                .per_ip_overrides
                .extend(addresses.map(|address| (address.ip(), count))),
            Err(error) => warn!(host, %error, "max.connections.per.ip.overrides names a host without an address"),
        }
    }
    limits
}

/// How large requests may be, and how long connections may be idle.
pub fn request_limits(settings: &Effective<'_>) -> RequestLimits {
    let size = |name: &str| usize::try_from(settings.number(name)).unwrap_or(usize::MAX);
    RequestLimits {
        produce_max_bytes: size("socket.request.max.bytes"),
        request_max_bytes: size("ottla.request.max.bytes"),
        idle: u64::try_from(settings.number("connections.max.idle.ms"))
            .ok()
            .map(Duration::from_millis),
    }
}

/// Applies changed limits to new connections, until the sender of images is gone.
pub async fn follow(
    quota: Arc<ConnectionQuota>,
    settings: BrokerSettings,
    mut images: watch::Receiver<Arc<MetadataImage>>,
) {
    let mut known = None;
    while images.changed().await.is_ok() {
        let image = Arc::clone(&images.borrow_and_update());
        let effective = settings.effective(&image);
        let texts = [
            "max.connections",
            "max.connections.per.ip",
            "max.connections.per.ip.overrides",
        ]
        .map(|name| effective.text(name).map(str::to_owned));
        // Images come several times a second; names are resolved only when something changed.
        if known.as_ref() != Some(&texts) {
            let (settings, image) = (settings.clone(), Arc::clone(&image));
            // A resolver may take its time.
            let limits = tokio::task::spawn_blocking(move || connection_limits(&settings.effective(&image)));
            match limits.await {
                Ok(limits) => quota.set_limits(limits),
                Err(error) => warn!(%error, "limits of connections could not be changed"),
            }
            if known.is_some() {
                info!(limits = ?texts, "limits of connections changed");
            }
            known = Some(texts);
        }
    }
}
