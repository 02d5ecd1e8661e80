//! Starts and stops the parts of a node, in order.

use crate::config::NodeConfig;

/// Why the node did not start, or stopped by itself: exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {}

/// Runs the node until it is told to stop.
pub fn run(config: NodeConfig) -> Result<(), NodeError> {
    let _ = config;
    Ok(())
}
