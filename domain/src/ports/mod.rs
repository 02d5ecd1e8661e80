//! The traits at which adapters and app meet: [`inbound`] ports are called by `adapters/wire` and implemented by
//! `app`; [`outbound`] ports are called by `app` and implemented by the other adapters.

pub mod inbound;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod outbound;
