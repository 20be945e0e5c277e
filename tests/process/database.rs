//! Opens, in this process, what a worker left.

use anabranch::Engine;

use crate::history::{Content, History};
use crate::judge::judge;
use crate::plan::Plan;
use crate::process::within;
use crate::row::{COUNTER, Key, Tag, Value};

/// Opens a plan's database, reads everything, and closes it.
pub(crate) async fn read(plan: &Plan) -> Result<Content, String> {
    let engine = open(plan).await?;
    let content = content(&engine)?;
    if plan.life.is_multiple_of(2) {
        // In disorder: who opens it next in this process waits for that, and finds the same.
        drop(engine);
        let engine = open(plan).await?;
        let again = self::content(&engine)?;
        if again != content {
            return Err(format!("the first opening finds {content:?}, the second {again:?}"));
        }
        close(engine).await?;
    } else {
        close(engine).await?;
    }
    Ok(content)
}

async fn open(plan: &Plan) -> Result<Engine<Key, Value>, String> {
    let engine = within(plan.builder().open(&plan.directory)).await?;
    engine.map_err(|error| format!("it does not open: {error:?}"))
}

async fn close(engine: Engine<Key, Value>) -> Result<(), String> {
    within(engine.close()).await?.map_err(|error| format!("it does not close: {error:?}"))
}

/// Reads everything, forwards and backwards.
fn content(engine: &Engine<Key, Value>) -> Result<Content, String> {
    let recovered_to = engine.recovery_report().log.recovered_to.0;
    let snapshot = engine.handle().snapshot();
    let mut content = Content { timestamp: snapshot.timestamp().0, ..Content::default() };
    if content.timestamp != recovered_to {
        return Err(format!("recovered to {recovered_to}, and serves {}", content.timestamp));
    }
    let mut keys = Vec::new();
    for entry in snapshot.range(..) {
        let (key, value) = entry.map_err(|error| format!("reading: {error:?}"))?;
        if !key.starts_with(COUNTER) && Tag::of(&value).is_none() {
            return Err(format!("the value of {key} is garbage"));
        }
        keys.push(key.clone());
        content.put(key, value.0);
    }
    let backwards = snapshot.range(..).rev().filter_map(|entry| entry.ok().map(|(key, _)| key));
    let mut backwards: Vec<_> = backwards.collect();
    backwards.reverse();
    if backwards == keys { Ok(content) } else { Err(format!("forwards {keys:?}, backwards {backwards:?}")) }
}

/// Opens it, and judges what is there. Returns that.
pub(crate) async fn reopen(plan: &Plan, history: &History) -> Result<Content, String> {
    let content = read(plan).await?;
    judge(history, &content)?;
    if let Some(served) = &history.served {
        judge(history, served).map_err(|violation| format!("in the snapshot served: {violation}"))?;
        if served.timestamp > content.timestamp {
            return Err(format!("{} was served, and {} is there", served.timestamp, content.timestamp));
        }
    }
    Ok(content)
}
