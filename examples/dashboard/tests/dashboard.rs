//! The addresses over HTTP, the process with its end by Ctrl-C, and, ignored by default, the page in a browser.

mod http;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anabranch_dashboard::{Arguments, Frame, Server};
use clap::Parser;
use http::{Reply, get};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_mins(1);

fn arguments(more: &[&str]) -> Arguments {
    let fixed = ["dashboard", "--port", "0", "--shards", "2", "--keys", "100", "--tasks", "4"];
    Arguments::parse_from(fixed.iter().chain(more))
}

async fn frame(server: &Server) -> Frame {
    let Reply { head, body } = get(server.address(), "/stats").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/json"), "{head}");
    serde_json::from_str(&body).unwrap()
}

/// Asks until the numbers are as wanted.
async fn until(server: &Server, wanted: impl Fn(&Frame) -> bool) -> Frame {
    let asked = async {
        loop {
            let frame = frame(server).await;
            if wanted(&frame) {
                return frame;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, asked).await.expect("the load brings about what is waited for")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_shows_what_the_engine_does() {
    let server = Server::start(&arguments(&["--relaxed", "--reader-seconds", "1"])).await.unwrap();
    let first = until(&server, |frame| frame.stats.commits > 0 && frame.commits_per_second > 0.0).await;
    let later = until(&server, |frame| frame.number > first.number && frame.reads_per_second > 0.0).await;
    assert!(later.seconds > first.seconds && later.stats.commits > first.stats.commits);
    assert_eq!((later.stats.shards.len(), later.errors), (2, 0));
    let history: Vec<Frame> = serde_json::from_str(&get(server.address(), "/history").await.body).unwrap();
    assert!(history.len() > 1 && history.is_sorted_by_key(|frame| frame.number));
    assert!(later.commit_millis > 0.0 && later.logged_per_second > 0.0);
    until(&server, |frame| frame.stats.oldest_reader.is_some_and(|oldest| oldest.commits_behind > 0)).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_maximum_age_ends_the_loads_own_snapshot() {
    let server =
        Server::start(&arguments(&["--max-snapshot-seconds", "1", "--reader-seconds", "3"])).await.unwrap();
    until(&server, |frame| frame.stats.readers_ended > 0).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_memory_shows_what_is_used_and_what_went() {
    let more =
        ["--relaxed", "--rate", "0", "--memory-limit-mib", "1", "--keys", "50000", "--value-bytes", "500"];
    let server = Server::start(&arguments(&more)).await.unwrap();
    let frame = until(&server, |frame| frame.stats.memory.evictions > 0).await;
    assert_eq!((frame.stats.memory.limit_bytes, frame.errors), (Some(1 << 20), 0));
    assert!(frame.stats.memory.current_bytes > 0);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_one_file_that_asks_for_nothing_from_elsewhere() {
    let server = Server::start(&arguments(&["--tasks", "0"])).await.unwrap();
    let Reply { head, body } = get(server.address(), "/").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/html"), "{head}");
    assert!(body.contains("<title>anabranch</title>"));
    let foreign = body.replace("http://www.w3.org/2000/svg", "");
    for asks in ["http://", "https://", "src=", "<link", "@import", "url("] {
        assert!(!foreign.contains(asks), "it has {asks}");
    }
    assert!(get(server.address(), "/nowhere").await.head.starts_with("HTTP/1.1 404"));
    server.stop().await.unwrap();
}

/// As a process: whose metrics are its own, and which Ctrl-C ends.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_exports_metrics_and_ends_cleanly_at_ctrl_c() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, address) = start(&directory.path().join("data"), &["--rate", "500"]).await;
    let scraped = async {
        loop {
            let Reply { head, body } = get(address, "/metrics").await;
            assert!(head.contains("text/plain"), "{head}");
            // The counters are there from the beginning, as zero.
            let mut commits = body.lines().filter(|line| line.starts_with("anabranch_commits_total{"));
            if commits.any(|line| !line.ends_with(" 0")) && body.contains("anabranch_sync_seconds") {
                return body;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let body = timeout(LIMIT, scraped).await.expect("it commits");
    assert!(body.contains("# TYPE anabranch_commits_total counter"), "{body}");
    assert!(body.contains("anabranch_watermark{engine=\"default\",level=\"durable\"}"), "{body}");
    let id = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let ended = timeout(LIMIT, child.wait()).await.expect("it ends").unwrap();
    assert!(ended.success(), "{ended}");
    // It was closed, so it opens again, with what was committed.
    let engine: anabranch::Engine<u64, Vec<u8>> =
        anabranch::Engine::builder().open(directory.path().join("data")).await.unwrap();
    assert!(engine.recovery_report().log.recovered_to.0 > 0);
}

async fn start(data: &Path, more: &[&str]) -> (tokio::process::Child, std::net::SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dashboard"))
        .arg(data)
        .args(["--port", "0"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(LIMIT, lines.next_line()).await.expect("it says where it is").unwrap().unwrap();
    // Its output stays open, or its last words would end it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let address = line.strip_prefix("http://").expect("an address").parse().unwrap();
    (child, address)
}

/// The page, as a browser without a screen shows it: light, dark and on a phone. The pictures stay in the directory
/// that `ANABRANCH_SCREENSHOTS` names, to be looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium"]
async fn a_browser_shows_the_page_in_light_in_dark_and_on_a_phone() {
    let server = Server::start(&arguments(&["--rate", "400", "--keys", "2000"])).await.unwrap();
    // So that the plots have something to show.
    until(&server, |frame| frame.number > 40 && frame.stats.commits > 500).await;
    let temporary = tempfile::tempdir().unwrap();
    let pictures =
        std::env::var_os("ANABRANCH_SCREENSHOTS").map_or_else(|| temporary.path().into(), PathBuf::from);
    std::fs::create_dir_all(&pictures).unwrap();
    let page = format!("http://{}/", server.address());
    for (name, size, dark) in
        [("light", "1200,980", false), ("dark", "1200,980", true), ("phone", "420,2300", false)]
    {
        let picture = pictures.join(format!("dashboard-{name}.png"));
        let mut browser = browser(temporary.path());
        browser.arg(format!("--window-size={size}")).arg(format!("--screenshot={}", picture.display()));
        if dark {
            browser.arg("--blink-settings=preferredColorScheme=0");
        }
        let shown = timeout(LIMIT, browser.arg(&page).output()).await.expect("it ends").unwrap();
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        assert!(std::fs::metadata(&picture).unwrap().len() > 10_000, "the picture shows something");
    }
    let mut browser = browser(temporary.path());
    let dumped =
        timeout(LIMIT, browser.args(["--dump-dom", &page]).output()).await.expect("it ends").unwrap();
    let dom = String::from_utf8_lossy(&dumped.stdout).into_owned();
    assert!(dom.contains("running for") && dom.contains("shard 1") && dom.contains("log 1"), "{dom}");
    assert!(dom.contains("<polyline") && !dom.contains("NaN") && !dom.contains("undefined"), "{dom}");
    server.stop().await.unwrap();
}

/// It lets some seconds of the page's own time pass before it looks.
fn browser(profile: &Path) -> Command {
    let mut browser = Command::new("chromium");
    browser.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
    ]);
    browser.arg(format!("--user-data-dir={}", profile.join("profile").display()));
    browser.args(["--virtual-time-budget=3000", "--run-all-compositor-stages-before-draw"]);
    browser.stdin(Stdio::null()).kill_on_drop(true);
    browser
}
