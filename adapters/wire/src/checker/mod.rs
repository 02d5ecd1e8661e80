//! Checks a request's bytes before kafka-protocol decodes them.
//!
//! kafka-protocol reserves memory for an array by the length that the client claims, and even a truthful request can take
//! thirty times its size once decoded. The walk over the bytes here needs no memory of its own: it refuses lengths that the
//! remaining bytes cannot hold, and nulls where Kafka's schema has none, and it estimates the memory that decoding will
//! take, so that the caller can charge a budget first.

mod shape;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use ottla_domain::record::primitives::{DecodeError, Reader};

use self::shape::{Field, Request, Shape, Structure};

// A `BTreeMap<i32, Bytes>` reserves room for eleven entries at once, and ascending keys leave its nodes half empty.
const FIRST_UNKNOWN_TAG_SIZE_BYTES: usize = 416;
const NEXT_UNKNOWN_TAG_SIZE_BYTES: usize = 96;
// The counter of those who share the frame.
const SHARED_FRAME_SIZE_BYTES: usize = 48;
// Our own decoders let an array grow by doubling, with the old and the new one in memory at once.
const GROWTH: usize = 3;
// What an allocation takes beside the bytes asked for, and the counter that shared bytes have.
const COPY_OVERHEAD_BYTES: usize = 48;

/// Kafka refuses longer strings, even where their length has room for more.
const STRING_MAX_BYTES: usize = i16::MAX as usize;

/// A request whose bytes are well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedRequest {
    /// An upper estimate of the memory that the decoded request takes beside its frame, in bytes.
    pub decoded_size_bytes: usize,
}

/// Why a request's bytes cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Apache Kafka 4.3 has no such request.
    #[error("no request with api key {api_key} in version {api_version}")]
    UnknownRequest {
        /// The header's api key.
        api_key: i16,
        /// The header's version.
        api_version: i16,
    },
    /// A field is not what it should be.
    #[error("{request} version {api_version}, {field}: {problem}")]
    Field {
        /// Kafka's name of the API.
        request: &'static str,
        /// The header's version.
        api_version: i16,
        /// The field's name in Kafka's schema, or `tagged fields`.
        field: &'static str,
        /// What is wrong with it.
        problem: DecodeError,
    },
    /// Decoding would take more memory than there may ever be.
    #[error("{request} version {api_version}, {field}: decoding takes more than {max_bytes} bytes")]
    TooLarge {
        /// Kafka's name of the API.
        request: &'static str,
        /// The header's version.
        api_version: i16,
        /// The field that is too much.
        field: &'static str,
        /// The limit.
        max_bytes: usize,
    },
}

/// Checks `body`, the bytes of a request after its header. What follows a whole request is ignored, as Kafka does:
/// librdkafka leaves three bytes behind a Metadata request for all topics. The walk ends where decoding would take more than
/// `decoded_max_bytes`.
pub fn check_request(
    api_key: i16,
    api_version: i16,
    body: &[u8],
    decoded_max_bytes: usize,
) -> Result<CheckedRequest, CheckError> {
    let request = table::REQUESTS
        .binary_search_by_key(&api_key, |request| request.api_key)
        .ok()
        .and_then(|index| table::REQUESTS.get(index))
        .filter(|request| request.versions.contains(api_version))
        .ok_or(CheckError::UnknownRequest { api_key, api_version })?;
    let mut walk = Walk {
        request,
        version: api_version,
        flexible: request.flexible.contains(api_version),
        from: Reader::new(body),
        decoded_size_bytes: request.body.size_bytes + SHARED_FRAME_SIZE_BYTES,
        decoded_max_bytes,
    };
    walk.structure(request.body)?;
    Ok(CheckedRequest {
        decoded_size_bytes: walk.decoded_size_bytes,
    })
}

struct Walk<'a> {
    request: &'static Request,
    version: i16,
    flexible: bool,
    from: Reader<'a>,
    decoded_size_bytes: usize,
    decoded_max_bytes: usize,
}

impl<'a> Walk<'a> {
    fn structure(&mut self, structure: &Structure) -> Result<(), CheckError> {
        for field in structure.fields {
            if field.versions.contains(self.version) && field.tag_in(self.version).is_none() {
                self.field(field)?;
            }
        }
        if self.flexible {
            self.tagged_fields(structure)
        } else {
            Ok(())
        }
    }

    fn tagged_fields(&mut self, structure: &Structure) -> Result<(), CheckError> {
        let count = self.read("tagged fields", Reader::unsigned_varint)?;
        let mut unknown = 0;
        for _ in 0..count {
            let (tag, value) = self.read("tagged fields", |from| {
                let tag = from.unsigned_varint()?;
                let size_bytes = from.unsigned_varint()?;
                Ok((tag, from.take(size_bytes as usize)?))
            })?;
            let known = structure
                .fields
                .iter()
                .find(|field| field.tag_in(self.version) == Some(tag));
            match known {
                // Decoders read a known value without minding its size, so it must be the true one.
                Some(field) => {
                    let rest = std::mem::replace(&mut self.from, Reader::new(value));
                    self.field(field)?;
                    self.read(field.name, |from| from.finish())?;
                    self.from = rest;
                }
                None => {
                    unknown += 1;
                    let first = unknown == 1;
                    let size_bytes = if first {
                        FIRST_UNKNOWN_TAG_SIZE_BYTES
                    } else {
                        NEXT_UNKNOWN_TAG_SIZE_BYTES
                    };
                    self.charge("tagged fields", size_bytes)?;
                    self.charge_value("tagged fields", value.len())?;
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &Field) -> Result<(), CheckError> {
        let present = self.value(field, field.shape)?;
        if present || field.nullable.contains(self.version) {
            Ok(())
        } else {
            Err(self.failed(field.name, DecodeError::UnexpectedNull))
        }
    }

    /// Walks one value; false for null.
    fn value(&mut self, field: &Field, shape: Shape) -> Result<bool, CheckError> {
        let flexible = self.flexible;
        match shape {
            Shape::Fixed(size_bytes) => self.read(field.name, |from| from.take(size_bytes)).map(|_| true),
            Shape::String => {
                let value = self.read(field.name, |from| {
                    if flexible {
                        from.compact_nullable_string()
                    } else {
                        from.nullable_string()
                    }
                })?;
                let length = value.map_or(0, str::len);
                if length > STRING_MAX_BYTES {
                    return Err(self.failed(field.name, DecodeError::StringTooLong(length)));
                }
                self.charge_value(field.name, length)?;
                Ok(value.is_some())
            }
            Shape::Bytes => {
                let value = self.read(field.name, |from| {
                    if flexible {
                        from.compact_nullable_bytes()
                    } else {
                        from.nullable_bytes()
                    }
                })?;
                self.charge_value(field.name, value.map_or(0, <[u8]>::len))?;
                Ok(value.is_some())
            }
            Shape::Structure(structure) => {
                // Only a structure that may be null has a byte before it.
                if field.nullable.contains(self.version) && !self.read(field.name, Reader::presence)? {
                    return Ok(false);
                }
                self.structure(structure).map(|()| true)
            }
            Shape::Array(element) => {
                let count = self.read(field.name, |from| {
                    if flexible {
                        from.compact_array_length()
                    } else {
                        from.array_length()
                    }
                })?;
                let Some(count) = count else { return Ok(false) };
                let growth = if self.request.ours { GROWTH } else { 1 };
                let element_size_bytes = element.element_size_bytes().saturating_mul(growth);
                self.charge(field.name, count.saturating_mul(element_size_bytes))?;
                match *element {
                    Shape::Fixed(size_bytes) => {
                        self.read(field.name, |from| from.take(count.saturating_mul(size_bytes)))?;
                    }
                    Shape::Structure(structure) => {
                        for _ in 0..count {
                            self.structure(structure)?;
                        }
                    }
                    element => {
                        for _ in 0..count {
                            if !self.value(field, element)? {
                                return Err(self.failed(field.name, DecodeError::UnexpectedNull));
                            }
                        }
                    }
                }
                Ok(true)
            }
        }
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<T, CheckError> {
        read(&mut self.from).map_err(|problem| self.failed(field, problem))
    }

    #[cold]
    fn failed(&self, field: &'static str, problem: DecodeError) -> CheckError {
        CheckError::Field {
            request: self.request.name,
            api_version: self.version,
            field,
            problem,
        }
    }

    fn charge(&mut self, field: &'static str, size_bytes: usize) -> Result<(), CheckError> {
        self.decoded_size_bytes = self.decoded_size_bytes.saturating_add(size_bytes);
        if self.decoded_size_bytes <= self.decoded_max_bytes {
            return Ok(());
        }
        Err(CheckError::TooLarge {
            request: self.request.name,
            api_version: self.version,
            field,
            max_bytes: self.decoded_max_bytes,
        })
    }

    fn charge_value(&mut self, field: &'static str, size_bytes: usize) -> Result<(), CheckError> {
        if self.request.ours && size_bytes > 0 {
            self.charge(field, size_bytes.saturating_add(COPY_OVERHEAD_BYTES))?;
        }
        Ok(())
    }
}
