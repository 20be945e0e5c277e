//! What the answers should be: a plain pass over the CSV, with nothing of the example's and no engine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::sync::OnceLock;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// The bundled flights.
pub(crate) fn bundled_csv() -> String {
    static CSV: OnceLock<String> = OnceLock::new();
    let read = || {
        let packed =
            std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/flights-250k.csv.gz"));
        let mut csv = String::new();
        GzDecoder::new(packed.unwrap()).read_to_string(&mut csv).unwrap();
        csv
    };
    CSV.get_or_init(read).clone()
}

pub(crate) fn first_lines(csv: &str, lines: usize) -> String {
    csv.split_inclusive('\n').take(lines).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The answers file for a CSV without malformed lines.
pub(crate) fn answers(csv: &str) -> String {
    let flights: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let mut routes: BTreeMap<(&str, &str), Vec<i64>> = BTreeMap::new();
    let mut airports: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for flight in &flights {
        let delay = flight[1].parse().unwrap();
        routes.entry((flight[3], flight[4])).or_default().push(delay);
        airports.entry(flight[3]).or_default().push(delay);
    }
    let total: i64 = routes.values().flatten().sum();
    let mut text = format!("flights {}\nroutes {} {} {total}\n", flights.len(), routes.len(), flights.len());

    for ((origin, destination), delays) in busiest(routes) {
        let (count, sum, worst) = (delays.len(), delays.iter().sum::<i64>(), delays.iter().max().unwrap());
        writeln!(text, "route {origin} {destination} {count} {sum} {worst}").unwrap();
    }
    let airports = busiest(airports);
    for (origin, delays) in &airports {
        writeln!(text, "airport {origin} {} {}", delays.len(), delays.iter().sum::<i64>()).unwrap();
    }

    // The input is in order of time, and stays in its order within a minute.
    let airport = airports[0].0;
    let of_airport: Vec<_> = flights.iter().filter(|flight| flight[3] == airport).collect();
    let day = &of_airport[0][0][..10];
    let of_day: Vec<_> = of_airport.iter().filter(|flight| flight[0].starts_with(day)).collect();
    writeln!(text, "day {airport} {day} {}", of_day.len()).unwrap();
    for flight in of_day {
        writeln!(text, "flight {} {} {} {}", flight[0], flight[4], flight[1], flight[2]).unwrap();
    }
    text
}

/// The ten with the most flights; of equals, the first by name.
fn busiest<K: Ord>(all: BTreeMap<K, Vec<i64>>) -> Vec<(K, Vec<i64>)> {
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by(|a, b| (b.1.len(), &a.0).cmp(&(a.1.len(), &b.0)));
    all.truncate(10);
    all
}
