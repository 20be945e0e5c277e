//! What the fuzzer starts from: the golden databases of the simulation, whole and file by file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use anabranch_wal::fuzzing::{File, pack};
use flate2::read::GzDecoder;

use crate::corpus;
use crate::types::Shape;

const SLOT_BYTES: usize = 128 << 10;

/// A golden database's files.
fn golden(name: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/golden").join(name).with_extension("gz");
    let compressed = fs::read(path).expect("the golden databases come with the tests");
    let mut bytes = Vec::new();
    GzDecoder::new(&compressed[..]).read_to_end(&mut bytes).expect("gzip");
    let (mut rest, mut parts) = (&bytes[..], Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (part, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        parts.push(part.to_vec());
        rest = behind;
    }
    let name = |part: &[u8]| String::from_utf8(part.to_vec()).expect("a name of a file");
    parts.chunks(2).map(|pair| (name(&pair[0]), pair[1].clone())).collect()
}

fn used(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
}

fn save(target: &str, name: &str, bytes: &[u8]) {
    let directory = corpus::directory(target);
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join(name), bytes).expect("a file");
}

/// The payloads of a segment's batches: a stream of records.
fn payloads(segment: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    for sector in segment.chunks(512).filter(|sector| sector.starts_with(b"ABAT")) {
        let length = u32::from_le_bytes(sector[48..52].try_into().expect("four bytes")) as usize;
        stream.extend(sector[116..].iter().take(length));
    }
    stream
}

#[test]
#[ignore = "makes the seeds of the corpora anew"]
fn make_seeds() {
    for name in ["closed", "crashed", "recycled"] {
        let mut packed = Vec::new();
        for (file, bytes) in golden(name) {
            if file == "MANIFEST" {
                for (slot, content) in (0..).zip(bytes.chunks(SLOT_BYTES)) {
                    packed.push((File::Manifest(slot), content.to_vec()));
                    save("manifest", &format!("{name}-{slot}"), used(content));
                }
                continue;
            }
            let kind = File::named(&file).expect("a name that an archive knows");
            if let File::Segment(log, slot) = kind {
                save("segment", &format!("{name}-{log}-{slot}"), used(&bytes));
                save("record", &format!("{name}-{log}-{slot}"), &payloads(&bytes));
            } else if let File::Checkpoint(number) = kind {
                save("checkpoint", &format!("{name}-{number}"), &bytes);
            }
            packed.push((kind, bytes));
        }
        save("directory", name, &pack(&packed));
    }
    let marks = BTreeMap::from([("a".to_owned(), vec![1, 300]), (String::new(), vec![])]);
    let shapes = [
        Shape::Nothing,
        Shape::Number(i128::MIN),
        Shape::Pair(7, Some('ß')),
        Shape::Person { name: "Ada".into(), marks },
        Shape::Tree(vec![Shape::Nothing, Shape::Tree(vec![]), Shape::Chain(Box::new(Shape::Nothing))]),
    ];
    for (index, shape) in shapes.iter().enumerate() {
        let bytes = rmp_serde::to_vec_named(shape).expect("to memory");
        save("types", &format!("shape-{index}"), &bytes);
        save("json", &format!("shape-{index}"), &[&[128], &bytes[..]].concat());
    }
    // Deeper than a decoder follows: by boxes, and by lists.
    let chain = [b"\x81\xA5Chain".repeat(3_000), b"\xA7Nothing".to_vec()].concat();
    let tree = [b"\x81\xA4Tree\x91".repeat(3_000), b"\xA7Nothing".to_vec()].concat();
    for (name, bytes) in [("deep-chain", chain), ("deep-tree", tree)] {
        save("types", name, &bytes);
        save("json", name, &[&[255], &bytes[..]].concat());
    }
    let pairs = rmp_serde::to_vec(&(u64::MAX, "text", 1.5_f32, f64::NAN, [-1_i8, -128])).expect("to memory");
    save("json", "numbers", &[&[255], &pairs[..]].concat());
    save("types", "pair", &rmp_serde::to_vec(&(u64::MAX, "text")).expect("to memory"));
}
