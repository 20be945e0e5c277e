//! What is kept in the engine: the keys, the values, and how a chunk of rows gets in.

use std::collections::BTreeMap;

use anabranch::{Handle, Ingest};
use serde::{Deserialize, Serialize};

use crate::IngestError;
use crate::input::{Chunk, Row};

/// The key of the [`Value::Progress`].
pub(crate) const PROGRESS: &str = "progress";

/// Everything in the engine is one of these. Stored with field names, so that fields can be added later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Value {
    /// Under `flight/ORIGIN/TIME/LINE`.
    Flight { destination: String, delay: i32, distance: u32 },
    /// Under `route/ORIGIN/DESTINATION`.
    Route(Route),
    /// Under `progress`.
    Progress(Progress),
}

/// What is kept for a route. Delays are in minutes; below zero means early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) flights: u64,
    pub(crate) delay_total: i64,
    pub(crate) delay_worst: i32,
}

/// How far the input is ingested. Committed together with the routes that it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Lines that are done, the header included.
    pub(crate) lines: u64,
    /// Lines of them that became flights.
    pub(crate) flights: u64,
    /// Lines of them that were malformed.
    pub(crate) rejected: u64,
    /// The checksum of them all, by which a rerun knows that it was given the same input.
    pub(crate) checksum: u32,
}

pub(crate) type Db = Handle<String, Value>;

/// Sorts by origin, then time. The line number tells flights of one minute apart, and makes the key the same
/// in every run: writing a flight again changes nothing.
pub(crate) fn flight_key(row: &Row) -> String {
    format!("flight/{}/{}/{:07}", row.origin, row.time, row.line)
}

pub(crate) fn route_key(origin: &str, destination: &str) -> String {
    format!("route/{origin}/{destination}")
}

/// How far an earlier run came.
pub(crate) fn progress(db: &Db) -> Result<Progress, anabranch::Error> {
    match db.get(PROGRESS)?.as_deref() {
        Some(Value::Progress(progress)) => Ok(*progress),
        _ => Ok(Progress::default()),
    }
}

/// Puts a chunk of rows in.
///
/// The flights go first, through the sink, in as many commits as it takes. Then one transaction counts them and
/// moves the progress: whatever moment the process is killed at, either the chunk is counted and done, or it is
/// not counted and done again.
pub(crate) async fn put(db: &Db, sink: &mut Ingest<String, Value>, chunk: Chunk) -> Result<(), IngestError> {
    let mut counts = BTreeMap::new();
    for row in chunk.rows {
        let route = counts.entry(route_key(&row.origin, &row.destination)).or_insert(Route::EMPTY);
        route.add(Route { flights: 1, delay_total: row.delay.into(), delay_worst: row.delay });
        let key = flight_key(&row);
        let Row { destination, delay, distance, .. } = row;
        let sent = sink.send(key, Value::Flight { destination, delay, distance }).await;
        sent.map_err(anabranch::Error::from)?;
    }
    sink.flush().await.map_err(anabranch::Error::from)?;

    db.transaction(|txn| {
        for (key, counted) in &counts {
            txn.update(key.clone(), |stored| {
                let mut route = *counted;
                if let Some(Value::Route(stored)) = stored {
                    route.add(*stored);
                }
                Some(Value::Route(route))
            })?;
        }
        txn.insert(PROGRESS.to_owned(), Value::Progress(chunk.progress));
        Ok::<_, anabranch::Error>(())
    })
    .await?;
    Ok(())
}

impl Route {
    pub(crate) const EMPTY: Self = Self { flights: 0, delay_total: 0, delay_worst: i32::MIN };

    pub(crate) fn add(&mut self, other: Self) {
        self.flights += other.flights;
        self.delay_total += other.delay_total;
        self.delay_worst = self.delay_worst.max(other.delay_worst);
    }

    /// Minutes per flight.
    #[expect(clippy::cast_precision_loss, reason = "a mean for people; 2^52 minutes are many flights")]
    pub(crate) fn mean_delay(&self) -> f64 {
        self.delay_total as f64 / self.flights.max(1) as f64
    }
}
