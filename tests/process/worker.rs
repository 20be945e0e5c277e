//! The worker: this test binary again, as a process of its own, that opens an engine and works until it is
//! killed or done. It says what it is about to do, and what came of it.

use std::io::{Read, Write};
use std::process::exit;
use std::sync::{Arc, Mutex};
use std::thread;

use anabranch::{Engine, Error};
use tokio::task::JoinSet;

use crate::event::Event;
use crate::history::History;
use crate::judge::judge;
use crate::plan::{Mode, Plan, Work};
use crate::random::Random;
use crate::row::{Key, Value};
use crate::task::Task;

/// The name of the test that is the worker.
pub(crate) const WORKER: &str = "worker::a_life_without_a_kill_keeps_everything";
const EXIT_ABANDONED: i32 = 3;

/// Where events go: to whoever started this process.
#[derive(Clone)]
pub(crate) struct Pipe(Arc<Mutex<Box<dyn Write + Send>>>);

impl Pipe {
    pub(crate) fn new(end: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(end))))
    }

    /// Says it before it returns. Nobody listens any more: then there is no more work either.
    pub(crate) fn say(&self, event: &Event) {
        let mut end = self.0.lock().unwrap();
        if end.write_all(format!("{event}\n").as_bytes()).and_then(|()| end.flush()).is_err() {
            exit(EXIT_ABANDONED);
        }
    }
}

/// The variant's name, and what it says.
pub(crate) fn describe(error: &Error) -> (String, String) {
    let name = match error {
        Error::Conflict { .. } => "Conflict",
        Error::Closed => "Closed",
        Error::ReadOnly { .. } => "ReadOnly",
        Error::Indeterminate { .. } => "Indeterminate",
        Error::DiskFull { .. } => "DiskFull",
        Error::Io(_) => "Io",
        Error::Corrupt { .. } => "Corrupt",
        _ => "Other",
    };
    (name.to_owned(), error.to_string().replace('\n', " "))
}

/// Opens, works, looks at what is served, and closes.
async fn live(plan: &Plan, pipe: &Pipe) {
    let engine = match plan.builder().open(&plan.directory).await {
        Ok(engine) => engine,
        Err(refusal) => {
            let (error, message) = describe(&refusal);
            return pipe.say(&Event::Refused { error, message });
        }
    };
    pipe.say(&Event::Opened(engine.recovery_report().log.recovered_to.0));
    let mut tasks = JoinSet::new();
    for task in 0..plan.tasks() {
        tasks.spawn(Task::new(plan, task, &engine.handle(), pipe.clone()).run());
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task of the worker does not panic");
    }
    if plan.work == Work::Backup {
        engine.backup(plan.directory.with_extension("backup")).await.expect("nothing fails here");
    }
    serve(&engine, pipe);
    let (error, message) = match engine.close().await {
        Ok(()) => ("Ok".to_owned(), "orderly".to_owned()),
        Err(error) => describe(&error),
    };
    pipe.say(&Event::Closed { error, message });
}

/// Reads go on, whatever has happened to the log.
fn serve(engine: &Engine<Key, Value>, pipe: &Pipe) {
    let snapshot = engine.handle().snapshot();
    let entries: Vec<_> = snapshot.range(..).map(|entry| entry.expect("the engine is open")).collect();
    assert_eq!(snapshot.len().expect("the engine is open"), entries.len());
    for (key, value) in entries {
        let found = snapshot.get(&key).expect("the engine is open").expect("the scan had it");
        assert_eq!(found, value, "{key} in a get, and in a scan");
        engine.handle().get(&key).expect("reads go on");
        pipe.say(&Event::Served { key, tag: value.0 });
    }
    pipe.say(&Event::Snapshot { timestamp: snapshot.timestamp().0 });
}

/// Ends the process when whoever started it has gone or given up: a worker that hangs does not stay.
fn end_with_parent() {
    let wait = || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        exit(EXIT_ABANDONED);
    };
    thread::Builder::new().spawn(wait).expect("there is one more thread");
}

/// The worker, if the environment has a plan for it. Else the whole of it in this process, undisturbed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_without_a_kill_keeps_everything() {
    if let Some(plan) = Plan::from_environment() {
        end_with_parent();
        return live(&plan, &Pipe::new(std::io::stdout())).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(directory.path(), 1, &mut Random::new(1), Mode::Full);
    plan.operations = 40;
    let (mut heard, said) = std::io::pipe().unwrap();
    let listener = thread::Builder::new().spawn(move || {
        let mut lines = String::new();
        heard.read_to_string(&mut lines).map(|_| lines)
    });
    live(&plan, &Pipe::new(said)).await;
    let lines = listener.unwrap().join().unwrap().unwrap();
    let mut history = History::default();
    lines.lines().filter_map(Event::parse).for_each(|event| history.add(event).unwrap());
    let served = history.served.clone().expect("the worker has come to its end");
    judge(&history, &served).unwrap();
    let content = crate::database::read(&plan).await.unwrap();
    assert_eq!(content, served);
    assert!(history.acknowledged() > 40, "{} operations", history.acknowledged());
}
