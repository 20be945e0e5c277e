//! Runs an engine under a load and shows it on a page at 127.0.0.1:
//!
//! ```text
//! cargo run --release -p anabranch-dashboard -- --rate 5000 --reader-seconds 30
//! ```

use std::process::ExitCode;

use anabranch_dashboard::{Arguments, Failure, Server};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let server = Server::start(arguments).await?;
    println!("http://{}", server.address());
    tokio::signal::ctrl_c().await?;
    println!("closing");
    server.stop().await
}
