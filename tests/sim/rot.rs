//! Damage to what was promised: opening names a file, or it changes nothing (I7, P5).

use std::path::Path;

use anabranch::Error;
use anabranch_wal::disk::sim::{SECTOR_BYTES, SimDisk};
use tokio::time::timeout;

use crate::check::HANG;
use crate::config::Config;
use crate::env::{panics, runtime};
use crate::oracle::Content;
use crate::random::Random;

/// Damaged copies of each database that was closed.
const IMAGES: u64 = 4;

/// Damages copies of a closed database, each in one place. What happens is decided by the disk's history.
pub(crate) fn check(config: &Config, disk: &SimDisk, left: &Content) -> Result<u64, String> {
    let mut random = Random::new(disk.trace_hash());
    for _ in 0..IMAGES {
        let image = disk.process_crash();
        let damage = damage(&image, &mut random);
        open_damaged(config, &image, left).map_err(|violation| format!("{damage}: {violation}"))?;
    }
    Ok(IMAGES)
}

/// How a damaged database opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Harmless,
    Reported,
}

/// Opens a database with damage in it: an error that names what is damaged, or the same content as before.
pub(crate) fn open_damaged(config: &Config, disk: &SimDisk, left: &Content) -> Result<Seen, String> {
    let before = panics();
    let opened = runtime().block_on(async {
        let opening = config.open(disk, Random::new(7));
        let engine = match timeout(HANG, opening).await.map_err(|_| "opening hangs")? {
            Ok(engine) => engine,
            Err(Error::Corrupt { file, .. }) if file.starts_with("/database") => return Ok(Seen::Reported),
            // A version or a kind of another program's.
            Err(Error::Unrecognized(error)) if error.to_string().starts_with("/database") => {
                return Ok(Seen::Reported);
            }
            Err(error) => return Err(format!("an error of the wrong kind: {error:?}")),
        };
        let content = Content::read(&engine.handle())?;
        if !content.agrees(left, config.limited) {
            return Err(format!("it opened with {content:?}, and was closed with {left:?}"));
        }
        Ok(Seen::Harmless)
    });
    if panics() > before {
        return Err(format!("a panic, and {opened:?}"));
    }
    opened
}

/// Damages one file in one place, and says how.
fn damage(disk: &SimDisk, random: &mut Random) -> String {
    let files = disk.files();
    let (path, length) = &files[usize::try_from(random.between(0..=files.len() as u64 - 1)).expect("few")];
    if *length == 0 || random.percent(3) {
        disk.delete(path);
        return format!("{} deleted", path.display());
    }
    if random.percent(3) {
        let length = random.between(0..=length - 1);
        disk.truncate(path, length);
        return format!("{} cut to {length} bytes", path.display());
    }
    let at = used_byte(disk, path, random);
    if random.percent(60) {
        let bit = u8::try_from(random.between(0..=7)).expect("a bit");
        disk.flip_bit(path, at, bit);
        return format!("bit {bit} of byte {at} of {} turned over", path.display());
    }
    let mut bytes = disk.read_file(path).expect("it was listed");
    let sector = usize::try_from(at).expect("files are small") / SECTOR_BYTES * SECTOR_BYTES;
    let end = bytes.len().min(sector + SECTOR_BYTES);
    let fill = random.pick(&[0, 0xFF]);
    bytes[sector..end].fill(fill);
    disk.write_file(path, bytes);
    format!("{} overwritten with {fill} at {sector}", path.display())
}

/// A place in a file, most often one where something was written.
fn used_byte(disk: &SimDisk, path: &Path, random: &mut Random) -> u64 {
    let bytes = disk.read_file(path).expect("it was listed");
    let last = bytes.len() as u64 - 1;
    let mut at = 0;
    for _ in 0..100 {
        at = random.between(0..=last);
        if bytes[usize::try_from(at).expect("files are small")] != 0 {
            break;
        }
    }
    at
}
