//! CSV records (RFC 4180, and what is found in the wild): where they end, and their fields.
//!
//! `csv-core` does both. Lines come from outside, one at a time, so that a quote that never ends is noticed, and not a
//! whole file held in memory as one record.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

/// Takes records apart, one after the other.
pub(crate) struct Splitter {
    reader: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Splitter {
    pub(crate) fn new() -> Self {
        // Lines come without their ends, and a lone carriage return is part of a field.
        let reader = ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build();
        Self { reader, text: Vec::new(), ends: Vec::new() }
    }

    /// A record begins.
    pub(crate) fn begin(&mut self) {
        self.reader.reset();
    }

    /// Whether the record goes on behind this line of it, as a quoted field does not end in it.
    pub(crate) fn stays_open(&mut self, line: &str) -> bool {
        self.make_room(line);
        for mut rest in [line.as_bytes(), b"\n"] {
            while !rest.is_empty() {
                let (result, read, ..) = self.reader.read_record(rest, &mut self.text, &mut self.ends);
                rest = &rest[read..];
                if matches!(result, ReadRecordResult::Record | ReadRecordResult::End) {
                    return false;
                }
            }
        }
        true
    }

    /// The fields of a whole record.
    pub(crate) fn split(&mut self, record: &str) -> Vec<String> {
        self.begin();
        self.make_room(record);
        let (mut rest, mut written, mut count) = (record.as_bytes(), 0, 0);
        loop {
            let (text, ends) = (&mut self.text[written..], &mut self.ends[count..]);
            let (result, read, more_text, more_ends) = self.reader.read_record(rest, text, ends);
            (rest, written, count) = (&rest[read..], written + more_text, count + more_ends);
            if matches!(result, ReadRecordResult::Record | ReadRecordResult::End) {
                break;
            }
        }
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let fields = starts.zip(&self.ends).take(count);
        // Cut at commas and quotes, what was UTF-8 still is.
        fields.map(|(start, end)| String::from_utf8_lossy(&self.text[start..*end]).into_owned()).collect()
    }

    /// Fields are never longer than their record, nor are there more than commas, and one.
    fn make_room(&mut self, record: &str) {
        self.text.resize(record.len() + 1, 0);
        self.ends.resize(record.len() + 2, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_commas_and_line_ends_are_part_of_a_quoted_field() {
        let mut csv = Splitter::new();
        assert_eq!(csv.split("a,,\"b,\"\"c\"\"\nd\","), ["a", "", "b,\"c\"\nd", ""]);
        assert_eq!(csv.split("a\rb"), ["a\rb"]);
        assert_eq!(csv.split("\u{e4},\"\u{fc}\""), ["\u{e4}", "\u{fc}"]);
        // Of other programs: a quote is a letter unless a field begins with it.
        assert_eq!(csv.split("5\" pipe,x"), ["5\" pipe", "x"]);
    }

    #[test]
    fn a_record_goes_on_until_its_quoted_field_ends() {
        let open = |lines: &[&str]| {
            let mut csv = Splitter::new();
            csv.begin();
            lines.iter().map(|line| csv.stays_open(line)).collect::<Vec<_>>()
        };
        assert_eq!(open(&["a,b"]), [false]);
        assert_eq!(open(&["a,\"b", "", "c\",d"]), [true, true, false]);
        assert_eq!(open(&["a,\"b\"\"", "c\""]), [true, false]);
        assert_eq!(open(&["5\" pipe,x"]), [false]);
    }
}
