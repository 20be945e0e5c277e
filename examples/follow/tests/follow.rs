//! Both processes, killed at random moments.

use std::io::{BufRead, BufReader};
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

#[cfg(unix)]
#[test]
fn killed_at_random_moments_both_go_on_and_end_identical() {
    let full = std::env::var("ANABRANCH_EFFORT").is_ok_and(|effort| effort == "full" || effort == "ci");
    let mut random = StdRng::seed_from_u64(11);
    let directory = tempfile::tempdir().unwrap();
    let mut halfway = 0;
    for round in 0..if full { 50 } else { 6 } {
        let mut child = spawn(directory.path(), 1_000_000);
        let mut said = String::new();
        // Kept open: a leader that can't say that it sent a snapshot would end by itself.
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut said).unwrap();
        let copy = said.split(", ").nth(1).and_then(|process| process.strip_prefix("process "));
        let copy = copy.expect("it says who the copy is");
        halfway += u32::from(said.contains("reached commit"));
        // Both are at work from here on. With the leader killed, the copy finds its input at an end.
        std::thread::sleep(Duration::from_millis(random.random_range(0..500)));
        if round % 2 == 0 {
            child.kill().unwrap(); // SIGKILL
        } else {
            let killed = Command::new("kill").args(["-9", copy]).status().unwrap();
            assert!(killed.success(), "the copy was still there");
        }
        assert!(!child.wait().unwrap().success(), "a leader without its copy says so");
        drop(stdout);
    }
    let said = run(directory.path(), 50);
    assert!(said.contains("identical at commit"), "{said}");
    assert!(halfway > 0, "no copy went on where it was");
}
