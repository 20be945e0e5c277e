//! A second engine, in another process, kept identical by the feed of changes.
//!
//! `follow LEADER FOLLOWER` opens an engine in the directory LEADER, goes on writing to it, and starts itself once more
//! as `follow --copy FOLLOWER`. The copy says which commit it has reached; the leader sends it every change after that,
//! or, if its log no longer reaches back so far, a snapshot first. The copy applies each commit together with its place
//! in the leader's order, in one commit of its own, so it goes on exactly where it was, however either process ended.

mod copy;
mod lead;
mod message;

use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::Arg;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: follow LEADER FOLLOWER [--commits N]\n       follow --copy FOLLOWER";

enum Command {
    Lead { leader: PathBuf, follower: PathBuf, commits: u64 },
    Copy(PathBuf),
}

fn command() -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    let (mut directories, mut commits, mut copies) = (Vec::new(), 1_000, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("commits") => commits = lexopt::ValueExt::parse(&parser.value()?)?,
            Arg::Long("copy") => copies = true,
            Arg::Value(directory) => directories.push(PathBuf::from(directory)),
            other => return Err(other.unexpected()),
        }
    }
    match (copies, &directories[..]) {
        (true, [directory]) => Ok(Command::Copy(directory.clone())),
        (false, [leader, follower]) => {
            Ok(Command::Lead { leader: leader.clone(), follower: follower.clone(), commits })
        }
        _ => Err(USAGE.into()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match command() {
        Ok(Command::Lead { leader, follower, commits }) => lead::run(&leader, &follower, commits).await,
        Ok(Command::Copy(directory)) => copy::run(&directory).await,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
