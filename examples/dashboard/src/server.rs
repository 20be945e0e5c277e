//! The server: an engine, its load, and the three addresses.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anabranch::{Durability, Engine, Env, Error, Eviction, Flush, SystemEnv};
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::frame::Frames;
use crate::{Arguments, Frame, Load, Progress};

/// How often the numbers are read.
const READ_EVERY: Duration = Duration::from_millis(500);
/// Two minutes.
const FRAMES_KEPT: usize = 240;
const PAGE: &str = include_str!("page.html");

/// What can go wrong.
#[derive(Debug)]
pub enum Failure {
    /// The engine.
    Engine(Error),
    /// The network, or a temporary directory.
    Io(std::io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A running engine with its page. [`Server::stop`] ends all of it in order.
pub struct Server {
    address: SocketAddr,
    engine: Arc<Engine<u64, Vec<u8>>>,
    load: Load,
    reading: JoinHandle<()>,
    serving: JoinHandle<std::io::Result<()>>,
    stop: oneshot::Sender<()>,
    /// Removed at the end, if the engine lives in one.
    _temporary: Option<tempfile::TempDir>,
}

/// The last readings, oldest first.
type Recent = Mutex<VecDeque<Frame>>;

/// What the addresses need.
#[derive(Clone)]
struct Shared {
    engine: Arc<Engine<u64, Vec<u8>>>,
    frames: Arc<Recent>,
    prometheus: PrometheusHandle,
}

impl Server {
    /// Opens the engine, starts its load, and listens.
    ///
    /// # Errors
    /// If the engine does not open, or the port is taken.
    pub async fn start(arguments: &Arguments) -> Result<Self, Failure> {
        let (directory, temporary) = if let Some(directory) = &arguments.directory {
            (directory.clone(), None)
        } else {
            let temporary = tempfile::tempdir()?;
            (temporary.path().join("data"), Some(temporary))
        };
        let mut builder = Engine::builder().shards(arguments.shards);
        if arguments.relaxed {
            builder = builder.durability(Durability::Relaxed(Flush::every(Duration::from_millis(100))));
        }
        if let Some(age) = arguments.max_snapshot_age() {
            builder = builder.max_snapshot_age(age);
        }
        if let Some(bytes) = arguments.memory_limit() {
            builder = builder.memory_limit(bytes, Eviction::Lru);
        }
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        // Of several servers in one process, the first has the process's metrics.
        let _ = metrics::set_global_recorder(recorder);
        let engine = Arc::new(builder.open(directory).await?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
        let address = listener.local_addr()?;
        let load = Load::start(&engine.handle(), arguments.load());
        let frames = Arc::<Recent>::default();
        let reading =
            tokio::spawn(read(Arc::clone(&engine), Arc::clone(load.progress()), Arc::clone(&frames)));
        let shared = Shared { engine: Arc::clone(&engine), frames, prometheus };
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let served = axum::serve(listener, routes(shared)).with_graceful_shutdown(async {
                let _ = stopped.await;
            });
            served.await
        });
        Ok(Self { address, engine, load, reading, serving, stop, _temporary: temporary })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the load, then the page, then the engine.
    ///
    /// # Errors
    /// What closing the engine says.
    pub async fn stop(self) -> Result<(), Failure> {
        let Self { engine, load, reading, serving, stop, .. } = self;
        load.stop().await;
        reading.abort();
        let _ = reading.await;
        let _ = stop.send(());
        if let Ok(served) = serving.await {
            served?;
        }
        // With the page and the readings, all others who had the engine are gone.
        match Arc::try_unwrap(engine) {
            Ok(engine) => Ok(engine.close().await?),
            Err(_) => Ok(()),
        }
    }
}

fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/stats", get(stats))
        .route("/history", get(history))
        .route("/metrics", get(metrics_text))
        .with_state(shared)
}

async fn stats(State(shared): State<Shared>) -> impl IntoResponse {
    let frame = shared.frames.lock().back().cloned().unwrap_or_default();
    ([(header::CACHE_CONTROL, "no-store")], Json(frame))
}

/// For a page that has just been opened.
async fn history(State(shared): State<Shared>) -> impl IntoResponse {
    let frames = shared.frames.lock().clone();
    ([(header::CACHE_CONTROL, "no-store")], Json(frames))
}

async fn metrics_text(State(shared): State<Shared>) -> impl IntoResponse {
    shared.engine.record_metrics();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.prometheus.render())
}

/// Reads the numbers twice a second, whoever looks.
async fn read(engine: Arc<Engine<u64, Vec<u8>>>, progress: Arc<Progress>, frames: Arc<Recent>) {
    let started = SystemEnv.now();
    let mut clock = interval(READ_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut made = Frames::default();
    loop {
        clock.tick().await;
        let frame = made.next(SystemEnv.now().saturating_sub(started), engine.stats(), &progress);
        let mut frames = frames.lock();
        if frames.len() == FRAMES_KEPT {
            frames.pop_front();
        }
        frames.push_back(frame);
    }
}
