//! Settings of our own.

use crate::metadata::config::check::Check::{Any, AtLeast, NonEmpty, OneOf};
use crate::metadata::config::setting::Effect::Start;
use crate::metadata::config::setting::SettingType::{Boolean, Long, String};
use crate::metadata::config::setting::Update::ReadOnly;
use crate::metadata::config::setting::{NULL, Setting, s};

#[rustfmt::skip]
pub(super) const SETTINGS: &[Setting] = &[
    s("ottla.broker.fast.fencing", Boolean, "true", Any, ReadOnly, Start, "Fence a broker whose ports refuse before its session times out."),
    s("ottla.cluster.id", String, NULL, NonEmpty, ReadOnly, Start, "The cluster that a node without a file formats an empty directory for; random when unset."),
    s("ottla.fsync", String, "none", OneOf(&["none", "ack"]), ReadOnly, Start, "ack: acknowledge records only when they are synced to disk."),
    s("ottla.group.memory.bytes", Long, "134217728", AtLeast(1048576), ReadOnly, Start, "Memory of what the members of all groups say of themselves and are assigned."),
    s("ottla.http.listener", String, "127.0.0.1:9404", Any, ReadOnly, Start, "Where metrics and health are served; empty is nowhere, port 0 any free port."),
    s("ottla.log.format", String, "human", OneOf(&["human", "json"]), ReadOnly, Start, "How a line of the log looks."),
    s("ottla.log.level", String, "info", NonEmpty, ReadOnly, Start, "What is logged: a level, or levels by crate as in info,ottla_wire=debug."),
    s("ottla.metrics.partitions", Boolean, "true", Any, ReadOnly, Start, "Show metrics of every partition, which are many where partitions are."),
    s("ottla.request.max.bytes", Long, "4194304", AtLeast(1024), ReadOnly, Start, "The largest request but Produce."),
    s("ottla.request.memory.bytes", Long, "134217728", AtLeast(1048576), ReadOnly, Start, "Memory of all requests and answers under way."),
    s("ottla.validate.compressed", String, "records", OneOf(&["records", "header"]), ReadOnly, Start, "header: trust the header of a compressed batch instead of looking at its records."),
];
