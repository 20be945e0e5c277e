//! A segment file that was cut short is never taken for one that can be written to: what would be promised to it
//! would not fit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch::Error;
use anabranch_wal::disk::sim::SimDisk;
use anabranch_wal::inspect::{Detail, ReadOnlyDisk, SegmentRole, inspect};

use crate::{builder, simulated, within};

/// A database that was closed, with segments that were used and are free.
fn recycled() -> SimDisk {
    let disk = SimDisk::new(1);
    simulated().block_on(async {
        let db = within(builder(&disk, 1).open("/database")).await.expect("nothing fails");
        for row in 0..60 {
            db.handle().insert(row, vec![1; 1_000]).await.expect("nothing fails");
        }
        db.checkpoint().await.expect("nothing fails");
        db.handle().insert(60, vec![1; 1_000]).await.expect("nothing fails");
        db.close().await.expect("nothing fails");
    });
    disk.process_crash()
}

/// The files that recovery takes for such segments.
fn segments(disk: &SimDisk, role: SegmentRole) -> Vec<PathBuf> {
    let read_only = ReadOnlyDisk::new(Arc::new(disk.clone()), Arc::new(|_| {}));
    let layout = simulated().block_on(inspect(&read_only, Path::new("/database"), Detail::default()));
    let layout = layout.expect("it can be read");
    let of_role = layout.segments.into_iter().filter(|segment| segment.role == role);
    of_role.map(|segment| Path::new("/database").join(segment.file)).collect()
}

/// Cuts a file to so many bytes, and opens.
fn open_with_a_cut(path: &Path, bytes: u64) -> Result<usize, Error> {
    let image = recycled();
    image.truncate(path, bytes);
    simulated().block_on(async {
        let db = within(builder(&image, 1).open("/database")).await?;
        // Whatever it takes for free is written to.
        for row in 0..100 {
            within(db.handle().insert(row, vec![2; 1_000])).await?;
        }
        within(db.close()).await?;
        Ok(100)
    })
}

#[test]
fn a_free_segment_that_was_cut_short_is_damage_and_not_a_place_to_write_to() {
    let free = segments(&recycled(), SegmentRole::Free);
    assert!(free.len() > 1, "{free:?}");
    for path in free {
        // Also where its header is whole, where it ends within a sector, and where nothing is left of it.
        for bytes in [16_383, 16_000, 8_192, 513, 512, 511, 1, 0] {
            match open_with_a_cut(&path, bytes) {
                Err(Error::Corrupt { file, .. }) => assert!(file.starts_with("/database"), "{file:?}"),
                other => panic!("{} cut to {bytes}: {other:?}", path.display()),
            }
        }
    }
}

#[test]
fn a_segment_that_is_needed_and_was_cut_short_is_damage() {
    let needed = segments(&recycled(), SegmentRole::Needed);
    assert!(!needed.is_empty());
    for path in needed {
        for bytes in [16_383, 8_192, 513, 512, 511, 0] {
            let outcome = open_with_a_cut(&path, bytes);
            assert!(
                matches!(outcome, Err(Error::Corrupt { .. })),
                "{} cut to {bytes}: {outcome:?}",
                path.display()
            );
        }
    }
}

#[test]
fn a_segment_that_a_crash_left_half_made_is_made_again() {
    let image = recycled();
    // Not yet noted in the manifest: the number of files that it had is that of the others.
    image.write_file(Path::new("/database/log-0000-0099.wal"), vec![0; 5_000]);
    simulated().block_on(async {
        let db = within(builder(&image, 1).open("/database")).await.expect("nothing is lost");
        assert_eq!(db.recovery_report().log.orphans_removed, 1);
        for row in 0..100 {
            within(db.handle().insert(row, vec![2; 1_000])).await.expect("nothing fails");
        }
        within(db.close()).await.expect("nothing fails");
    });
}
