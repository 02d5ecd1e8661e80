//! The inbound port of the controller.

use std::future::Future;

use crate::error::ApiError;
use crate::metadata::controller::Command;

/// Admin changes. `C` is one of the commands of `domain::metadata::controller`.
pub trait ControllerApi: Send + Sync + 'static {
    /// Evaluates a command on the active controller and answers once its records are committed. NOT_CONTROLLER when no
    /// controller is reachable, REQUEST_TIMED_OUT after `timeout_ms`.
    fn submit<C: Command>(
        &self,
        command: C,
        timeout_ms: i32,
    ) -> impl Future<Output = Result<C::Reply, ApiError>> + Send;
}
