//! The ingest example as its users run it: as a process of its own, on real flights, killed at any moment.
//!
//! Its answers are compared with those of a plain pass over the CSV that shares no code with it.

mod expected;
#[cfg(target_os = "linux")]
mod flat;
mod process;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::expected::{bundled_csv, first_lines, gzip};
use crate::process::{Job, stderr, stdout};

/// Rows of the file that the killed runs read: ten chunks.
const ROWS: usize = 50_000;

#[test]
fn answers_equal_those_of_an_independent_pass() {
    let job = Job::new();
    let output = job.run(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(job.answers(), expected::answers(&bundled_csv()));
    assert!(stdout(&output).contains("ingested 250,000 flights"), "{}", stdout(&output));

    // Once more: it reports what it recovered, and adds nothing twice.
    let output = job.run(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(job.answers(), expected::answers(&bundled_csv()));
    let said = stdout(&output);
    assert!(said.contains("250,000 flights were counted, up to line 250,001"), "{said}");
    assert!(said.contains("nothing new: all 250,000 flights were in already"), "{said}");
}

#[test]
fn killed_at_ten_random_moments_a_rerun_gives_the_same_answers() {
    let csv = first_lines(&bundled_csv(), ROWS + 1);
    let expected = expected::answers(&csv);

    let job = Job::with_input(csv.as_bytes());
    let started = Instant::now();
    assert!(job.run(&[job.input()]).status.success());
    let whole = started.elapsed();
    assert_eq!(job.answers(), expected);

    let seed =
        std::env::var("ANABRANCH_SEED").map_or(2, |seed| seed.parse().expect("ANABRANCH_SEED is a number"));
    println!("ANABRANCH_SEED={seed}, a whole run takes {whole:.1?}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut killed = 0;
    for tenth in 0..10 {
        let moment = whole.mul_f64((f64::from(tenth) + random.random_range(0.0..1.0)) / 10.0);
        let job = Job::with_input(csv.as_bytes());
        let mut child = job.spawn(&[job.input()], Stdio::null());
        std::thread::sleep(moment);
        child.kill().unwrap(); // SIGKILL
        killed += u32::from(!child.wait().unwrap().success());

        let output = job.run(&[job.input()]);
        assert!(output.status.success(), "killed after {moment:.1?}: {}", stderr(&output));
        assert_eq!(job.answers(), expected, "killed after {moment:.1?}");
        let said = stdout(&output);
        let counted = said.lines().find(|line| line.contains("counted")).unwrap_or("  nothing was there");
        println!("killed after {moment:>7.1?}: {}", counted.trim());
    }
    assert!(killed >= 5, "only {killed} of 10 runs were killed before they ended");
}

#[test]
fn a_directory_killed_again_and_again_still_ends_with_the_same_answers() {
    let csv = first_lines(&bundled_csv(), ROWS + 1);
    let job = Job::with_input(csv.as_bytes());
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..8 {
        let mut child = job.spawn(&[job.input()], Stdio::null());
        std::thread::sleep(std::time::Duration::from_millis(random.random_range(20..300)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = job.run(&[job.input()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(job.answers(), expected::answers(&csv));
}

#[test]
fn a_malformed_line_is_named_and_the_good_ones_are_kept() {
    let long = "x".repeat(5_000);
    let bad: [(&[u8], &str); 9] = [
        (b"2001-01-01T00:02,5,100,LAX", "five fields"),
        (b"2001-01-01T00:02,5,100,LAX,PHL,9", "five fields"),
        (b"2001-01-01 00:02,5,100,LAX,PHL", "a date like"),
        (b"2001-13-01T00:02,5,100,LAX,PHL", "a date like"),
        (b"2001-01-01T00:02,late,100,LAX,PHL", "a delay in whole minutes"),
        (b"2001-01-01T00:02,5,-100,LAX,PHL", "a distance in whole miles"),
        (b"2001-01-01T00:02,5,100,lax,PHL", "an origin of three capital letters"),
        (b"2001-01-01T00:02,5,100,LAX,\xff\xfe\xfd", "a destination of three capital letters"),
        (long.as_bytes(), "five fields"),
    ];
    let mut csv = b"date,delay,distance,origin,destination\r\n".to_vec();
    let mut good = "date,delay,distance,origin,destination\n".to_owned();
    for (number, (line, _)) in bad.iter().enumerate() {
        csv.extend_from_slice(line);
        csv.extend_from_slice(b"\n\n");
        let flight = format!("2001-01-01T00:{number:02},{number},100,LAX,PHL\n");
        csv.extend_from_slice(flight.trim_end().as_bytes());
        csv.extend_from_slice(b"\r\n");
        good.push_str(&flight);
    }
    let job = Job::with_input(&csv);
    let output = job.run(&[job.input()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(job.answers(), expected::answers(&good));
    let said = stderr(&output);
    for (number, (_, expectation)) in bad.iter().enumerate() {
        let place = format!("{}:{}: expected {expectation}", job.input(), 2 + 3 * number);
        assert!(said.contains(&place), "no {place:?} in:\n{said}");
    }
    assert!(stdout(&output).contains("rejected 9 malformed lines"), "{}", stdout(&output));

    let again = job.run(&[job.input()]);
    assert_eq!(stderr(&again), "", "what was rejected is not rejected again");
    assert!(stdout(&again).contains("rejected 9 malformed lines"), "{}", stdout(&again));
}

#[test]
fn many_malformed_lines_are_counted_and_the_first_few_shown() {
    let mut csv = "date,delay,distance,origin,destination\n2001-01-01T00:01,5,100,LAX,PHL\n".to_owned();
    for _ in 0..12_000 {
        writeln!(csv, "oops").unwrap();
    }
    let job = Job::with_input(csv.as_bytes());
    let output = job.run(&[job.input()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 11, "{}", stderr(&output));
    assert!(stdout(&output).contains("rejected 12,000 malformed lines"), "{}", stdout(&output));
}

#[test]
fn standard_input_works_plain_and_gzip_and_a_file_goes_on_where_it_ended() {
    let csv = first_lines(&bundled_csv(), 12_001);
    for input in [first_lines(&csv, 7_001).into_bytes(), gzip(first_lines(&csv, 7_001).as_bytes())] {
        let job = Job::with_input(csv.as_bytes());
        let mut child = job.spawn(&["-"], Stdio::piped());
        child.stdin.take().unwrap().write_all(&input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(job.answers(), expected::answers(&first_lines(&csv, 7_001)));

        let output = job.run(&[job.input()]);
        assert!(stdout(&output).contains("ingested 5,000 flights"), "{}", stdout(&output));
        assert_eq!(job.answers(), expected::answers(&csv));
    }
}

#[test]
fn another_input_into_the_same_directory_is_refused() {
    let csv = first_lines(&bundled_csv(), 1_001);
    let job = Job::with_input(csv.as_bytes());
    assert!(job.run(&[job.input()]).status.success());
    let answers = job.answers();
    for other in [csv.replacen("LAS", "XYZ", 1), first_lines(&csv, 500)] {
        fs::write(job.input(), other).unwrap();
        let output = job.run(&[job.input()]);
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(said.contains("does not begin with the 1001 lines that are already ingested"), "{said}");
    }
    fs::write(job.input(), &csv).unwrap();
    assert!(job.run(&[job.input()]).status.success());
    assert_eq!(job.answers(), answers);
}

#[test]
fn what_cannot_be_read_is_an_error_and_makes_no_engine() {
    let job = Job::with_input(b"a,b,c\n1,2,3\n");
    let missing = format!("{}-missing", job.input());
    let output = job.run(&[&missing]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("can't read {missing}")), "{}", stderr(&output));
    assert!(!job.directory().exists());

    let output = job.run(&[job.input()]);
    assert_eq!(output.status.code(), Some(1));
    let place = format!("{}:1: expected the header date,delay,distance,origin,destination", job.input());
    assert!(stderr(&output).contains(&place), "{}", stderr(&output));

    let output = job.run(&["--frob"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_gzip_that_breaks_off_keeps_what_was_good_and_goes_on_when_it_is_whole() {
    let csv = first_lines(&bundled_csv(), 20_001);
    let packed = gzip(csv.as_bytes());
    let job = Job::with_input(&packed[..packed.len() / 2]);
    let output = job.run(&[job.input()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("can't read {}", job.input())), "{}", stderr(&output));

    fs::write(job.input(), packed).unwrap();
    let output = job.run(&[job.input()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stdout(&output).contains("ingested 20,000 flights"), "it went on: {}", stdout(&output));
    assert_eq!(job.answers(), expected::answers(&csv));
}

#[cfg(unix)]
#[test]
fn interrupted_it_says_where_it_goes_on() {
    let csv = first_lines(&bundled_csv(), 12_001);
    let job = Job::with_input(csv.as_bytes());
    let mut child = job.spawn(&["-"], Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(csv.as_bytes()).unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("made a new engine")));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    drop(stdin); // It did not wait for more.
    assert!(!output.status.success());
    if output.status.code().is_some() {
        assert_eq!(output.status.code(), Some(130));
        assert!(
            stderr(&output).contains("interrupted; the same command goes on from line"),
            "{}",
            stderr(&output)
        );
    }

    assert!(job.run(&[job.input()]).status.success());
    assert_eq!(job.answers(), expected::answers(&csv));
}
