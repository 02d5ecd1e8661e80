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
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinError;

pub(crate) use frame::{FrameError, FrameLimits};

use crate::api::{self, Answer, Refusal};
use crate::budget::{Account, Budget, Charge, FREE_BYTES, NoRoom};
use crate::metrics::{self, requests::Executed};
use crate::node::Node;
use crate::rate_limit::RateLimit;
use crate::response::Response;
use crate::server::Listening;

/// How many answers of a connection may wait to be written. librdkafka and the Java client have at most 5 to a broker
/// in flight by default.
const IN_FLIGHT_MAX: usize = 32;

/// After a request that took longer other connections have their turn, however many requests are there already.
const SLICE: Duration = Duration::from_millis(1);

/// How often a request is in memory at the most while it is handled: as it was decoded, as the domain's types or as those of
/// the answer, and as the answer's bytes.
const HANDLED: usize = 3;

/// How many answers go out together.
const TOGETHER_MAX: usize = 8;

/// Everything that the connections of a listener share.
pub(crate) struct Shared<N> {
    pub(crate) node: Arc<N>,
    pub(crate) listener: Listening,
    pub(crate) frame_limits: FrameLimits,
    /// `connections.max.idle.ms`; `None` keeps idle connections.
    pub(crate) idle: Option<Duration>,
    pub(crate) budget: Arc<Budget>,
}

/// Returns once nothing has moved for `idle`.
async fn until_idle(account: &Account, idle: Option<Duration>) {
    let Some(idle) = idle else {
        return std::future::pending().await;
    };
    loop {
        let deadline = account.last_moved() + idle;
        if deadline <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(deadline.into()).await;
    }
}

/// Returns once the client sends no more, whether or not all that it sent was read.
async fn until_hung_up(stream: &TcpStream) {
    // Nobody asked the kernel for priority data, so this is the end of the stream alone, also while unread bytes wait.
    match stream.ready(Interest::PRIORITY).await {
        Ok(ready) if !ready.is_read_closed() => std::future::pending().await,
        // Of an error the reading task learns by itself.
        _ => {}
    }
}

/// Why the connection must end, whatever it is at. Notices on the way when the client hangs up.
async fn until_ended(stream: &TcpStream, account: &Account, idle: Option<Duration>) -> Ended {
    let watching = async {
        until_hung_up(stream).await;
        account.hang_up();
        std::future::pending().await
    };
    tokio::select! {
        () = until_idle(account, idle) => Ended::Idle,
        () = account.crowded_out() => Ended::Crowded,
        ended = watching => ended,
    }
}

/// An answer on its way to the writing task.
struct Pending<R> {
    request: Executed,
    response: Readiness<R>,
    /// Room for the request, and for the answer once that is there.
    charge: Charge,
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
    #[error("it held most of ottla.request.memory.bytes with least progress")]
    Crowded,
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// The writing task ends with the reading one, also when that is dropped.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves a connection until it ends or its account says so.
pub(crate) async fn serve<N: Node>(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared<N>>, account: Arc<Account>) {
    let stream = Arc::new(stream);
    let (answers, queue) = mpsc::channel(IN_FLIGHT_MAX);
    let writing = tokio::spawn(write_answers(Arc::clone(&stream), Arc::clone(&account), queue));
    let _abort_writing = AbortOnDrop(writing.abort_handle());
    let mut ended = pin!(until_ended(&stream, &account, shared.idle));
    let result = {
        let mut reading = pin!(read_requests(&stream, peer.ip(), &account, &shared, answers));
        tokio::select! {
            biased;
            result = &mut reading => result,
            ended = &mut ended => Err(ended),
        }
    };
    let result = match result {
        // Nothing more is read, but what was accepted before is answered, as Kafka answers one request after another.
        Ok(())
        | Err(Ended::Refused(_) | Ended::NoRoom(_) | Ended::Frame(FrameError::Size { .. } | FrameError::NoRoom(_))) => {
            let mut writing = pin!(writing);
            let written = tokio::select! {
                biased;
                written = &mut writing => written.unwrap_or_else(|error| {
                    report_panic(&shared.listener.name, &error);
                    Ok(())
                }),
                ended = &mut ended => Err(ended),
            };
            result.and(written)
        }
        Err(ended) => Err(ended),
    };
    if let Err(ended) = result {
        report(&shared.listener, peer, &ended);
    }
}

/// Reads and executes requests until the client closes the connection, the writing task ends, or the node stops. A
/// request that was begun is done then.
async fn read_requests<N: Node>(
    stream: &TcpStream,
    peer: IpAddr,
    account: &Arc<Account>,
    shared: &Shared<N>,
    answers: mpsc::Sender<Pending<N::Region>>,
) -> Result<(), Ended> {
    let mut frames = frame::FrameReader::new(stream, account, shared.frame_limits);
    loop {
        let next = async {
            let Ok(place) = answers.reserve().await else {
                return Ok(None);
            };
            let frame = tokio::select! {
                biased;
                frame = frames.next() => frame?,
                () = answers.closed() => None,
            };
            Ok::<_, Ended>(frame.map(|frame| (place, frame)))
        };
        let next = tokio::select! {
            biased;
            () = account.stopped() => return Ok(()),
            next = next => next?,
        };
        let Some((place, frame)) = next else {
            return Ok(());
        };
        let mut charge = frame.charge;
        let request = api::Request::parse(frame.bytes, shared.listener.kind)?;
        let decoded_bytes = request.check(shared.budget.limit_bytes() / HANDLED)?;
        account.admit(request.api.served_at_limit).await;
        if decoded_bytes > FREE_BYTES {
            charge.grow(decoded_bytes * HANDLED).await?;
        }
        let begun = Instant::now();
        let handled = api::execute(&shared.node, &shared.listener, peer, account, &request).await?;
        let request = Executed {
            api: request.api,
            by_follower: handled.by_follower,
            version: request.version,
            body_bytes: request.body.len(),
            received: frame.received,
            begun,
            done: Instant::now(),
        };
        let is_long = request.done.duration_since(begun) > SLICE;
        let response = match handled.answer {
            Answer::Now(response) => {
                charge = account.force(response.memory_bytes());
                Readiness::Now(response)
            }
            Answer::Later(response) => Readiness::Later(response),
            Answer::Silent => {
                request.silently();
                continue;
            }
        };
        place.send(Pending {
            request,
            response,
            charge,
        });
        if is_long {
            tokio::task::yield_now().await;
        }
    }
}

/// Writes answers in the order of their requests until there are no more. What is ready at the same time goes out
/// together.
async fn write_answers<R: std::os::fd::AsFd + Clone + Send + 'static>(
    stream: Arc<TcpStream>,
    account: Arc<Account>,
    mut queue: mpsc::Receiver<Pending<R>>,
) -> Result<(), Ended> {
    let mut unsent = Unsent {
        writer: writer::Writer::new(&stream, &account),
        answers: Vec::new(),
        taken: None,
    };
    loop {
        let pending = match queue.try_recv() {
            Ok(pending) => pending,
            Err(_) => {
                unsent.send().await?;
                match queue.recv().await {
                    Some(pending) => pending,
                    None => return Ok(()),
                }
            }
        };
        let is_late = matches!(pending.response, Readiness::Later(_));
        if is_late || unsent.answers.len() == TOGETHER_MAX {
            unsent.send().await?;
        }
        let response = match pending.response {
            Readiness::Now(response) => response,
            // A fetch that waits for records would hold up the end; whoever sent it asks again elsewhere.
            Readiness::Later(response) if pending.request.api.abandoned_on_stop => tokio::select! {
                biased;
                response = response => response?,
                () = account.stopped() => return Ok(()),
            },
            Readiness::Later(response) => response.await?,
        };
        if unsent.answers.is_empty() {
            unsent.taken = metrics::requests::now();
        }
        // Answers that are ready were charged; a late one takes the place of its request now.
        let (mut charge, mut known) = (pending.charge, pending.request.done);
        if is_late {
            charge = account.force(response.memory_bytes());
            known = unsent.taken.unwrap_or(known);
        }
        unsent.writer.push(response).await?;
        unsent.answers.push(Answered {
            request: pending.request,
            known,
            _charge: charge,
        });
    }
}

/// An answer until it is sent.
struct Answered {
    request: Executed,
    known: Instant,
    _charge: Charge,
}

/// Answers whose last bytes are not sent yet.
struct Unsent<'a> {
    writer: writer::Writer<'a>,
    answers: Vec<Answered>,
    /// When the first of them was taken from the queue, if that is to be recorded.
    taken: Option<Instant>,
}

impl Unsent<'_> {
    async fn send(&mut self) -> io::Result<()> {
        self.writer.flush().await?;
        let times = self.taken.take().zip(metrics::requests::now());
        for answer in self.answers.drain(..) {
            if let Some((taken, sent)) = times {
                answer.request.answered(answer.known, taken, sent);
            }
        }
        Ok(())
    }
}

/// Tells of a connection that ended by a bug of ours; everything else goes on.
pub(crate) fn report_panic(listener: &str, error: &JoinError) {
    static ERRORS: RateLimit = RateLimit::per_second(1);
    if error.is_panic() {
        metrics::refused_connection(listener);
        if let Some(others) = ERRORS.allow() {
            tracing::error!(listener, %error, others, "connection closed: its task panicked");
        }
    }
}

fn report(listener: &Listening, peer: SocketAddr, ended: &Ended) {
    static WARNINGS: RateLimit = RateLimit::per_second(1);
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
