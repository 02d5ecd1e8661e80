//! A minimal client of the wire protocol, for requests that no well-behaved client sends.
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{MetadataRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// One connection; requests may be pipelined.
pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            correlation_id: 0,
        })
    }

    /// Changes how long an answer may take from half a minute.
    pub fn set_deadline(&mut self, deadline: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(deadline))
    }

    /// Sends a request and waits for its answer; a closed connection is an error of kind `UnexpectedEof`.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }

    /// Calls with a version newer than the message types know that looks like the one before it.
    pub fn call_as<R: Request>(&mut self, version: i16, looks_like: i16, request: &R) -> io::Result<R::Response> {
        let mut frame = encode(looks_like, 0, request).to_vec();
        frame[2..4].copy_from_slice(&version.to_be_bytes());
        self.send_frame(&frame)?;
        self.receive::<R>(looks_like)
    }

    /// Sends a request.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<()> {
        self.correlation_id += 1;
        self.send_frame(&encode(version, self.correlation_id, request))
    }

    /// Waits for the answer to the oldest request without one.
    pub fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut frame = self.receive_frame()?;
        let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, format!("undecodable answer: {e}"));
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).map_err(invalid)?;
        let response = R::Response::decode(&mut frame, version).map_err(invalid)?;
        match frame.is_empty() {
            true => Ok(response),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} bytes after the answer", frame.len()),
            )),
        }
    }

    /// Sends a frame: its size and these bytes.
    pub fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        self.send_bytes(&framed(frame))
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends no more, and goes on to receive.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Waits for a frame and returns what follows its size.
    pub fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut size = [0; 4];
        self.read(&mut size)?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.read(&mut frame)?;
        Ok(frame.into())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        // A peer that closes while our bytes are unread resets the connection: to a client that is the same.
        self.stream.read_exact(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::ConnectionReset => io::ErrorKind::UnexpectedEof.into(),
            _ => e,
        })
    }

    /// How many brokers the node lists.
    pub fn broker_count(&mut self) -> io::Result<usize> {
        Ok(self
            .call(9, &MetadataRequest::default().with_topics(Some(Vec::new())))?
            .brokers
            .len())
    }
}

/// A frame as it is sent: its size and these bytes.
pub fn framed(frame: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(frame.len() + 4);
    bytes.put_i32(frame.len() as i32);
    bytes.put_slice(frame);
    bytes.freeze()
}

/// The bytes of a request, header included, without the size before it.
pub fn encode<R: Request>(version: i16, correlation_id: i32, request: &R) -> Bytes {
    let mut bytes = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("compat")))
        .encode(&mut bytes, R::header_version(version))
        .and_then(|()| request.encode(&mut bytes, version))
        .unwrap_or_else(|e| panic!("cannot encode api {} version {version}: {e}", R::KEY));
    bytes.freeze()
}
