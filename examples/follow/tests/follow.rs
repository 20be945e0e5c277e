//! Both processes, killed at random moments.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn spawn(directory: &Path, commits: u64) -> Child {
    Command::new(env!("CARGO_BIN_EXE_follow"))
        .arg(directory.join("leader"))
        .arg(directory.join("follower"))
        .args(["--commits", &commits.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(directory: &Path, commits: u64) -> String {
    let output = spawn(directory, commits).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_copy_is_identical_and_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let first = run(directory.path(), 300);
    assert!(first.contains("reached nothing") && first.contains("identical at commit 300"), "{first}");
    let second = run(directory.path(), 300);
    assert!(second.contains("reached commit 300") && second.contains("identical at commit 600"), "{second}");
    assert!(!second.contains("a snapshot"), "{second}");
    // A copy that has lost everything begins anew.
    std::fs::remove_dir_all(directory.path().join("follower")).unwrap();
    let third = run(directory.path(), 10);
    assert!(third.contains("a snapshot of commit 6") && third.contains("identical at commit 610"), "{third}");
}

#[test]
fn killed_at_random_moments_both_go_on_and_end_identical() {
    let full = std::env::var("ANABRANCH_EFFORT").is_ok_and(|effort| effort == "full" || effort == "ci");
    let mut random = StdRng::seed_from_u64(11);
    let directory = tempfile::tempdir().unwrap();
    let mut halfway = 0;
    for _ in 0..if full { 50 } else { 5 } {
        // With the leader, the copy finds its input at an end: it may still be about to close.
        let mut child = spawn(directory.path(), 1_000_000);
        std::thread::sleep(Duration::from_millis(random.random_range(50..400)));
        child.kill().unwrap(); // SIGKILL
        let output = child.wait_with_output().unwrap();
        halfway += u32::from(String::from_utf8_lossy(&output.stdout).contains("reached commit"));
    }
    let said = run(directory.path(), 50);
    assert!(said.contains("identical at commit"), "{said}");
    assert!(halfway > 0, "no copy went on where it was");
}
