//! System calls of the worker that fail or kill, by `strace`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::event::{Event, Operation};

/// What happens to a system call.
#[derive(Clone, Debug)]
pub(crate) struct Injection {
    pub(crate) call: &'static str,
    /// `error=EIO`, `signal=KILL`.
    pub(crate) effect: &'static str,
    /// The call of each thread that it happens to.
    pub(crate) when: String,
    /// Only calls that concern this file count.
    pub(crate) path: Option<PathBuf>,
}

impl Injection {
    /// The command that runs a worker under it, and writes all calls concerned to `log`.
    pub(crate) fn command(&self, log: &Path) -> Vec<OsString> {
        let Self { call, effect, when, path } = self;
        // Its own words are traced, too: they tell what was said before a call failed, and what after it.
        let mut words: Vec<OsString> =
            ["strace", "-f", "-qq", "-y", "-s", "64", "-o"].into_iter().map(OsString::from).collect();
        words.push(log.into());
        words.extend(["-e".into(), format!("trace=write,{call}").into()]);
        words.extend(["-e".into(), format!("inject={call}:{effect}:when={when}").into()]);
        match path {
            Some(path) => words.extend(["-P".into(), path.into()]),
            // Faster, but it makes signals get lost.
            None if effect.starts_with("error") => words.push("--seccomp-bpf".into()),
            None => {}
        }
        words
    }
}

/// What a log of `strace` says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// The files of the calls that were made to fail.
    pub(crate) failed: Vec<String>,
    /// What the worker began after the first of these had failed.
    pub(crate) begun_after: Vec<Operation>,
}

impl Trace {
    pub(crate) fn read(log: &Path) -> Self {
        let text = std::fs::read(log).expect("strace has written its log");
        let mut trace = Self::default();
        let mut unfinished = BTreeMap::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            if let Some((begun, _)) = call.split_once("<unfinished") {
                unfinished.insert(thread.to_owned(), begun.to_owned());
            }
            if call.contains("(INJECTED)") {
                let begun = if call.contains(" resumed>") { unfinished.get(thread) } else { None };
                trace.failed.push(file_of(begun.map_or(call, String::as_str)));
            }
            if !trace.failed.is_empty() {
                trace.begun_after.extend(begun_in(call));
            }
        }
        trace
    }
}

/// The file name in `fdatasync(13</some/where/MANIFEST>`.
fn file_of(call: &str) -> String {
    let path = call.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path);
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The operation in `write(1<pipe:[7]>, "@ begin 0 12 ...`.
fn begun_in(call: &str) -> Option<Operation> {
    let (_, said) = call.trim_start().strip_prefix("write(1<")?.split_once('"')?;
    let words: Vec<_> = said.strip_prefix("@ begin ")?.splitn(3, ' ').collect();
    Some(Operation { task: words.first()?.parse().ok()?, number: words.get(1)?.parse().ok()? })
}

#[test]
fn a_log_of_strace_is_understood() {
    let begin = Event::Begin { operation: Operation { task: 2, number: 17 }, writes: vec![] };
    let log = tempfile::NamedTempFile::new().unwrap();
    let lines = format!(
        "8 write(1<pipe:[7]>, \"{}\", 9) = 9\n\
         7 fdatasync(13</tmp/db/log-0000-0000.wal> <unfinished ...>\n\
         8 pwrite64(11</tmp/db/MANIFEST>, \"ANAB\"..., 4096, 0) = -1 EIO (Input/output error) (INJECTED)\n\
         8 write(1<pipe:[7]>, \"{begin} own/2/01 \"..., 99 <unfinished ...>\n\
         7 <... fdatasync resumed>)          = -1 EIO (Input/output error) (INJECTED)\n",
        Event::Begin { operation: Operation { task: 2, number: 16 }, writes: vec![] }
    );
    std::fs::write(log.path(), lines).unwrap();
    let trace = Trace::read(log.path());
    assert_eq!(trace.failed, ["MANIFEST", "log-0000-0000.wal"]);
    assert_eq!(trace.begun_after, [Operation { task: 2, number: 17 }]);
}
