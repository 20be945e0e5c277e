//! The worker as a process, seen from outside.

use std::ffi::OsString;
use std::future::Future;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::event::Event;
use crate::history::{Content, History};
use crate::plan::Plan;
use crate::worker::WORKER;

/// What takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// Awaits, and fails instead of hanging.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> Result<T, String> {
    timeout(LIMIT, future).await.map_err(|_| format!("it hangs for {LIMIT:?}"))
}

/// When a worker is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kill {
    Never,
    AfterStart(Duration),
    AfterOpening(Duration),
}

/// What is left of a life.
pub(crate) struct Ended {
    pub(crate) history: History,
    pub(crate) status: ExitStatus,
}

impl Ended {
    /// Nothing failed by itself, and nothing but SIGKILL ended it.
    pub(crate) fn was_killed_in_its_prime(&self) -> Result<(), String> {
        let History { refused, failures, setbacks, .. } = &self.history;
        if refused.is_some() || !failures.is_empty() || !setbacks.is_empty() {
            return Err(format!("undisturbed, it said {refused:?}, {failures:?}, {setbacks:?}"));
        }
        if self.status.signal() == Some(9) { Ok(()) } else { Err(format!("it ended with {}", self.status)) }
    }
}

/// Leads a life to its end. `wrapper` is a command that runs the worker, empty for none.
pub(crate) async fn lead(
    plan: &Plan,
    base: Content,
    wrapper: &[OsString],
    kill: Kill,
) -> Result<Ended, String> {
    let mut child = start(plan, wrapper);
    let mut events = listen(&mut child);
    let mut history = History::new(base);
    let mut doom = match kill {
        Kill::AfterStart(after) => Some(Instant::now() + after),
        Kill::Never | Kill::AfterOpening(_) => None,
    };
    let alive = async {
        loop {
            let event = tokio::select! {
                () = sleep_until(doom.unwrap_or_else(Instant::now)), if doom.is_some() => {
                    child.start_kill().map_err(|error| format!("it can't be killed: {error}"))?;
                    doom = None;
                    continue;
                }
                event = events.recv() => event,
            };
            let Some(event) = event else { return Ok(()) };
            if matches!(event, Event::Opened(_))
                && let Kill::AfterOpening(after) = kill
            {
                doom = Some(Instant::now() + after);
            }
            history.add(event)?;
        }
    };
    let outcome = within(alive).await.and_then(|outcome: Result<(), String>| outcome);
    // A worker ends when its standard input does, also one that only its wrapper could kill.
    drop(child.stdin.take());
    let status = within(child.wait()).await?.map_err(|error| format!("waiting for it: {error}"))?;
    outcome?;
    Ok(Ended { history, status })
}

fn start(plan: &Plan, wrapper: &[OsString]) -> Child {
    let binary = std::env::current_exe().expect("a test has a binary").into_os_string();
    let mut words = wrapper.to_vec();
    words.push(binary);
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["--exact", WORKER, "--quiet", "--nocapture", "--test-threads=1"])
        .envs(plan.to_environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}", words[0].display()))
}

/// What the worker says, until its end. A line that was cut short was not said.
fn listen(child: &mut Child) -> mpsc::UnboundedReceiver<Event> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
    tokio::spawn(async move {
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.is_ok() {
            let Some(text) = line.strip_suffix(b"\n") else { break };
            if let Some(event) = Event::parse(&String::from_utf8_lossy(text)) {
                let _ = sender.send(event);
            }
            line.clear();
        }
    });
    receiver
}
