//! One connection: a task reads and executes requests in order, another writes their answers in the same order.
//!
//! Only waiting overlaps. A request that is [`Answer::Later`] lets the next one run; any other is done before the next
//! one is read. Nothing is read while the answers that the client has not taken are many, so TCP slows the client down.

mod frame;
#[cfg(test)]
mod tests;
mod writer;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

pub(crate) use frame::{FrameError, FrameLimits};

use crate::api::{self, Answer, Api, Refusal};
use crate::metrics;
use crate::node::Node;
use crate::rate_limit::RateLimit;
use crate::response::Response;
use crate::server::Listening;

/// How many answers of a connection may wait to be written. librdkafka and the Java client have at most 5 to a broker
/// in flight by default.
const IN_FLIGHT_MAX: usize = 32;

/// Everything that the connections of a listener share.
pub(crate) struct Shared<N> {
    pub(crate) node: Arc<N>,
    pub(crate) listener: Listening,
    pub(crate) frame_limits: FrameLimits,
    /// `connections.max.idle.ms`; `None` keeps idle connections.
    pub(crate) idle: Option<Duration>,
}

/// When something last moved on a connection, in either direction.
pub(crate) struct Activity {
    opened: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Activity {
            opened: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn touch(&self) {
        let now_ms = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.opened + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    /// Returns once nothing has moved for `idle`.
    async fn until_idle(&self, idle: Option<Duration>) {
        let Some(idle) = idle else {
            return std::future::pending().await;
        };
        loop {
            let deadline = self.last() + idle;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline.into()).await;
        }
    }
}

/// An answer on its way to the writing task.
struct Pending<R> {
    api: &'static Api,
    version: i16,
    received: Instant,
    response: Readiness<R>,
}

enum Readiness<R> {
    Now(Response<R>),
    Later(Pin<Box<dyn Future<Output = Result<Response<R>, Refusal>> + Send>>),
}

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("idle")]
    Idle,
}

/// The writing task ends with the reading one, also when that is dropped.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves a connection until it ends or `stop` turns true.
pub(crate) async fn serve<N: Node>(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared<N>>,
    mut stop: watch::Receiver<bool>,
) {
    let stream = Arc::new(stream);
    let activity = Arc::new(Activity::new());
    let (answers, queue) = mpsc::channel(IN_FLIGHT_MAX);
    let writing = tokio::spawn(write_answers(
        Arc::clone(&stream),
        Arc::clone(&activity),
        queue,
        stop.clone(),
    ));
    let _abort_writing = AbortOnDrop(writing.abort_handle());
    let result = {
        let mut reading = pin!(read_requests(&stream, &activity, &shared, answers));
        tokio::select! {
            biased;
            result = &mut reading => result,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            () = activity.until_idle(shared.idle) => Err(Ended::Idle),
        }
    };
    let result = match result {
        // Nothing more is read, but what was accepted is answered.
        Ok(()) => {
            let mut writing = pin!(writing);
            tokio::select! {
                biased;
                written = &mut writing => written.unwrap_or_else(|error| Err(io::Error::other(error).into())),
                () = activity.until_idle(shared.idle) => Err(Ended::Idle),
            }
        }
        Err(ended) => Err(ended),
    };
    if let Err(ended) = result {
        report(&shared.listener, peer, &ended);
    }
}

/// Reads and executes requests until the client closes the connection or the writing task ends.
async fn read_requests<N: Node>(
    stream: &TcpStream,
    activity: &Activity,
    shared: &Shared<N>,
    answers: mpsc::Sender<Pending<N::Region>>,
) -> Result<(), Ended> {
    let mut frames = frame::FrameReader::new(stream, activity, shared.frame_limits);
    loop {
        let Ok(place) = answers.reserve().await else {
            return Ok(());
        };
        let frame = tokio::select! {
            biased;
            frame = frames.next() => frame?,
            () = answers.closed() => return Ok(()),
        };
        let Some(frame) = frame else {
            return Ok(());
        };
        let received = Instant::now();
        let (request, answer) = execute(shared, frame).await?;
        let pending = |response| Pending {
            api: request.api,
            version: request.version,
            received,
            response,
        };
        match answer {
            Answer::Now(response) => place.send(pending(Readiness::Now(response))),
            Answer::Later(response) => place.send(pending(Readiness::Later(response))),
            Answer::Silent => metrics::request(request.api, request.version, received.elapsed()),
        }
    }
}

async fn execute<N: Node>(shared: &Shared<N>, frame: Bytes) -> Result<(api::Request, Answer<N::Region>), Refusal> {
    let request = api::Request::parse(frame, shared.listener.kind)?;
    let answer = api::execute(&shared.node, &shared.listener, &request).await?;
    Ok((request, answer))
}

/// Writes answers in the order of their requests until there are no more.
async fn write_answers<R: std::os::fd::AsFd + Clone + Send + 'static>(
    stream: Arc<TcpStream>,
    activity: Arc<Activity>,
    mut queue: mpsc::Receiver<Pending<R>>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Ended> {
    while let Some(pending) = queue.recv().await {
        let response = match pending.response {
            Readiness::Now(response) => response,
            // A fetch that waits for records would hold up the end; whoever sent it asks again elsewhere.
            Readiness::Later(response) if pending.api.abandoned_on_stop => tokio::select! {
                biased;
                response = response => response?,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            },
            Readiness::Later(response) => response.await?,
        };
        writer::write(&stream, &activity, response).await?;
        metrics::request(pending.api, pending.version, pending.received.elapsed());
    }
    Ok(())
}

fn report(listener: &Listening, peer: SocketAddr, ended: &Ended) {
    static WARNINGS: RateLimit = RateLimit::per_second();
    let listener = &*listener.name;
    match ended {
        Ended::Io(error) | Ended::Frame(FrameError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
            tracing::debug!(listener, %peer, %error, "connection lost");
        }
        Ended::Idle => tracing::debug!(listener, %peer, "idle connection closed"),
        Ended::Refused(Refusal::Silently) => tracing::debug!(listener, %peer, "connection closed on an error"),
        ended => {
            metrics::refused_connection(listener);
            if let Some(others) = WARNINGS.allow() {
                tracing::warn!(listener, %peer, reason = %ended, others, "connection closed");
            }
        }
    }
}
