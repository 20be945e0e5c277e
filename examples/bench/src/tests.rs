//! The harness as a whole: every workload runs, and an engine that is wrong is found out.

use std::any::Any;

use crate::cell::run;
use crate::engines::dash_map::BareDashMap;
use crate::engines::find;
use crate::keys::{Key, Value};
use crate::outcome::Order;
use crate::plan::Draw;
use crate::store::{Counters, Outcome, Setup, Store, Style};
use crate::workload::{ALL, Workload};

fn order(workload: &Workload, engine: &str, directory: &std::path::Path) -> Order {
    Order {
        engine: engine.to_owned(),
        workload: workload.name.to_owned(),
        tasks: 4,
        threads: 2,
        shards: Some(2),
        memory_limit: None,
        value_bytes: 20,
        seconds: 0.02,
        warm_up_seconds: 0.01,
        batch: None,
        flights: None,
        operations: None,
        draw: Draw { keys: 2000, zipf: None, cross: Some(1.0), shards: 2, seed: 1 },
        level: workload.level,
        directory: Some(directory.join(workload.name)),
    }
}

#[test]
fn every_workload_runs_on_anabranch_and_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    let anabranch = find("anabranch").unwrap();
    for workload in ALL {
        let measured = (anabranch.run)(&order(workload, "anabranch", directory.path()));
        let measured = measured.unwrap_or_else(|error| panic!("{}: {error}", workload.name));
        // Memory is counted right only in a process of its own.
        let value = measured.value > 0.0 || workload.name == "memory";
        assert!(value && measured.operations > 0, "{}: {measured:?}", workload.name);
    }
}

#[test]
fn the_limits_do_what_they_can_and_say_what_they_can_not() {
    let directory = tempfile::tempdir().unwrap();
    let run = |engine: &str, workload: &str| {
        let workload = Workload::find(workload).unwrap();
        (find(engine).unwrap().run)(&order(workload, engine, directory.path()))
            .map_err(|error| error.to_string())
    };
    assert!(run("dashmap", "update").is_ok());
    assert!(run("raw-file", "full-update-1").unwrap().syncs.is_some_and(|syncs| syncs > 0));
    assert_eq!(run("dashmap", "transfer").unwrap_err(), "it has no transactions");
    assert_eq!(run("dashmap", "full-update").unwrap_err(), "it keeps nothing on disk");
    assert_eq!(run("raw-file", "get").unwrap_err(), "it always syncs");
}

/// Loses every update, and keeps every other insert only.
#[derive(Clone)]
struct Lossy(BareDashMap);

impl Store for Lossy {
    const STYLE: Style = Style::Threads;

    async fn open(setup: &Setup) -> Outcome<Self> {
        Ok(Self(BareDashMap::open(setup).await?))
    }

    async fn get(&self, key: &str) -> Outcome<Option<u64>> {
        self.0.get(key).await
    }

    async fn put(&self, key: &str, value: &Value) -> Outcome<()> {
        if value.0.is_multiple_of(2) { self.0.put(key, value).await } else { Ok(()) }
    }

    async fn add(&self, _: &str, _: u64) -> Outcome<u64> {
        Ok(1)
    }

    async fn read(&self, _: &[&str]) -> Outcome<u64> {
        Ok(0)
    }

    async fn transfer(&self, from: &str, _: &str) -> Outcome<u64> {
        self.0.add(from, 1).await
    }

    async fn scan(&self, _: &str, _: usize, _: bool) -> Outcome<usize> {
        Ok(0)
    }

    async fn load(&self, rows: impl Iterator<Item = (Key, Value)> + Send, batch: usize) -> Outcome<()> {
        self.0.load(rows, batch).await
    }

    fn begin(&self) -> Outcome<Box<dyn Any + Send>> {
        self.0.begin()
    }

    async fn maintain(&self) -> Outcome<()> {
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    async fn close(self) -> Outcome<()> {
        Ok(())
    }
}

#[test]
fn an_engine_that_is_wrong_gets_no_number() {
    let directory = tempfile::tempdir().unwrap();
    let error = |workload: &str| {
        let workload = Workload::find(workload).unwrap();
        run::<Lossy>(&order(workload, "lossy", directory.path()))
            .map_or_else(|error| error.to_string(), |_| String::new())
    };
    assert!(error("hot-counter").contains("sum up"));
    assert!(error("transfer").contains("sum up"));
    assert!(error("load").contains("is missing"));
    assert!(error("read-10").contains("sum up"));
    assert!(error("scan-100").contains("rows of"));
    assert!(error("ycsb-f").contains("sum up"));
    assert_eq!(error("get"), "", "what it does right, it may be measured in");
}
