//! The command-line tool `anabranch`, run as a process on directories that are sound, empty, foreign, in use and
//! damaged.

mod backup;
mod directory;
mod dump;
mod hostile;
mod inspect;
mod json;
mod salvage;
mod tool;
#[path = "../../engine/cli/value.rs"]
mod value;
mod verify;
