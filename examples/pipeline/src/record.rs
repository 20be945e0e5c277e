//! From the text of a record to a row.

use std::sync::Arc;

use serde_json::Value;

use crate::arguments::{Arguments, Group};
use crate::entry::Fields;
use crate::rejects::Reject;

/// A row, ready to be taken in.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) fields: Fields,
    /// The keys of the aggregates that it counts for, and what it adds to their sums.
    pub(crate) groups: Vec<(String, i64)>,
}

/// How records are read.
#[derive(Clone, Debug)]
pub(crate) struct Parser {
    shape: Shape,
    key: Arc<[String]>,
    columns: Arc<[String]>,
    groups: Arc<[Group]>,
}

#[derive(Clone, Debug)]
enum Shape {
    Csv { header: Arc<[String]> },
    Ndjson,
}

impl Parser {
    pub(crate) fn ndjson(arguments: &Arguments) -> Self {
        Self {
            shape: Shape::Ndjson,
            key: arguments.key.clone().into(),
            columns: arguments.columns.clone().into(),
            groups: arguments.group.clone().into(),
        }
    }

    /// With the columns that the first record names. `Err` names a column that is asked for and is not there.
    pub(crate) fn csv(arguments: &Arguments, header: &str) -> Result<Self, String> {
        let header = split(header.trim_start_matches('\u{feff}'))?;
        let summed = arguments.group.iter().flat_map(|group| group.by.iter().chain(&group.sum));
        let mut wanted = arguments.key.iter().chain(&arguments.columns).chain(summed);
        if let Some(missing) = wanted.find(|column| !header.contains(column)) {
            return Err(format!("there is no column {missing:?} among {}", header.join(", ")));
        }
        Ok(Self { shape: Shape::Csv { header: header.into() }, ..Self::ndjson(arguments) })
    }

    pub(crate) fn parse(&self, text: &str) -> Result<Row, Reject> {
        let reject = |reason: String| Reject { reason, text: text.to_owned() };
        let mut fields = match &self.shape {
            Shape::Ndjson => serde_json::from_str::<Fields>(text)
                .map_err(|error| reject(format!("not an object: {error}")))?,
            Shape::Csv { header } => {
                let values = split(text).map_err(reject)?;
                if values.len() != header.len() {
                    return Err(reject(format!("{} fields, and not {}", values.len(), header.len())));
                }
                header.iter().cloned().zip(values.into_iter().map(Value::String)).collect()
            }
        };
        let key = format!("row/{}", join(&fields, &self.key).map_err(reject)?);
        let mut groups = Vec::with_capacity(self.groups.len());
        for Group { by, sum } in &*self.groups {
            let amount = sum.as_ref().map_or(Ok(0), |sum| whole(&fields, sum)).map_err(reject)?;
            groups.push((format!("group/{}/{}", by.join(","), join(&fields, by).map_err(reject)?), amount));
        }
        if !self.columns.is_empty() {
            fields.retain(|column, _| self.columns.contains(column));
        }
        Ok(Row { key, fields, groups })
    }
}

/// The values of some columns, joined. What is empty makes no key.
fn join(fields: &Fields, columns: &[String]) -> Result<String, String> {
    let mut joined = String::new();
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            joined.push('/');
        }
        match fields.get(column) {
            Some(Value::String(text)) if !text.is_empty() => {
                joined.push_str(&text.replace('%', "%25").replace('/', "%2F"));
            }
            Some(value @ (Value::Number(_) | Value::Bool(_))) => joined.push_str(&value.to_string()),
            _ => return Err(format!("nothing in column {column:?}")),
        }
    }
    Ok(joined)
}

fn whole(fields: &Fields, column: &str) -> Result<i64, String> {
    let number = match fields.get(column) {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_i64(),
        None => None,
    };
    number.ok_or_else(|| format!("no whole number in column {column:?}"))
}

/// Whether a CSV record goes on in the next line: a quoted field is still open.
pub(crate) fn is_open(record: &str) -> bool {
    record.bytes().filter(|byte| *byte == b'"').count() % 2 == 1
}

/// The fields of a CSV record (RFC 4180): separated by commas; in quotes, commas, line ends and doubled quotes.
fn split(record: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let field = if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut inside = quoted;
            loop {
                let end = inside.find('"').ok_or("a quoted field does not end")?;
                field.push_str(&inside[..end]);
                inside = &inside[end + 1..];
                match inside.strip_prefix('"') {
                    Some(behind) => {
                        field.push('"');
                        inside = behind;
                    }
                    None => break,
                }
            }
            rest = inside;
            field
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (field, behind) = rest.split_at(end);
            if field.contains('"') {
                return Err("a quote within a field that is not quoted".to_owned());
            }
            rest = behind;
            field.to_owned()
        };
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if rest.is_empty() => return Ok(fields),
            None => return Err("something between a quoted field and the next comma".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn arguments(more: &[&str]) -> Arguments {
        Arguments::parse_from(["pipeline", "x.csv", "--key", "id"].iter().chain(more))
    }

    #[test]
    fn quotes_commas_and_line_ends_are_part_of_a_quoted_field() {
        assert_eq!(split("a,,\"b,\"\"c\"\"\nd\",").unwrap(), ["a", "", "b,\"c\"\nd", ""]);
        assert_eq!(split("").unwrap(), [""]);
        for bad in ["\"a", "\"a\"b,c", "a\"b,c", "a,\"b\"\"", "\"a\" ,b"] {
            assert!(split(bad).is_err(), "{bad}");
        }
        assert!(is_open("a,\"b") && !is_open("a,\"b\"\"c\"") && is_open("\"\"\""));
    }

    #[test]
    fn a_row_has_its_key_its_columns_and_its_groups() {
        let arguments = arguments(&["--columns", "id,n", "--group", "city,id=n", "--group", "city"]);
        let parser = Parser::csv(&arguments, "\u{feff}id,city,n").unwrap();
        let row = parser.parse("a/b,Bern,-7").unwrap();
        assert_eq!(row.key, "row/a%2Fb");
        assert_eq!(row.fields.keys().collect::<Vec<_>>(), ["id", "n"]);
        let groups = [("group/city,id/Bern/a%2Fb".to_owned(), -7), ("group/city/Bern".to_owned(), 0)];
        assert_eq!(row.groups, groups);
    }

    #[test]
    fn what_is_no_row_is_rejected_with_a_reason() {
        let arguments = arguments(&["--group", "city=n"]);
        let csv = Parser::csv(&arguments, "id,city,n").unwrap();
        let json = Parser::ndjson(&arguments);
        let reason = |outcome: Result<Row, Reject>| outcome.unwrap_err().reason;
        assert_eq!(reason(csv.parse("1,Bern")), "2 fields, and not 3");
        assert_eq!(reason(csv.parse(",Bern,1")), "nothing in column \"id\"");
        assert_eq!(reason(csv.parse("1,Bern,x")), "no whole number in column \"n\"");
        assert!(reason(json.parse("[1]")).starts_with("not an object"));
        assert_eq!(reason(json.parse("{\"id\":[1],\"city\":\"B\",\"n\":1}")), "nothing in column \"id\"");
        assert_eq!(
            json.parse("{\"id\":5,\"city\":true,\"n\":2}").unwrap().groups,
            [("group/city/true".into(), 2)]
        );
        assert!(Parser::csv(&arguments, "id,city").unwrap_err().contains("no column \"n\""));
    }
}
