//! What a fuzzer calls; `fuzz/` in the workspace's root has the targets.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, RequestKind};
use kafka_protocol::protocol::Decodable;

use crate::api::Request;
use crate::messages::{add_raft_voter, broker_heartbeat, describe_log_dirs, list_offsets, offset_commit, offset_fetch};
use crate::produce_request;
use crate::server::ListenerKind;

/// What decoding may take at most, in bytes.
const DECODED_MAX_BYTES: usize = 16 << 20;

/// Reads a frame as both kinds of listeners do: what the checker lets pass is decoded.
pub fn frame(frame: &[u8]) {
    for kind in [ListenerKind::Broker, ListenerKind::Controller] {
        let Ok(request) = Request::parse(Bytes::copy_from_slice(frame), kind) else {
            continue;
        };
        if request.is_version_served() && request.check(DECODED_MAX_BYTES).is_ok() {
            decode(request.api.key, request.version, request.body);
        }
    }
}

/// By whichever decoder the API's handler uses. That it fails is its right, that it panics is not.
fn decode(key: i16, version: i16, mut body: Bytes) {
    match key {
        0 => drop(produce_request::decode(&body, version)),
        2 => drop(list_offsets::ListOffsetsRequest::decode(&mut body, version)),
        8 => drop(offset_commit::OffsetCommitRequest::decode(&mut body, version)),
        9 => drop(offset_fetch::OffsetFetchRequest::decode(&mut body, version)),
        35 => drop(describe_log_dirs::DescribeLogDirsRequest::decode(&mut body, version)),
        63 => drop(broker_heartbeat::BrokerHeartbeatRequest::decode(&mut body, version)),
        80 => drop(add_raft_voter::AddRaftVoterRequest::decode(&mut body, version)),
        _ => {
            if let Ok(key) = ApiKey::try_from(key) {
                drop(RequestKind::decode(key, &mut body, version));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use proptest::prelude::*;

    use super::*;
    use crate::checker::tests::bodies;

    proptest! {
        #[test]
        fn a_damaged_frame_is_no_panic(
            (key, version, body) in bodies(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = BytesMut::new();
            bytes.put_i16(key);
            bytes.put_i16(version);
            // A correlation id, no client id, and no tagged fields in case that the version has them.
            bytes.put_slice(&[0, 0, 0, 1, 0xff, 0xff, 0]);
            bytes.put_slice(&body);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            frame(&bytes);
        }
    }
}
