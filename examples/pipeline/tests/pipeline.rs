//! The pipeline as its users run it: as a process, on real flights, interrupted and killed at any moment. What it leaves
//! is compared, row by row and aggregate by aggregate, with a plain pass over the CSV that shares no code with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use parquet::basic::{Compression as Compressed, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;

const KEY: &str = "date,origin,destination";
const GROUPS: [&str; 4] = ["--group", "origin,destination=distance", "--group", "origin=delay"];

/// The first flights of the bundled file.
fn flights(rows: usize) -> String {
    static CSV: OnceLock<String> = OnceLock::new();
    let csv = CSV.get_or_init(|| {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/flights-250k.csv.gz");
        let mut csv = String::new();
        GzDecoder::new(fs::File::open(packed).unwrap()).read_to_string(&mut csv).unwrap();
        csv
    });
    csv.lines().take(rows + 1).fold(String::new(), |text, line| text + line + "\n")
}

/// What a run over these flights leaves.
fn expected(csv: &str, grouped: bool) -> BTreeMap<String, Value> {
    let mut content = BTreeMap::new();
    let mut groups: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for line in csv.lines().skip(1) {
        let [date, delay, distance, origin, destination] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let fields = json!({
            "date": date, "delay": delay, "distance": distance, "origin": origin, "destination": destination,
        });
        content.insert(format!("row/{date}/{origin}/{destination}"), json!({ "Row": fields }));
        for (group, amount) in [
            (format!("group/origin,destination/{origin}/{destination}"), distance),
            (format!("group/origin/{origin}"), delay),
        ] {
            let (rows, sum) = groups.entry(group).or_default();
            *rows += 1;
            *sum += amount.parse::<i64>().unwrap();
        }
    }
    let groups = groups.into_iter().filter(|_| grouped);
    content
        .extend(groups.map(|(group, (rows, sum))| (group, json!({ "Group": { "rows": rows, "sum": sum } }))));
    content
}

struct Job(TempDir);

impl Job {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    fn spawn(&self, input: &str, more: &[&str], stdin: Stdio) -> Child {
        Command::new(env!("CARGO_BIN_EXE_pipeline"))
            .current_dir(self.0.path())
            .args([input, "--key", KEY, "--dir", "engine", "--dump", "dump"])
            .args(more)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, input: &str, more: &[&str]) -> Output {
        self.spawn(input, more, Stdio::null()).wait_with_output().unwrap()
    }

    /// What is there in the end.
    fn content(&self) -> BTreeMap<String, Value> {
        let dump = fs::read_to_string(self.path("dump")).unwrap();
        let entry = |line: &str| {
            let entry: Value = serde_json::from_str(line).unwrap();
            (entry["key"].as_str().unwrap().to_owned(), entry["value"].clone())
        };
        dump.lines().map(entry).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn ndjson(csv: &str) -> String {
    let mut lines = csv.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').collect();
    let object = |line: &str| {
        let fields: BTreeMap<_, _> = header.iter().zip(line.split(',')).collect();
        format!("{}\n", json!(fields))
    };
    lines.map(object).collect()
}

/// The flights as a Parquet file of several row groups: texts, or with delay and distance as numbers.
fn parquet(csv: &str, compression: Compressed, numbers: bool) -> Vec<u8> {
    let columns = ["date", "delay", "distance", "origin", "destination"];
    let is_number = |column: usize| numbers && (column == 1 || column == 2);
    let fields = columns.iter().enumerate().map(|(index, name)| {
        if is_number(index) {
            format!("required int64 {name};")
        } else {
            format!("optional binary {name} (UTF8);")
        }
    });
    let schema = format!("message flights {{ {} }}", fields.collect::<String>());
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    for rows in lines.chunks(700) {
        let mut group = writer.next_row_group().unwrap();
        for index in 0..columns.len() {
            let mut column = group.next_column().unwrap().unwrap();
            if is_number(index) {
                let values: Vec<i64> = rows.iter().map(|row| row[index].parse().unwrap()).collect();
                column.typed::<Int64Type>().write_batch(&values, None, None).unwrap();
            } else {
                let values: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(row[index])).collect();
                let there = vec![1; values.len()];
                column.typed::<ByteArrayType>().write_batch(&values, Some(&there), None).unwrap();
            }
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn a_directory_of_several_formats_is_one_input_after_the_other_and_columns_keep_their_types() {
    let csv = flights(3_000);
    let (header, rows) = csv.split_once('\n').unwrap();
    let rows: Vec<_> = rows.lines().collect();
    let part = |rows: &[&str]| format!("{header}\n{}\n", rows.join("\n"));
    let job = Job::new();
    job.write("in/a.csv", part(&rows[..1_000]).as_bytes());
    job.write("in/b.parquet", &parquet(&part(&rows[1_000..2_000]), Compressed::SNAPPY, false));
    job.write("in/c.ndjson.gz", &gzip(ndjson(&part(&rows[2_000..])).as_bytes()));
    succeeded(&job.run("in", &GROUPS));
    assert_eq!(job.content(), expected(&csv, true));
    // Another file comes, and a file with more rows takes the place of one.
    job.write("in/b.parquet", &parquet(&part(&rows[1_000..2_500]), Compressed::SNAPPY, false));
    job.write("in/d.parquet", &parquet(&part(&rows[..10]), Compressed::UNCOMPRESSED, false));
    let said = succeeded(&job.run("in", &[]));
    assert!(said.contains("took in 510 rows"), "{said}");
    assert_eq!(job.content(), expected(&csv, true), "the same rows once more change nothing");

    let job = Job::new();
    job.write("flights.parquet", &parquet(&flights(100), Compressed::UNCOMPRESSED, true));
    succeeded(&job.run("flights.parquet", &GROUPS));
    let content = job.content();
    let row = content.iter().find(|(key, _)| key.starts_with("row/")).unwrap().1;
    assert!(row["Row"]["delay"].is_i64() && row["Row"]["origin"].is_string(), "{row}");
    let groups = |content: BTreeMap<String, Value>| -> Vec<_> {
        content.into_iter().filter(|(key, _)| key.starts_with("group/")).collect()
    };
    assert_eq!(groups(content), groups(expected(&flights(100), true)));

    let output = job.run("flights.parquet", &["--columns", "dealy"]);
    assert!(text(&output.stderr).contains("there is no column \"dealy\""), "{}", text(&output.stderr));
    job.write("cut.parquet", &parquet(&flights(100), Compressed::SNAPPY, true)[..2_000]);
    let output = job.run("cut.parquet", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cut.parquet, behind row 0"), "{}", text(&output.stderr));
    let output = job.run("-", &["--format", "parquet"]);
    assert!(text(&output.stderr).contains("standard input, behind row 0"), "{}", text(&output.stderr));
}

#[test]
fn every_format_and_packing_gives_the_same_rows_and_aggregates() {
    let csv = flights(3_000);
    let expected = expected(&csv, true);
    let files = [
        ("flights.csv", csv.clone().into_bytes()),
        ("flights.csv.gz", gzip(csv.as_bytes())),
        ("flights.csv.zst", zstd::encode_all(csv.as_bytes(), 1).unwrap()),
        ("flights.ndjson", ndjson(&csv).into_bytes()),
        ("flights.parquet", parquet(&csv, Compressed::ZSTD(ZstdLevel::default()), false)),
        ("flights.jsonl.zst", zstd::encode_all(ndjson(&csv).as_bytes(), 1).unwrap()),
        ("directory/flights.ndjson.gz", gzip(ndjson(&csv).as_bytes())),
    ];
    for (name, content) in files {
        let job = Job::new();
        job.write(name, &content);
        job.write("directory/notes.txt", b"not taken in");
        let input = if name.starts_with("directory") { "directory" } else { name };
        let said = succeeded(&job.run(input, &GROUPS));
        assert!(said.contains("took in 3,000 rows"), "{name}: {said}");
        assert_eq!(job.content(), expected, "{name}");
        let again = succeeded(&job.run(input, &GROUPS));
        assert!(
            again.contains("took in 0 rows") && again.contains("3,000 records were dealt with"),
            "{again}"
        );
        assert_eq!(job.content(), expected, "{name}, once more");
    }
    let from_standard_input = [
        ("csv", csv.clone().into_bytes()),
        ("csv", gzip(csv.as_bytes())),
        ("csv", zstd::encode_all(csv.as_bytes(), 1).unwrap()),
        ("ndjson", gzip(ndjson(&csv).as_bytes())),
        ("parquet", parquet(&csv, Compressed::SNAPPY, false)),
    ];
    for (format, content) in from_standard_input {
        let job = Job::new();
        let arguments = [&GROUPS[..], &["--format", format]].concat();
        let mut child = job.spawn("-", &arguments, Stdio::piped());
        child.stdin.take().unwrap().write_all(&content).unwrap();
        succeeded(&child.wait_with_output().unwrap());
        assert_eq!(job.content(), expected, "standard input, {format}");
    }
}

#[test]
fn a_file_that_has_grown_goes_on_and_another_one_is_refused() {
    let csv = flights(2_000);
    let job = Job::new();
    job.write("flights.csv", flights(1_200).as_bytes());
    succeeded(&job.run("flights.csv", &GROUPS));
    job.write("flights.csv", csv.as_bytes());
    let said = succeeded(&job.run("flights.csv", &GROUPS));
    assert!(said.contains("took in 800 rows"), "{said}");
    assert_eq!(job.content(), expected(&csv, true));
    job.write("flights.csv", flights(10).as_bytes());
    let output = job.run("flights.csv", &GROUPS);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("ended after 10 records, and 2000 were taken in before"), "{said}");
}

#[test]
fn what_is_no_row_is_rejected_into_a_file_and_the_rest_is_kept() {
    let mut csv = flights(4);
    csv.push_str("too,few\n");
    csv.push_str("\"2001-01-01\nT1\",1,2,AAA,BBB\n");
    csv.push_str("2001-01-01T1,late,2,AAA,BBB\n");
    csv.push_str("2001-01-01T1,5,2,,BBB\n");
    csv.push_str("2001-01-01T1,5,2,AAA,\"BBB\n\n");
    let job = Job::new();
    job.write("flights.csv", csv.as_bytes());
    let said = succeeded(&job.run("flights.csv", &[&GROUPS[..], &["--rejects", "rejects"]].concat()));
    assert!(said.contains("took in 5 rows") && said.contains("rejected 4"), "{said}");
    assert!(job.content().contains_key("row/2001-01-01\nT1/AAA/BBB"));
    let rejects = fs::read_to_string(job.path("rejects")).unwrap();
    let rejects: Vec<Value> = rejects.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let places: Vec<_> = rejects.iter().map(|reject| (&reject["line"], &reject["reason"])).collect();
    let reasons = [
        "2 fields, and not 5",
        "no whole number in column \"delay\"",
        "nothing in column \"origin\"",
        "a quoted field does not end",
    ];
    assert_eq!(
        places,
        [
            (&json!(6), &json!(reasons[0])),
            (&json!(9), &json!(reasons[1])),
            (&json!(10), &json!(reasons[2])),
            (&json!(11), &json!(reasons[3]))
        ]
    );

    let again = succeeded(&job.run("flights.csv", &[&GROUPS[..], &["--rejects", "rejects"]].concat()));
    assert!(again.contains("rejected 0"), "{again}");
}

#[test]
fn a_dry_run_says_what_it_would_do_and_makes_nothing() {
    let job = Job::new();
    job.write("flights.csv", (flights(100) + "too,few\n").as_bytes());
    let output = job.run("flights.csv", &["--dry-run"]);
    let said = succeeded(&output);
    assert!(said.contains("would take in 100 rows") && said.contains("rejected 1"), "{said}");
    assert!(text(&output.stderr).contains("flights.csv:102: 2 fields, and not 5"));
    assert!(!job.path("engine").exists());

    let output = job.run("missing.csv", &[]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("can't read missing.csv"));
    assert!(!job.path("engine").exists());
    let output = job.run("flights.csv", &["--columns", "dealy"]);
    assert!(text(&output.stderr).contains("there is no column \"dealy\""), "{}", text(&output.stderr));
}

/// Kills a run at a random moment, again and again, until it comes through; returns how often it was killed halfway.
fn killed(random: &mut StdRng, kills: u32, durability: &str, grouped: bool) {
    let rows = 12_000;
    let csv = flights(rows);
    let expected = expected(&csv, grouped);
    let arguments: Vec<_> =
        ["--durability", durability].into_iter().chain(GROUPS.into_iter().filter(|_| grouped)).collect();
    let whole = {
        let job = Job::new();
        job.write("flights.csv.gz", &gzip(csv.as_bytes()));
        let started = tokio::time::Instant::now();
        succeeded(&job.run("flights.csv.gz", &arguments));
        assert_eq!(job.content(), expected, "uninterrupted");
        started.elapsed()
    };
    let (mut done, mut halfway) = (0, 0);
    while done < kills {
        let job = Job::new();
        job.write("flights.csv.gz", &gzip(csv.as_bytes()));
        let mut runs = 0;
        loop {
            let mut child = job.spawn("flights.csv.gz", &arguments, Stdio::null());
            runs += 1;
            if runs <= 6 && done < kills {
                std::thread::sleep(whole.mul_f64(random.random_range(0.0..0.8)));
                child.kill().unwrap(); // SIGKILL
            }
            let output = child.wait_with_output().unwrap();
            if output.status.success() {
                let before = text(&output.stdout).contains("; 0 records were dealt with before");
                halfway += u32::from(!before && runs > 1);
                assert_eq!(job.content(), expected, "{durability}, grouped: {grouped}, run {runs}");
                break;
            }
            assert_eq!(output.status.code(), None, "{}", text(&output.stderr));
            done += 1;
        }
    }
    println!("{durability}, grouped: {grouped}: a whole run takes {whole:.1?}; killed {done} times");
    assert!(halfway > 0, "no run went on where a killed one had ended");
}

#[test]
fn killed_at_random_moments_it_ends_with_the_content_of_a_run_that_was_not() {
    let full = std::env::var("ANABRANCH_EFFORT").is_ok_and(|effort| effort == "full" || effort == "ci");
    let kills = if full { 50 } else { 4 };
    let seed =
        std::env::var("ANABRANCH_SEED").map_or(5, |seed| seed.parse().expect("ANABRANCH_SEED is a number"));
    let mut random = StdRng::seed_from_u64(seed);
    println!("ANABRANCH_SEED={seed}");
    for (durability, grouped) in [("relaxed", true), ("full", false)] {
        killed(&mut random, kills, durability, grouped);
    }
}

#[cfg(unix)]
#[test]
fn interrupted_it_keeps_what_it_has_and_the_same_command_goes_on() {
    let csv = flights(5_000);
    let job = Job::new();
    let mut child = job.spawn("-", &GROUPS, Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(csv.as_bytes()).unwrap();
    stdin.flush().unwrap();
    // It has no way to say how far it is while it waits for more, so it is given some time.
    std::thread::sleep(Duration::from_millis(800));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin); // It did not wait for more.
    if output.status.code().is_some() {
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("the same command goes on"), "{}", text(&output.stderr));
        assert!(said.contains("took in"), "{said}");
    }
    let mut child = job.spawn("-", &GROUPS, Stdio::piped());
    child.stdin.take().unwrap().write_all(csv.as_bytes()).unwrap();
    succeeded(&child.wait_with_output().unwrap());
    assert_eq!(job.content(), expected(&csv, true));
}
