//! `/metrics`, `/livez` and `/readyz`.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::health::Health;
use crate::metrics::Metrics;

/// A few scrapers and probes; who comes on top of them waits.
const CONNECTIONS_MAX: usize = 32;
/// How long a client may take for a request's head, and a connection be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound port, and what it will answer.
pub struct HttpServer {
    listener: std::net::TcpListener,
    router: Router,
}

impl HttpServer {
    /// Binds to `address` (`HOST:PORT`, an empty host for every interface).
    pub fn bind(address: &str, metrics: Metrics, health: Arc<Health>) -> io::Result<HttpServer> {
        let listener = match address.strip_prefix(':') {
            Some(port) => bind_first(&format!("[::]:{port}")).or_else(|_| bind_first(&format!("0.0.0.0:{port}"))),
            None => bind_first(address),
        }?;
        listener.set_nonblocking(true)?;
        Ok(HttpServer {
            listener,
            router: router(metrics, health),
        })
    }

    /// Where it listens, with the port that was chosen for 0.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` ends.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accept = async {
            // The semaphore is never closed.
            while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let answer = answer(stream, self.router.clone());
                        tokio::spawn(async move {
                            answer.await;
                            drop(permit);
                        });
                    }
                    // Out of file descriptors, or a client that went away: neither is worth a tight loop.
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = stop => {}
        }
        Ok(())
    }
}

fn bind_first(address: &str) -> io::Result<std::net::TcpListener> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    std::net::TcpListener::bind(addresses.as_slice())
}

async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!("HTTP connection ended: {error}");
    }
}

fn router(metrics: Metrics, health: Arc<Health>) -> Router {
    let scrape = move || {
        let metrics = metrics.clone();
        async move {
            // Many partitions take a while: the runtime's threads are for heartbeats.
            match tokio::task::spawn_blocking(move || metrics.render()).await {
                Ok(text) => (
                    [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
                    text,
                )
                    .into_response(),
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
    };
    let ready = move || {
        let readiness = health.readiness();
        async move {
            match readiness {
                Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            }
        }
    };
    Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::metrics::tests::local;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_and_health_are_served() {
        let health = Arc::new(Health::default());
        let metrics = local(|| metrics::counter!("a_total").increment(1));
        let server = HttpServer::bind("127.0.0.1:0", metrics, Arc::clone(&health)).unwrap();
        let address = server.local_address().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));

        let scrape = ask(address, "/metrics").await;
        assert!(
            scrape.starts_with("HTTP/1.1 200 ") && scrape.contains("text/plain; version=0.0.4"),
            "{scrape}"
        );
        assert!(
            scrape.contains("\na_total 1\n") && scrape.contains("process_cpu_seconds_total "),
            "{scrape}"
        );
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200 "));
        let starting = ask(address, "/readyz").await;
        assert!(
            starting.starts_with("HTTP/1.1 503 ") && starting.ends_with("starting\n"),
            "{starting}"
        );
        health.started(|| Ok(()));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
        assert!(ask(address, "/").await.starts_with("HTTP/1.1 404 "));

        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = HttpServer::bind(&address, local(|| ()), Arc::default())
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
