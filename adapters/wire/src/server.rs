//! Listeners: binding, accepting, limits on connections, and the orderly end.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::budget::{Budget, RequestMemory};
use crate::connection::{self, FrameLimits, Shared};
use crate::metrics;
use crate::node::Node;
use crate::rate_limit::RateLimit;

/// How long accepting pauses when the process or the machine is out of file descriptors.
const OUT_OF_FILES_PAUSE: Duration = Duration::from_millis(200);

/// The default of `ottla.request.memory.bytes`.
const REQUEST_MEMORY_BYTES: usize = 128 * 1024 * 1024;

/// Which requests a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Those of clients and of other brokers.
    Broker,
    /// Those of controllers, of brokers to their controller, and of `--bootstrap-controller`.
    Controller,
}

/// A listener's name and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    pub(crate) name: Arc<str>,
    pub(crate) kind: ListenerKind,
}

/// A listener to bind.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name in `listeners`, as `PLAINTEXT`: clients are told the endpoints of the listener that they came by.
    pub name: Arc<str>,
    /// Which requests it takes.
    pub kind: ListenerKind,
    /// Where to listen, all on one port; port 0 takes any that is free. An IPv6 address that the machine does not have
    /// is left out when there is another one.
    pub addresses: Vec<SocketAddr>,
}

/// Options of sockets.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// `socket.listen.backlog.size`.
    pub backlog: i32,
    /// `socket.send.buffer.bytes`; `None` lets Linux choose.
    pub send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; `None` lets Linux choose.
    pub receive_buffer_bytes: Option<usize>,
}

/// Limits of one connection and its requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// `socket.request.max.bytes`: the largest Produce request.
    pub produce_max_bytes: usize,
    /// `ottla.request.max.bytes`: the largest request of any other kind.
    pub request_max_bytes: usize,
    /// `connections.max.idle.ms`; `None` keeps idle connections.
    pub idle: Option<Duration>,
}

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener} cannot listen on {address}: {error}")]
pub struct BindError {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

/// A listener that holds its ports and does not accept yet: connections wait in the backlog.
#[derive(Debug)]
pub struct Bound {
    listening: Listening,
    sockets: Vec<std::net::TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Bound {
    /// Opens the ports of a listener.
    ///
    /// # Errors
    ///
    /// An address that cannot be used; with port 0, also when the port that the first address got is taken on another.
    pub fn bind(listener: &Listener, options: SocketOptions) -> Result<Bound, BindError> {
        let mut bound = Bound {
            listening: Listening {
                name: Arc::clone(&listener.name),
                kind: listener.kind,
            },
            sockets: Vec::new(),
            addresses: Vec::new(),
        };
        let only_ipv6 = listener.addresses.iter().any(SocketAddr::is_ipv4);
        for mut address in listener.addresses.iter().copied() {
            if let (0, Some(first)) = (address.port(), bound.addresses.first()) {
                address.set_port(first.port());
            }
            match bind(address, only_ipv6, options) {
                Ok((socket, address)) => {
                    bound.sockets.push(socket);
                    bound.addresses.push(address);
                }
                Err(error) if address.is_ipv6() && only_ipv6 && is_missing(&error) => {
                    tracing::debug!(listener = &*listener.name, %address, %error, "no IPv6 on this machine");
                }
                Err(error) => {
                    return Err(BindError {
                        listener: Arc::clone(&listener.name),
                        address,
                        error,
                    });
                }
            }
        }
        Ok(bound)
    }

    /// The listener's name.
    pub fn name(&self) -> &Arc<str> {
        &self.listening.name
    }

    /// Where it listens, with the real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts and serves connections on the current runtime until [`Serving::stop`].
    ///
    /// # Errors
    ///
    /// The runtime cannot watch the sockets.
    pub fn serve<N: Node>(
        self,
        node: Arc<N>,
        limits: RequestLimits,
        quota: &Arc<ConnectionQuota>,
    ) -> io::Result<Serving> {
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            node,
            listener: self.listening,
            frame_limits: FrameLimits {
                produce_max_bytes: limits.produce_max_bytes,
                request_max_bytes: limits.request_max_bytes.min(limits.produce_max_bytes),
            },
            idle: limits.idle,
            budget: Arc::clone(&quota.memory),
        });
        let mut accepting = Vec::with_capacity(self.sockets.len());
        for socket in self.sockets {
            let listener = TcpListener::from_std(socket)?;
            let quota = Arc::clone(quota);
            accepting.push(tokio::spawn(accept(
                listener,
                Arc::clone(&shared),
                quota,
                stopped.clone(),
            )));
        }
        Ok(Serving { stop, accepting })
    }
}

fn bind(
    address: SocketAddr,
    only_ipv6: bool,
    options: SocketOptions,
) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted node takes its port while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_ipv6)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        // Accepted connections inherit both.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    let socket = std::net::TcpListener::from(socket);
    let address = socket.local_addr()?;
    Ok((socket, address))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
    )
}

/// A listener at work.
pub struct Serving {
    stop: watch::Sender<bool>,
    accepting: Vec<JoinHandle<()>>,
}

impl Serving {
    /// Stops accepting and reading, lets what was read be answered, and closes all connections, at the latest after
    /// `grace`.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        let aborts: Vec<_> = self.accepting.iter().map(JoinHandle::abort_handle).collect();
        let ended = async {
            for task in self.accepting {
                // A task that panicked has nothing left to close.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            // Each task owns its connections and takes them along.
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }
}

async fn accept<N: Node>(
    listener: TcpListener,
    shared: Arc<Shared<N>>,
    quota: Arc<ConnectionQuota>,
    mut stopped: watch::Receiver<bool>,
) {
    static WARNINGS: RateLimit = RateLimit::per_second(1);
    let name = Arc::clone(&shared.listener.name);
    let (open, accepted_total) = (metrics::connection_count(&name), metrics::connections_accepted(&name));
    let turned_away = metrics::connections_turned_away(&name);
    metrics::show_zeros(&name);
    let mut connections = JoinSet::new();
    let mut accounts = HashMap::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            Some(ended) = connections.join_next_with_id() => {
                let (id, ()) = ended.unwrap_or_else(|error| {
                    connection::report_panic(&name, &error);
                    (error.id(), ())
                });
                accounts.remove(&id);
                continue;
            }
            // Beyond max.connections new ones wait in the backlog, as Kafka lets them.
            accepted = async { quota.place().await; listener.accept().await } => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(others) = WARNINGS.allow() {
                    tracing::warn!(listener = &*name, %error, others, "cannot accept a connection");
                }
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
                ) {
                    tokio::time::sleep(OUT_OF_FILES_PAUSE).await;
                }
                continue;
            }
        };
        if is_among_last_files(&stream) {
            // Storage needs them: a log that cannot open a file takes its directory offline.
            drop(stream);
            turned_away.increment(1);
            if let Some(others) = WARNINGS.allow() {
                tracing::warn!(listener = &*name, %peer, others, "file descriptors run low: connection turned away");
            }
            tokio::time::sleep(OUT_OF_FILES_PAUSE).await;
            continue;
        }
        let permit = match quota.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(max_connections) => {
                turned_away.increment(1);
                if let Some(others) = WARNINGS.allow() {
                    tracing::warn!(listener = &*name, %peer, max_connections, others, "too many connections from one address");
                }
                continue;
            }
        };
        let options = stream
            .set_nodelay(true)
            .and_then(|()| SockRef::from(&stream).set_keepalive(true));
        if let Err(error) = options {
            tracing::debug!(listener = &*name, %peer, %error, "connection lost");
            continue;
        }
        accepted_total.increment(1);
        open.increment(1.0);
        let (shared, account, place) = (Arc::clone(&shared), shared.budget.open(), (permit, Open(open.clone())));
        let serving = {
            let account = Arc::clone(&account);
            async move {
                let _place = place;
                connection::serve(stream, peer, shared, account).await;
            }
        };
        accounts.insert(connections.spawn(serving).id(), account);
    }
    drop(listener);
    accounts.values().for_each(|account| account.stop());
    while connections.join_next().await.is_some() {}
}

/// True when the connection's file descriptor is one of those that are kept for log files: an eighth of RLIMIT_NOFILE,
/// at most 512. Linux gives out the lowest number that is free.
fn is_among_last_files(stream: &TcpStream) -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return false;
    };
    let kept = (limit / 8).min(512);
    u64::try_from(stream.as_raw_fd()).is_ok_and(|file| file >= limit - kept)
}

/// Counts a connection as open until it is dropped.
struct Open(::metrics::Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// `max.connections`.
    pub total_max: usize,
    /// `max.connections.per.ip`.
    pub per_ip_max: usize,
    /// `max.connections.per.ip.overrides`.
    pub per_ip_overrides: HashMap<IpAddr, usize>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            total_max: usize::MAX,
            per_ip_max: usize::MAX,
            per_ip_overrides: HashMap::new(),
        }
    }
}

/// What the connections of all listeners share: their number, and the memory of their requests and answers. The lock is
/// taken when connections come and go, never by requests.
#[derive(Debug)]
pub struct ConnectionQuota {
    counts: Mutex<Counts>,
    freed: Notify,
    memory: Arc<Budget>,
}

#[derive(Debug)]
struct Counts {
    limits: ConnectionLimits,
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
}

impl ConnectionQuota {
    /// No connections yet, and the default memory for their requests and answers.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Self::with_request_memory(limits, REQUEST_MEMORY_BYTES)
    }

    /// The same with `ottla.request.memory.bytes`.
    pub fn with_request_memory(limits: ConnectionLimits, request_memory_bytes: usize) -> Arc<Self> {
        Arc::new(ConnectionQuota {
            counts: Mutex::new(Counts {
                limits,
                total: 0,
                per_ip: HashMap::new(),
            }),
            freed: Notify::new(),
            memory: Budget::new(request_memory_bytes),
        })
    }

    /// The memory of requests and answers, as it is used now.
    pub fn request_memory(&self) -> RequestMemory {
        self.memory.usage()
    }

    /// Changes the limits; connections that exist stay.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        self.counts.lock().limits = limits;
        self.freed.notify_waiters();
    }

    /// Waits until another connection is allowed.
    async fn place(&self) {
        loop {
            let freed = self.freed.notified();
            {
                let counts = self.counts.lock();
                if counts.total < counts.limits.total_max {
                    return;
                }
            }
            freed.await;
        }
    }

    /// Counts a connection, or tells the limit of its address.
    fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<Permit, usize> {
        let ip = ip.to_canonical();
        let counts = &mut *self.counts.lock();
        let max = *counts
            .limits
            .per_ip_overrides
            .get(&ip)
            .unwrap_or(&counts.limits.per_ip_max);
        if counts.per_ip.get(&ip).is_some_and(|count| *count >= max) || max == 0 {
            return Err(max);
        }
        *counts.per_ip.entry(ip).or_default() += 1;
        counts.total += 1;
        Ok(Permit {
            quota: Arc::clone(self),
            ip,
        })
    }
}

/// A counted connection.
#[derive(Debug)]
struct Permit {
    quota: Arc<ConnectionQuota>,
    ip: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let counts = &mut *self.quota.counts.lock();
        counts.total = counts.total.saturating_sub(1);
        if let Some(count) = counts.per_ip.get_mut(&self.ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.per_ip.remove(&self.ip);
            }
        }
        self.quota.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const OPTIONS: SocketOptions = SocketOptions {
        backlog: 1,
        send_buffer_bytes: None,
        receive_buffer_bytes: None,
    };

    fn listener(addresses: Vec<SocketAddr>) -> Listener {
        Listener {
            name: "PLAINTEXT".into(),
            kind: ListenerKind::Broker,
            addresses,
        }
    }

    #[test]
    fn all_addresses_of_a_listener_have_one_port() {
        let addresses = vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv4Addr::new(127, 0, 0, 2), 0).into()];
        let bound = Bound::bind(&listener(addresses), OPTIONS).unwrap();
        let [first, second] = bound.addresses() else {
            panic!("{bound:?}");
        };
        assert_ne!(first.port(), 0);
        assert_eq!(first.port(), second.port());
    }

    #[test]
    fn an_ipv6_address_that_is_not_there_is_left_out() {
        // A documentation address: no machine has it.
        let absent = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let addresses = vec![(Ipv4Addr::LOCALHOST, 0).into(), (absent, 0).into()];
        let bound = Bound::bind(&listener(addresses), OPTIONS).unwrap();
        assert!(bound.addresses().iter().all(SocketAddr::is_ipv4));
        assert!(Bound::bind(&listener(vec![(absent, 0).into()]), OPTIONS).is_err());
    }

    #[test]
    fn a_port_in_use_is_named() {
        let bound = Bound::bind(&listener(vec![(Ipv4Addr::LOCALHOST, 0).into()]), OPTIONS).unwrap();
        let taken = bound.addresses()[0];
        let error = Bound::bind(&listener(vec![taken]), OPTIONS).unwrap_err();
        let expected = format!("listener PLAINTEXT cannot listen on {taken}: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
