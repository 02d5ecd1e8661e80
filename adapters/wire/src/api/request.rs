//! A request as bytes: its header, the check and the decoding of its body, and the frame of its answer.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use ottla_domain::record::primitives::{DecodeError, Reader};

use super::{Api, api_versions, find};
use crate::checker::{CheckError, check_request};
use crate::response::Response;
use crate::server::ListenerKind;

/// A request: its header and the bytes of its body.
pub(crate) struct Request {
    pub(crate) api: &'static Api,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<Bytes>,
    pub(crate) body: Bytes,
}

/// Why a request ends its connection, as Kafka closes it too.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the header of a request cannot be read: {0}")]
    Header(DecodeError),
    #[error("API {key} in version {version} is not served here")]
    Unsupported { key: i16, version: i16 },
    #[error(transparent)]
    Unreadable(#[from] CheckError),
    #[error("{api:?} in version {version} cannot be read: {reason}")]
    Body {
        api: &'static Api,
        version: i16,
        reason: String,
    },
    #[error("the answer to {api:?} in version {version} cannot be written: {reason}")]
    Answer {
        api: &'static Api,
        version: i16,
        reason: String,
    },
    /// A produce that waits for no answer failed: closing the connection is how its client learns of it.
    #[error("a produce without acknowledgement failed")]
    Silently,
}

impl Request {
    /// Reads the header of a frame.
    pub(crate) fn parse(frame: Bytes, kind: ListenerKind) -> Result<Self, Refusal> {
        let mut reader = Reader::new(&frame);
        let (key, version) = (|| Ok((reader.i16()?, reader.i16()?)))().map_err(Refusal::Header)?;
        let api = find(key, kind).ok_or(Refusal::Unsupported { key, version })?;
        let (correlation_id, client_id) = (|| {
            let head = (
                reader.i32()?,
                reader.nullable_string()?.map(|id| frame.slice_ref(id.as_bytes())),
            );
            if version >= api.flexible_from {
                reader.tagged_fields(|_, value| value.take(value.remaining()).map(|_| true))?;
            }
            Ok(head)
        })()
        .map_err(Refusal::Header)?;
        let body = frame.slice_ref(reader.rest());
        let request = Request {
            api,
            version,
            correlation_id,
            client_id,
            body,
        };
        // ApiVersions answers any version (KIP-511): it is how clients find out.
        if request.is_version_served() || key == api_versions::API.key {
            Ok(request)
        } else {
            Err(Refusal::Unsupported { key, version })
        }
    }

    /// False for an ApiVersions in a version of the future, whose body is in a format that is not known.
    pub(crate) fn is_version_served(&self) -> bool {
        (self.api.min_version..=self.api.max_version).contains(&self.version)
    }

    /// Checks the body in constant memory, so that no decoder believes a length in it, and tells how much memory the
    /// decoded request takes at most: no more than `decoded_max_bytes`.
    pub(crate) fn check(&self, decoded_max_bytes: usize) -> Result<usize, Refusal> {
        if !self.is_version_served() {
            return Ok(0);
        }
        let checked = check_request(self.api.key, self.version, &self.body, decoded_max_bytes)?;
        Ok(checked.decoded_size_bytes)
    }

    /// Decodes the body, which was checked.
    pub(super) fn decode<M: Decodable>(&self) -> Result<M, Refusal> {
        let refused = |reason: String| Refusal::Body {
            api: self.api,
            version: self.version,
            reason,
        };
        let mut body = self.body.clone();
        catch_unwind(AssertUnwindSafe(|| M::decode(&mut body, self.version)))
            .map_err(|_| refused("the decoder panicked".to_owned()))?
            .map_err(|error| refused(error.to_string()))
    }

    /// The frame of an answer.
    pub(super) fn encode<M: Encodable, R>(&self, message: &M) -> Result<Response<R>, Refusal> {
        self.head().encode(message)
    }

    /// What is needed to answer later.
    pub(super) fn head(&self) -> Head {
        Head {
            api: self.api,
            version: self.version,
            correlation_id: self.correlation_id,
        }
    }

    pub(super) fn unreadable(&self, error: &DecodeError) -> Refusal {
        Refusal::Body {
            api: self.api,
            version: self.version,
            reason: error.to_string(),
        }
    }
}

/// A request without its body.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) api: &'static Api,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
}

impl Head {
    pub(super) fn encode<M: Encodable, R>(self, message: &M) -> Result<Response<R>, Refusal> {
        self.encode_as(message, self.version, self.version >= self.api.flexible_from)
    }

    pub(super) fn encode_as<M: Encodable, R>(
        self,
        message: &M,
        version: i16,
        tagged_header: bool,
    ) -> Result<Response<R>, Refusal> {
        let mut frame = BytesMut::with_capacity(256);
        frame.put_i32(0);
        frame.put_i32(self.correlation_id);
        if tagged_header {
            frame.put_u8(0);
        }
        message
            .encode(&mut frame, version)
            .map_err(|error| self.unwritable(&error))?;
        let size = i32::try_from(frame.len() - 4).map_err(|error| self.unwritable(&error))?;
        if let Some(prefix) = frame.first_chunk_mut() {
            *prefix = size.to_be_bytes();
        }
        Ok(frame.freeze().into())
    }

    pub(super) fn unwritable(self, error: &dyn fmt::Display) -> Refusal {
        Refusal::Answer {
            api: self.api,
            version: self.version,
            reason: error.to_string(),
        }
    }
}
