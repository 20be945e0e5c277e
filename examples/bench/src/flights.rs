//! The flights of `examples/data`, or more of them, as rows for any engine: keys that sort by origin and time, as in
//! `examples/ingest`, and values that begin with the line's number.

use std::io::Read;
use std::path::Path;

use compact_str::format_compact;
use flate2::read::GzDecoder;

use crate::keys::{Key, Value};
use crate::store::Outcome;

const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/flights-250k.csv.gz");

/// All rows of this file, or of the bundled one, in its order.
pub(crate) fn rows(path: Option<&Path>) -> Outcome<Vec<(Key, Value)>> {
    let path = path.unwrap_or(Path::new(BUNDLED));
    let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text)?;
    text.lines().zip(1..).skip(1).map(|(line, number)| row(line, number)).collect()
}

fn row(line: &str, number: u64) -> Outcome<(Key, Value)> {
    let fields: Vec<&str> = line.split(',').collect();
    let [time, delay, distance, origin, destination] = fields[..] else {
        return Err(format!("line {number} of the flights is malformed: {line:?}").into());
    };
    let value = format!("{destination},{delay},{distance}");
    Ok((format_compact!("flight/{origin}/{time}/{number:07}"), Value::of(number, value.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_sorts_by_origin_and_time_and_counts_its_line() {
        let (key, value) = row("2001-01-01T00:01,33,2176,LAS,PHL", 2).unwrap();
        assert_eq!(key, "flight/LAS/2001-01-01T00:01/0000002");
        assert_eq!(value.0, 2);
        assert_eq!(value.to_bytes()[8..], *b"PHL,33,2176");
        assert!(row("2001-01-01T00:01,33", 3).is_err());
    }
}
