//! Joins logs, metrics and health to the node.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ottla_observability::health::Health;
use ottla_observability::http::HttpServer;
use ottla_observability::levels::Levels;
use ottla_observability::logging::{Logging, LoggingError};
use ottla_observability::maintain;
use ottla_observability::metrics::{Metrics, MetricsError};
use tracing::{error, info, warn};

use crate::config::NodeConfig;
use crate::config::node::HttpListener;
use crate::metrics::describe;

/// Who logs.
const CRATES: [&str; 5] = [
    "ottla",
    "ottla_observability",
    "ottla_raft",
    "ottla_storage",
    "ottla_wire",
];

/// Why the node cannot be observed as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// Logging cannot be set up.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// Metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The port was asked for and cannot be had.
    #[error("ottla.http.listener cannot listen on {address}: {error}")]
    Bind {
        /// As configured.
        address: String,
        /// What the system says.
        error: io::Error,
    },
}

/// What the node tells of itself.
pub struct Observability {
    /// To add collectors to; `None` while nobody can scrape them, so that nothing is counted in vain.
    pub metrics: Option<Metrics>,
    /// Says whether the node is ready.
    pub health: Arc<Health>,
    /// What is logged.
    pub levels: Levels,
    /// Where `/metrics` is, unless it is turned off.
    pub http_address: Option<SocketAddr>,
}

/// Sets up logging and metrics, tells what is odd about the configuration, and serves HTTP on the current runtime.
pub fn start(config: &NodeConfig) -> Result<Observability, ObserveError> {
    let logging = Logging::install(config.log_format, &config.log_level, &CRATES)?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    if !config.ignored.is_empty() {
        let names = config.ignored.join(", ");
        info!("settings without effect on Ottla: {names} (ottla config --explain tells of all)");
    }
    let health = Arc::new(Health::default());
    let (mut metrics, mut http_address) = (None, None);
    if let Some(listener) = &config.http_listener {
        let installed = metrics.insert(Metrics::install()?);
        describe();
        let server = bind(listener, installed, &health)?;
        http_address = server.local_address().ok();
        tokio::spawn(async {
            // Ends with the runtime.
            if let Err(error) = server.serve(std::future::pending()).await {
                error!(%error, "metrics and health are no longer served");
            }
        });
    }
    let levels = logging.levels.clone();
    tokio::spawn(maintain(metrics.clone(), logging));
    Ok(Observability {
        metrics,
        health,
        levels,
        http_address,
    })
}

/// A second node on this machine finds the default port taken; nobody asked for that one, so another will do.
fn bind(listener: &HttpListener, metrics: &Metrics, health: &Arc<Health>) -> Result<HttpServer, ObserveError> {
    let bind = |address: &str| HttpServer::bind(address, metrics.clone(), Arc::clone(health));
    let address = listener.address.to_string();
    match bind(&address) {
        Err(error) if listener.is_default && error.kind() == io::ErrorKind::AddrInUse => {
            let server = bind("127.0.0.1:0").map_err(|error| ObserveError::Bind { address, error })?;
            if let Ok(chosen) = server.local_address() {
                warn!(
                    "{} is taken; metrics are at http://{chosen}/metrics (see ottla.http.listener)",
                    listener.address
                );
            }
            Ok(server)
        }
        bound => bound.map_err(|error| ObserveError::Bind { address, error }),
    }
}

/// Raises the limit of open files as far as the system lets this process: every connection and every segment takes one.
pub fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, limit = ?limit.current, "the limit of open files cannot be raised");
        return;
    }
    const FEW: u64 = 4096;
    match limit.maximum {
        Some(maximum) if maximum < FEW => {
            warn!(
                "at most {maximum} files can be open; raise the hard limit (ulimit -Hn) for many clients or partitions"
            );
        }
        _ => {}
    }
    if limit.current != limit.maximum {
        info!(from = ?limit.current, to = ?limit.maximum, "raised the limit of open files");
    }
}
