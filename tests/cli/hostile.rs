//! Files that nobody wrote in good faith: each command ends, with a status and without a panic.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::directory::{Database, copy, files, root};
use crate::tool::{Run, tool};
use crate::verify::effort;

/// Runs every command. What they say depends on the damage; that they end does not.
fn run_all(directory: &Path, new: &Path, change: &str) -> Vec<Run> {
    let plain = |command: &str| tool([OsStr::new(command), directory.as_os_str()]);
    let mut runs: Vec<_> = ["verify", "dump"].into_iter().map(plain).collect();
    runs.push(tool(["inspect".as_ref(), directory.as_os_str(), "--records".as_ref(), "--json".as_ref()]));
    for command in ["salvage", "backup"] {
        let _ = fs::remove_dir_all(new);
        runs.push(tool([OsStr::new(command), directory.as_os_str(), new.as_os_str()]));
    }
    assert!(runs.iter().all(|run| (0..=2).contains(&run.status)), "{change}: {runs:?}");
    let sound = runs[0].status == 0;
    // Dump and backup take exactly what is sound.
    assert_eq!(runs[1].status == 0, sound, "{change}: {runs:?}");
    assert_eq!(runs[4].status == 0, sound, "{change}: {runs:?}");
    runs
}

#[test]
fn garbage_under_our_names_is_no_reason_to_panic() {
    let root = root();
    let (directory, new) = (root.path().join("db"), root.path().join("new"));
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..if effort() { 30 } else { 4 } {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        for name in ["MANIFEST", "log-0000-0000.wal", "log-0000-4294967295.wal", "checkpoint-00000001.ckp"] {
            let mut bytes = vec![0; random.random_range(0..300_000)];
            random.fill_bytes(&mut bytes);
            fs::write(directory.join(name), bytes).unwrap();
        }
        for run in run_all(&directory, &new, &format!("round {round}")).into_iter().take(2) {
            assert_eq!(run.status, 1, "{run:?}");
        }
    }
}

#[tokio::test]
async fn shuffled_pieces_of_a_database_are_no_reason_to_panic() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live_with_checkpoint(40).await;
    database.live(30).await;
    let (changed, new) = (root.path().join("changed"), root.path().join("new"));
    let intact: Vec<_> = files(&database.path).into_iter().filter(|(name, _)| name != "LOCK").collect();
    let mut random = StdRng::seed_from_u64(11);
    let mut damaged = 0;
    for round in 0..if effort() { 150 } else { 15 } {
        copy(&database.path, &changed);
        let mut pieces = Vec::new();
        for _ in 0..random.random_range(1..4) {
            // Sectors of one file over those of another: with checksums that match, in the wrong place.
            let (name, bytes) = &intact[random.random_range(0..intact.len())];
            let (_, other) = &intact[random.random_range(0..intact.len())];
            let mut bytes = bytes.clone();
            let sector = |random: &mut StdRng, bytes: &[u8]| {
                let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
                random.random_range(0..used.div_ceil(512)) * 512
            };
            let (from, to) = (sector(&mut random, other), sector(&mut random, &bytes));
            let length = random.random_range(1..40) * 512;
            let piece = &other[from..other.len().min(from + length)];
            let end = bytes.len().min(to + piece.len());
            bytes[to..end].copy_from_slice(&piece[..end - to]);
            pieces.push(format!("{length} bytes at {to} of {name} from {from}"));
            fs::write(changed.join(name), bytes).unwrap();
        }
        let runs = run_all(&changed, &new, &format!("round {round}: {pieces:?}"));
        damaged += usize::from(runs[0].status != 0);
    }
    assert!(damaged > 3, "only {damaged} were damaged");
}
