//! What a server needs of the node that it serves.

use std::os::fd::AsFd;

use ottla_domain::ports::inbound::{
    ControllerApi, FetchApi, GroupApi, LoggerApi, OffsetsApi, ProduceApi, ProducerIdApi, RaftApi, ViewApi,
};

/// All inbound ports on one type, so that handlers are compiled for it without dynamic dispatch. Regions of files are
/// sent by `sendfile`, so they give access to the file.
pub trait Node:
    ProduceApi
    + FetchApi<Region: AsFd>
    + OffsetsApi
    + ProducerIdApi
    + ControllerApi
    + RaftApi
    + ViewApi
    + LoggerApi
    + GroupApi
{
}

impl<T> Node for T where
    T: ProduceApi
        + FetchApi<Region: AsFd>
        + OffsetsApi
        + ProducerIdApi
        + ControllerApi
        + RaftApi
        + ViewApi
        + LoggerApi
        + GroupApi
{
}
