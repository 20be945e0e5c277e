//! Parquet files, row by row.

use std::fs::File;

use indicatif::ProgressBar;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Number, Value};

use crate::entry::Fields;
use crate::input::{Content, InputError, Raw};

/// So often the bar is told.
const TOLD_ROWS: u64 = 512;

/// The rows of a file. What is read of it at a time is one row group.
pub(crate) struct Table {
    rows: RowIter<'static>,
    columns: Vec<String>,
    name: String,
    row: u64,
    rows_all: u64,
    bar: ProgressBar,
}

impl Table {
    pub(crate) fn open(file: File, name: &str, bar: &ProgressBar) -> Result<Self, InputError> {
        let opened = SerializedFileReader::new(file);
        let reader = opened.map_err(|error| InputError::Parquet { name: name.to_owned(), rows: 0, error })?;
        let about = reader.metadata().file_metadata();
        let columns = about.schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
        let rows_all = u64::try_from(about.num_rows()).unwrap_or(0);
        let rows = RowIter::from_file_into(Box::new(reader));
        Ok(Self { rows, columns, name: name.to_owned(), row: 0, rows_all, bar: bar.clone() })
    }

    /// The names of the columns.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn next(&mut self) -> Result<Option<Raw>, InputError> {
        let Some(row) = self.rows.next() else { return Ok(None) };
        let (name, rows) = (&self.name, self.row);
        let row = row.map_err(|error| InputError::Parquet { name: name.clone(), rows, error })?;
        self.row += 1;
        if self.row.is_multiple_of(TOLD_ROWS)
            && let Some(bytes) = self.bar.length()
        {
            let read = u128::from(bytes) * u128::from(self.row) / u128::from(self.rows_all.max(1));
            self.bar.set_position(read.try_into().unwrap_or(bytes));
        }
        Ok(Some(Raw { line: self.row, content: Content::Fields(fields(row)) }))
    }
}

fn fields(row: Row) -> Fields {
    row.into_columns().into_iter().map(|(column, field)| (column, value(field))).collect()
}

/// Numbers stay numbers; dates, times and decimals become text.
fn value(field: Field) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(is) => is.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) => number.into(),
        Field::Long(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => float(number.into()),
        Field::Float(number) => float(number.into()),
        Field::Double(number) => float(number),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into(),
        Field::Group(row) => fields(row).into_iter().collect(),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => {
            let entry =
                |(key, field): &(Field, Field)| Value::from(vec![value(key.clone()), value(field.clone())]);
            map.entries().iter().map(entry).collect()
        }
        other => other.to_string().into(),
    }
}
