//! The command-line tool `anabranch`: looks into a database's directory, checks, copies, dumps and salvages it.
//! Built with the feature `cli`.

#[path = "../cli/mod.rs"]
mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
