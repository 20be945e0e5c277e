//! From a record to a row.

use std::sync::Arc;

use serde_json::Value;

use crate::arguments::{Arguments, Group};
use crate::csv::Splitter;
use crate::entry::Fields;
use crate::input::Content;
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
    Csv {
        header: Arc<[String]>,
    },
    Ndjson,
    /// Records come with their fields.
    Table,
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
        let header = Splitter::new().split(header.trim_start_matches('\u{feff}'));
        Self::check(arguments, &header)?;
        Ok(Self { shape: Shape::Csv { header: header.into() }, ..Self::ndjson(arguments) })
    }

    /// For records that come with their fields, which are these.
    pub(crate) fn table(arguments: &Arguments, columns: &[String]) -> Result<Self, String> {
        Self::check(arguments, columns)?;
        Ok(Self { shape: Shape::Table, ..Self::ndjson(arguments) })
    }

    fn check(arguments: &Arguments, header: &[String]) -> Result<(), String> {
        let summed = arguments.group.iter().flat_map(|group| group.by.iter().chain(&group.sum));
        let mut wanted = arguments.key.iter().chain(&arguments.columns).chain(summed);
        if let Some(missing) = wanted.find(|column| !header.contains(column)) {
            return Err(format!("there is no column {missing:?} among {}", header.join(", ")));
        }
        Ok(())
    }

    pub(crate) fn parse(&self, content: Content, csv: &mut Splitter) -> Result<Row, Reject> {
        match content {
            Content::Text(text) => {
                let fields = self.fields(&text, csv);
                fields.and_then(|fields| self.row(fields)).map_err(|reason| Reject { reason, text })
            }
            Content::Fields(fields) => {
                let made = self.row(fields.clone());
                made.map_err(|reason| Reject { reason, text: serde_json::json!(fields).to_string() })
            }
            Content::Open(text) => Err(Reject { reason: "a quoted field does not end".to_owned(), text }),
            Content::Bad => Err(Reject { reason: "not UTF-8, or too long".to_owned(), text: String::new() }),
        }
    }

    fn fields(&self, text: &str, csv: &mut Splitter) -> Result<Fields, String> {
        let Shape::Csv { header } = &self.shape else {
            return serde_json::from_str(text).map_err(|error| format!("not an object: {error}"));
        };
        let values = csv.split(text);
        if values.len() != header.len() {
            return Err(format!("{} fields, and not {}", values.len(), header.len()));
        }
        Ok(header.iter().cloned().zip(values.into_iter().map(Value::String)).collect())
    }

    fn row(&self, mut fields: Fields) -> Result<Row, String> {
        let key = format!("row/{}", join(&fields, &self.key)?);
        let mut groups = Vec::with_capacity(self.groups.len());
        for Group { by, sum } in &*self.groups {
            let amount = sum.as_ref().map_or(Ok(0), |sum| whole(&fields, sum))?;
            groups.push((format!("group/{}/{}", by.join(","), join(&fields, by)?), amount));
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn arguments(more: &[&str]) -> Arguments {
        Arguments::parse_from(["pipeline", "x.csv", "--key", "id"].iter().chain(more))
    }

    fn parse(parser: &Parser, text: &str) -> Result<Row, Reject> {
        parser.parse(Content::Text(text.to_owned()), &mut Splitter::new())
    }

    #[test]
    fn a_row_has_its_key_its_columns_and_its_groups() {
        let arguments = arguments(&["--columns", "id,n", "--group", "city,id=n", "--group", "city"]);
        let parser = Parser::csv(&arguments, "\u{feff}id,city,n").unwrap();
        let row = parse(&parser, "a/b,Bern,-7").unwrap();
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
        assert_eq!(reason(parse(&csv, "1,Bern")), "2 fields, and not 3");
        assert_eq!(reason(parse(&csv, ",Bern,1")), "nothing in column \"id\"");
        assert_eq!(reason(parse(&csv, "1,Bern,x")), "no whole number in column \"n\"");
        assert!(reason(parse(&json, "[1]")).starts_with("not an object"));
        assert_eq!(reason(parse(&json, "{\"id\":[1],\"city\":\"B\",\"n\":1}")), "nothing in column \"id\"");
        assert_eq!(
            parse(&json, "{\"id\":5,\"city\":true,\"n\":2}").unwrap().groups,
            [("group/city/true".into(), 2)]
        );
        assert!(Parser::csv(&arguments, "id,city").unwrap_err().contains("no column \"n\""));
    }
}
