//! Databases of format version 1, kept as files: what was written once must open with the same content for
//! ever (FORMAT.md), and every single bit of them that turns over must be seen or be harmless.
//!
//! `golden/NAME.gz` holds a directory's files, `golden/NAME.txt` what they mean. They are not to be made again for
//! a version that was published: a new version gets new ones.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anabranch_wal::disk::sim::{SECTOR_BYTES, SimDisk};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::config::{Config, Mode};
use crate::env::runtime;
use crate::history::History;
use crate::oracle::Content;
use crate::random::Random;
use crate::rot::{Seen, open_damaged};
use crate::scenario::Step::{self, Checkpoint, Close, Count, Put, Remove, Rest};
use crate::scenario::{Actor, Scenario};
use crate::watchdog;

/// Zeros so far from anything else are padding.
const BLOCK_BYTES: usize = 64;
/// In plain effort, one turned bit of so many is tried.
const SAMPLE: usize = 211;

struct Golden {
    name: &'static str,
    shards: usize,
    /// Each life but the last ends with the process; the last is closed, or rests until everything is promised.
    lives: &'static [&'static [Step]],
}

/// A small commit takes a sector, so 29 of them fill a segment of 16 KiB.
const P: Step = Put(1, 10);

const CLOSED: Golden = Golden {
    name: "closed",
    shards: 2,
    lives: &[&[Put(4, 300), Put(3, 40), Count(2), Checkpoint, Put(2, 100), Remove(2), Count(1), Close]],
};

const CRASHED: Golden = Golden {
    name: "crashed",
    shards: 1,
    lives: &[
        &[
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            P,
            Put(8, 9),
        ],
        &[Put(3, 200), Remove(1)],
        &[Put(2, 10), Count(1), Rest(500)],
    ],
};

const RECYCLED: Golden = Golden {
    name: "recycled",
    shards: 2,
    lives: &[
        &[Put(3, 4_000), Put(5, 3_000), Put(6, 2_000), Checkpoint, Put(8, 1_000), Checkpoint],
        &[Put(2, 500), Remove(6), Checkpoint, Put(1, 20), Put(2, 300), Rest(500)],
    ],
};

impl Golden {
    fn config(&self) -> Config {
        let settings = Scenario {
            name: "",
            shards_before: 1,
            shards: self.shards,
            mode: Mode::Full,
            before: &[],
            script: &[],
        };
        settings.config()
    }

    fn path(&self, extension: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/sim/golden")
            .join(self.name)
            .with_extension(extension)
    }

    /// A disk with the database's files.
    fn load(&self) -> SimDisk {
        let compressed = fs::read(self.path("gz")).expect("the golden databases come with the tests");
        let mut bytes = Vec::new();
        GzDecoder::new(&compressed[..]).read_to_end(&mut bytes).expect("gzip");
        let disk = SimDisk::new(1);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let name = take(&mut rest);
            let content = take(&mut rest);
            let name = std::str::from_utf8(name).expect("a name of a file");
            disk.write_file(&Path::new("/database").join(name), content);
        }
        disk
    }

    fn save(&self, disk: &SimDisk, content: &Content) {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        for (path, _) in disk.files() {
            let name = path.file_name().expect("a file").to_str().expect("one of ours").as_bytes();
            for part in [name, &disk.read_file(&path).expect("it was listed")] {
                let length = u32::try_from(part.len()).expect("small").to_le_bytes();
                packed.write_all(&length).and_then(|()| packed.write_all(part)).expect("to memory");
            }
        }
        fs::create_dir_all(self.path("gz").parent().expect("a directory")).expect("a directory");
        fs::write(self.path("gz"), packed.finish().expect("to memory")).expect("the archive is written");
        fs::write(self.path("txt"), describe(content)).expect("the content is written");
    }

    /// Leads the lives, and returns what they leave.
    fn live(&self) -> SimDisk {
        let mut disk = SimDisk::new(1);
        let history = Mutex::new(History::default());
        let config = self.config();
        for script in self.lives {
            runtime().block_on(async {
                let engine = config.open(&disk, Random::new(1)).await.expect("nothing fails");
                let performed = Actor::new(&config, &disk, &history).perform(engine, script).await;
                performed.expect("no violation").expect("nothing fails");
            });
            disk.kill();
            disk = disk.process_crash();
        }
        disk
    }

    fn content(&self, disk: &SimDisk) -> Content {
        runtime().block_on(async {
            let engine = self.config().open(&disk.process_crash(), Random::new(1)).await.expect("it opens");
            Content::read(&engine.handle()).expect("it can be read")
        })
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (length, behind) = rest.split_at(4);
    let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
    let (part, behind) = behind.split_at(usize::try_from(length).expect("small"));
    *rest = behind;
    part
}

fn describe(content: &Content) -> String {
    let mut text = format!("at commit {}\n", content.timestamp);
    for (key, tag) in &content.tags {
        let (id, fill) = tag.value();
        writeln!(text, "{key} = {id}, and {} bytes", fill.len()).expect("to memory");
    }
    for (key, count) in &content.counters {
        writeln!(text, "{key} = {count}").expect("to memory");
    }
    text
}

/// What is turned over at once: one bit of each byte in a range.
struct Flip {
    bytes: Range<usize>,
    bit: u8,
}

/// Every single bit; but of padding, where a sector's run of zeros is longer than a block, one bit, each of all
/// its bytes at once, and each of one byte that differs from run to run.
fn flips(content: &[u8]) -> Vec<Flip> {
    let mut flips = Vec::new();
    let is_padding = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    for (index, sector) in content.chunks(SECTOR_BYTES).enumerate() {
        let start = index * SECTOR_BYTES;
        let used =
            sector.chunks(BLOCK_BYTES).rposition(|block| !is_padding(block)).map_or(0, |last| last + 1);
        let used = (used * BLOCK_BYTES).min(sector.len());
        for bit in 0..8 {
            flips.extend((start..start + used).map(|at| Flip { bytes: at..at + 1, bit }));
            if used < sector.len() {
                let at = start + used + index % (sector.len() - used);
                flips.push(Flip { bytes: start + used..start + sector.len(), bit });
                flips.push(Flip { bytes: at..at + 1, bit });
            }
        }
    }
    flips
}

/// Turns every bit of every file over, each on a fresh copy; or one of `sample`, beginning with the one numbered
/// `first`.
fn flip_all(golden: &Golden, sample: usize, first: usize) {
    let (disk, config) = (golden.load(), golden.config());
    let content = golden.content(&disk);
    let (mut count, mut harmless, mut reported) = (0, 0, 0);
    let mut violations = Vec::new();
    for (path, _) in disk.files() {
        let original = disk.read_file(&path).expect("it was listed");
        for (index, flip) in
            flips(&original).into_iter().enumerate().filter(|(index, _)| index % sample == first)
        {
            let _watched = watchdog::watch(format!("{} {} {index}", golden.name, path.display()));
            let mut bytes = original.clone();
            bytes[flip.bytes.clone()].iter_mut().for_each(|byte| *byte ^= 1 << flip.bit);
            let image = disk.process_crash();
            image.write_file(&path, bytes);
            match open_damaged(&config, &image, &content) {
                Ok(Seen::Harmless) => harmless += 1,
                Ok(Seen::Reported) => reported += 1,
                Err(violation) => {
                    violations.push(format!(
                        "{} {:?} bit {}: {violation}",
                        path.display(),
                        flip.bytes,
                        flip.bit
                    ));
                }
            }
            count += 1;
        }
    }
    println!("{}: {count} flips, {harmless} harmless, {reported} reported", golden.name);
    let few = &violations[..violations.len().min(10)];
    assert!(violations.is_empty(), "{}: {} of {count}:\n{}", golden.name, violations.len(), few.join("\n"));
    assert!(harmless > 0 && reported > 0);
}

fn sample() -> usize {
    if crate::is_full() { 1 } else { SAMPLE }
}

#[test]
fn golden_databases_open_with_what_was_written() {
    for golden in [CLOSED, CRASHED, RECYCLED] {
        let expected = fs::read_to_string(golden.path("txt")).expect("the content comes with the tests");
        assert_eq!(describe(&golden.content(&golden.load())), expected, "{}", golden.name);
    }
}

#[test]
fn every_bit_that_turns_over_in_a_closed_database_is_seen_or_harmless() {
    flip_all(&CLOSED, sample(), 0);
}

#[test]
fn every_bit_that_turns_over_in_a_crashed_database_is_seen_or_harmless() {
    flip_all(&CRASHED, sample(), 0);
}

#[test]
fn every_second_bit_that_turns_over_in_recycled_segments_is_seen_or_harmless() {
    flip_all(&RECYCLED, 2 * sample(), 0);
}

/// In two halves, which run side by side: full of stale values, these take longer than the rest together.
#[test]
fn every_other_bit_that_turns_over_in_recycled_segments_is_seen_or_harmless() {
    flip_all(&RECYCLED, 2 * sample(), 1);
}

#[test]
#[ignore = "makes the golden databases anew: for a new format version only"]
fn make_golden_databases() {
    for golden in [CLOSED, CRASHED, RECYCLED] {
        let disk = golden.live();
        golden.save(&disk, &golden.content(&disk));
    }
}
