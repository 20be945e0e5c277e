//! MessagePack of any type as JSON, piece by piece: no tree is built, so that hostile bytes can't make it large.
//! The help of `anabranch dump` says what becomes of what.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::{self, Write};

use rmp::Marker;

/// JSON numbers beyond this are not exact in every reader.
const EXACT: i128 = (1 << 53) - 1;
/// What is nested deeper is written raw. A level takes up to three in JSON, and readers give up at about 128.
const DEPTH_MAX: usize = 40;

/// The beginning of a value.
#[derive(Clone, Copy, Debug)]
enum Token<'a> {
    Nil,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Array(u32),
    Map(u32),
    Extension(i8, &'a [u8]),
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn number<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N)?.try_into().ok()
}

fn length8(rest: &mut &[u8]) -> Option<usize> {
    number::<1>(rest).map(|bytes| usize::from(bytes[0]))
}

fn length16(rest: &mut &[u8]) -> Option<usize> {
    number(rest).map(|bytes| usize::from(u16::from_be_bytes(bytes)))
}

fn length32(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(number(rest)?)).ok()
}

fn extension<'a>(rest: &mut &'a [u8], length: usize) -> Option<Token<'a>> {
    let [kind] = number(rest)?;
    take(rest, length).map(|data| Token::Extension(i8::from_be_bytes([kind]), data))
}

/// Takes the next token off the front, or `None` if there is none.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Token<'a>> {
    let [marker] = number(rest)?;
    let text = |rest: &mut &'a [u8], length| take(rest, length).map(Token::Text);
    let binary = |rest: &mut &'a [u8], length| take(rest, length).map(Token::Binary);
    Some(match Marker::from_u8(marker) {
        Marker::Null => Token::Nil,
        Marker::False => Token::Bool(false),
        Marker::True => Token::Bool(true),
        Marker::FixPos(value) => Token::Integer(value.into()),
        Marker::FixNeg(value) => Token::Integer(value.into()),
        Marker::U8 => Token::Integer(u8::from_be_bytes(number(rest)?).into()),
        Marker::U16 => Token::Integer(u16::from_be_bytes(number(rest)?).into()),
        Marker::U32 => Token::Integer(u32::from_be_bytes(number(rest)?).into()),
        Marker::U64 => Token::Integer(u64::from_be_bytes(number(rest)?).into()),
        Marker::I8 => Token::Integer(i8::from_be_bytes(number(rest)?).into()),
        Marker::I16 => Token::Integer(i16::from_be_bytes(number(rest)?).into()),
        Marker::I32 => Token::Integer(i32::from_be_bytes(number(rest)?).into()),
        Marker::I64 => Token::Integer(i64::from_be_bytes(number(rest)?).into()),
        Marker::F32 => Token::Float(f32::from_be_bytes(number(rest)?).into()),
        Marker::F64 => Token::Float(f64::from_be_bytes(number(rest)?)),
        Marker::FixStr(length) => text(rest, length.into())?,
        Marker::Str8 => length8(rest).and_then(|length| text(rest, length))?,
        Marker::Str16 => length16(rest).and_then(|length| text(rest, length))?,
        Marker::Str32 => length32(rest).and_then(|length| text(rest, length))?,
        Marker::Bin8 => length8(rest).and_then(|length| binary(rest, length))?,
        Marker::Bin16 => length16(rest).and_then(|length| binary(rest, length))?,
        Marker::Bin32 => length32(rest).and_then(|length| binary(rest, length))?,
        Marker::FixArray(length) => Token::Array(length.into()),
        Marker::Array16 => Token::Array(u16::from_be_bytes(number(rest)?).into()),
        Marker::Array32 => Token::Array(u32::from_be_bytes(number(rest)?)),
        Marker::FixMap(length) => Token::Map(length.into()),
        Marker::Map16 => Token::Map(u16::from_be_bytes(number(rest)?).into()),
        Marker::Map32 => Token::Map(u32::from_be_bytes(number(rest)?)),
        Marker::FixExt1 => extension(rest, 1)?,
        Marker::FixExt2 => extension(rest, 2)?,
        Marker::FixExt4 => extension(rest, 4)?,
        Marker::FixExt8 => extension(rest, 8)?,
        Marker::FixExt16 => extension(rest, 16)?,
        Marker::Ext8 => length8(rest).and_then(|length| extension(rest, length))?,
        Marker::Ext16 => length16(rest).and_then(|length| extension(rest, length))?,
        Marker::Ext32 => length32(rest).and_then(|length| extension(rest, length))?,
        Marker::Reserved => return None,
    })
}

/// Whether the bytes are one value, whole, and not nested too deeply.
fn is_one_value(mut bytes: &[u8]) -> bool {
    skip(&mut bytes).is_some() && bytes.is_empty()
}

/// Goes past one value.
fn skip(rest: &mut &[u8]) -> Option<()> {
    // How many values are left on each level.
    let mut levels = vec![1_u64];
    while let Some(left) = levels.last_mut() {
        if *left == 0 {
            levels.pop();
            continue;
        }
        *left -= 1;
        let inner = match next(rest)? {
            Token::Array(length) => u64::from(length),
            Token::Map(length) => 2 * u64::from(length),
            _ => continue,
        };
        if levels.len() > DEPTH_MAX {
            return None;
        }
        levels.push(inner);
    }
    Some(())
}

/// Writes a key or a value.
pub(super) fn write_json(output: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    if !is_one_value(bytes) {
        return write_hexadecimal(output, "$raw", bytes);
    }
    let mut rest = bytes;
    write_value(output, &mut rest)
}

fn write_value(output: &mut dyn Write, rest: &mut &[u8]) -> io::Result<()> {
    // `is_one_value` has seen that there is one.
    let Some(token) = next(rest) else { return Ok(()) };
    match token {
        Token::Nil => output.write_all(b"null"),
        Token::Bool(value) => write!(output, "{value}"),
        Token::Integer(value) if value.abs() <= EXACT => write!(output, "{value}"),
        Token::Integer(value) => write!(output, "{{\"$int\":\"{value}\"}}"),
        Token::Float(value) => write_float(output, value),
        Token::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(serde_json::to_writer(output, text)?),
            Err(_) => write_hexadecimal(output, "$str", text),
        },
        Token::Binary(bytes) => write_hexadecimal(output, "$bin", bytes),
        Token::Extension(kind, data) => {
            write!(output, "{{\"$ext\":[{kind},\"")?;
            write_digits(output, data)?;
            output.write_all(b"\"]}")
        }
        Token::Array(length) => {
            output.write_all(b"[")?;
            for index in 0..length {
                output.write_all(if index == 0 { b"" } else { b"," })?;
                write_value(output, rest)?;
            }
            output.write_all(b"]")
        }
        Token::Map(length) => write_map(output, rest, length),
    }
}

fn write_map(output: &mut dyn Write, rest: &mut &[u8], length: u32) -> io::Result<()> {
    let is_object = is_object(rest, length);
    output.write_all(if is_object { b"{" } else { b"{\"$map\":[" })?;
    for index in 0..length {
        output.write_all(if index == 0 { b"" } else { b"," })?;
        output.write_all(if is_object { b"" } else { b"[" })?;
        write_value(output, rest)?;
        output.write_all(if is_object { b":" } else { b"," })?;
        write_value(output, rest)?;
        output.write_all(if is_object { b"" } else { b"]" })?;
    }
    output.write_all(if is_object { b"}" } else { b"]}" })
}

/// Whether the keys of the map that begins here can be those of a JSON object, and not be taken for our own.
fn is_object(mut rest: &[u8], length: u32) -> bool {
    let mut keys = BTreeSet::new();
    (0..length).all(|_| {
        let Some(Token::Text(key)) = next(&mut rest) else { return false };
        std::str::from_utf8(key).is_ok_and(|key| !key.starts_with('$'))
            && keys.insert(key)
            && skip(&mut rest).is_some()
    })
}

fn write_float(output: &mut dyn Write, value: f64) -> io::Result<()> {
    match serde_json::Number::from_f64(value) {
        Some(number) => write!(output, "{number}"),
        None if value.is_nan() => output.write_all(b"{\"$float\":\"NaN\"}"),
        None if value > 0.0 => output.write_all(b"{\"$float\":\"Infinity\"}"),
        None => output.write_all(b"{\"$float\":\"-Infinity\"}"),
    }
}

fn write_hexadecimal(output: &mut dyn Write, tag: &str, bytes: &[u8]) -> io::Result<()> {
    write!(output, "{{\"{tag}\":\"")?;
    write_digits(output, bytes)?;
    output.write_all(b"\"}")
}

fn write_digits(output: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    bytes.iter().try_for_each(|byte| write!(output, "{byte:02x}"))
}

/// The order of a dump's lines: total, and for common types that of Rust.
pub(super) fn compare_keys(a: &[u8], b: &[u8]) -> Ordering {
    match (is_one_value(a), is_one_value(b)) {
        (true, true) => compare(&mut { a }, &mut { b }).then_with(|| a.cmp(b)),
        (false, false) => a.cmp(b),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    }
}

fn compare(a: &mut &[u8], b: &mut &[u8]) -> Ordering {
    let (Some(left), Some(right)) = (next(a), next(b)) else { return Ordering::Equal };
    let by_kind = kind(&left).cmp(&kind(&right));
    if by_kind.is_ne() {
        return by_kind;
    }
    match (left, right) {
        (Token::Bool(left), Token::Bool(right)) => left.cmp(&right),
        (Token::Text(left), Token::Text(right)) | (Token::Binary(left), Token::Binary(right)) => {
            left.cmp(right)
        }
        (Token::Extension(left_kind, left), Token::Extension(right_kind, right)) => {
            left_kind.cmp(&right_kind).then_with(|| left.cmp(right))
        }
        (Token::Array(left), Token::Array(right)) => compare_items(a, b, (left.into(), right.into())),
        (Token::Map(left), Token::Map(right)) => {
            compare_items(a, b, (2 * u64::from(left), 2 * u64::from(right)))
        }
        (left, right) => compare_numbers(left, right),
    }
}

fn compare_items(a: &mut &[u8], b: &mut &[u8], (left, right): (u64, u64)) -> Ordering {
    for _ in 0..left.min(right) {
        let order = compare(a, b);
        if order.is_ne() {
            return order;
        }
    }
    left.cmp(&right)
}

fn kind(token: &Token<'_>) -> u8 {
    match token {
        Token::Nil => 0,
        Token::Bool(_) => 1,
        Token::Integer(_) | Token::Float(_) => 2,
        Token::Text(_) => 3,
        Token::Binary(_) => 4,
        Token::Array(_) => 5,
        Token::Map(_) => 6,
        Token::Extension(..) => 7,
    }
}

/// By value as a double, then integers before doubles, then exactly: a total order over both.
#[expect(clippy::cast_precision_loss, reason = "what rounds to the same double is told apart behind it")]
fn compare_numbers(left: Token<'_>, right: Token<'_>) -> Ordering {
    let parts = |token| match token {
        Token::Integer(value) => (value as f64, 0, value),
        Token::Float(value) => (value, 1, 0),
        _ => (0.0, 0, 0),
    };
    let (left, right) = (parts(left), parts(right));
    left.0.total_cmp(&right.0).then_with(|| (left.1, left.2).cmp(&(right.1, right.2)))
}
