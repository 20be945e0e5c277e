//! What survives a crash, and what need not.

use std::collections::BTreeSet;

use super::*;
use crate::disk::sim::SECTOR_BYTES;

fn sectors_of(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.chunks(SECTOR_BYTES)
}

#[tokio::test]
async fn synced_data_always_survives() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", &[1; 3000]).await;
    write(&*file, 1024, &[2; 1024]).await.unwrap();
    file.sync_data().await.unwrap();
    write(&*file, 2048, &[3; 5000]).await.unwrap();
    for seed in 0..300 {
        for image in [disk.power_loss(seed), disk.crash(&any_subset(seed))] {
            let content = content(&image, "a").unwrap();
            assert!(content.len() >= 3000);
            assert_eq!(content[..1024], [1; 1024]);
            assert_eq!(content[1024..2048], [2; 1024]);
        }
    }
}

#[tokio::test]
async fn unsynced_data_survives_in_any_combination_of_sectors() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", &[1; 4 * SECTOR_BYTES]).await;
    write(&*file, 0, &[2; 4 * SECTOR_BYTES]).await.unwrap();
    let mut combinations = BTreeSet::new();
    let (mut torn, mut garbage) = (0, 0);
    for seed in 0..1000 {
        let content = content(&disk.power_loss(seed), "a").unwrap();
        let whole = |byte: u8| move |sector: &[u8]| sector.iter().all(|other| *other == byte);
        if sectors_of(&content).all(|sector| whole(1)(sector) || whole(2)(sector)) {
            combinations.insert(sectors_of(&content).map(whole(2)).collect::<Vec<_>>());
        } else {
            torn += 1;
            garbage += u32::from(content.iter().any(|byte| *byte > 2));
        }
    }
    assert_eq!(combinations.len(), 16);
    assert!((100..300).contains(&torn), "{torn} of 1000 images are torn");
    assert!(garbage > 50, "{garbage} of 1000 images have garbage");
}

#[tokio::test]
async fn files_may_fare_differently_in_one_image() {
    let disk = disk(1).await;
    for name in ["a", "b"] {
        let file = synced_file(&disk, name, &[1; 8 * SECTOR_BYTES]).await;
        write(&*file, 0, &[2; 8 * SECTOR_BYTES]).await.unwrap();
    }
    let is = |image: &SimDisk, name, byte| content(image, name).unwrap() == [byte; 8 * SECTOR_BYTES];
    let images: Vec<_> = (0..500).map(|seed| disk.power_loss(seed)).collect();
    for (first, second) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        assert!(images.iter().any(|image| is(image, "a", first) && is(image, "b", second)));
    }
}

#[tokio::test]
async fn a_length_not_synced_may_be_lost() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", &[1; 100]).await;
    write(&*file, 100, &[2; 1900]).await.unwrap();
    let lens: BTreeSet<_> =
        (0..300).map(|seed| content(&disk.power_loss(seed), "a").unwrap().len()).collect();
    assert!(lens.contains(&100) && lens.contains(&2000) && lens.len() > 10);
    let zeros_behind_the_old_end = (0..300).any(|seed| {
        let content = content(&disk.power_loss(seed), "a").unwrap();
        content.len() == 2000 && content[512..].iter().all(|byte| *byte == 0)
    });
    assert!(zeros_behind_the_old_end);
}

#[tokio::test]
async fn a_name_not_synced_may_vanish_and_a_removed_one_may_come_back() {
    let disk = disk(1).await;
    synced_file(&disk, "old", b"old").await;
    let file = disk.open(&path("new"), OpenMode::Create).await.unwrap();
    write(&*file, 0, b"new").await.unwrap();
    file.sync_all().await.unwrap();
    disk.remove(&path("old")).await.unwrap();
    let outcomes = |policy: &dyn Fn(u64) -> CrashPolicy| -> BTreeSet<_> {
        (0..100)
            .map(|seed| {
                let image = disk.crash(&policy(seed));
                let old = content(&image, "old").inspect(|content| assert_eq!(content, b"old"));
                let new = content(&image, "new").inspect(|content| assert_eq!(content, b"new"));
                (old.is_some(), new.is_some())
            })
            .collect()
    };
    let prefix = |seed| CrashPolicy::PowerLoss { seed, names: SurvivingNames::Prefix };
    assert_eq!(outcomes(&prefix), [(true, false), (true, true), (false, true)].into());
    assert_eq!(outcomes(&any_subset).len(), 4);
    disk.sync_dir(Path::new(DIRECTORY)).await.unwrap();
    assert_eq!(outcomes(&any_subset), [(false, true)].into());
}

#[tokio::test]
async fn a_directory_not_synced_takes_its_files_with_it() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/x/db")).await.unwrap();
    disk.sync_dir(Path::new("/x")).await.unwrap();
    let file = disk.open(Path::new("/x/db/a"), OpenMode::Create).await.unwrap();
    file.sync_all().await.unwrap();
    disk.sync_dir(Path::new("/x/db")).await.unwrap();
    let image = disk.crash(&CrashPolicy::SyncedOnly);
    assert!(image.files().is_empty() && image.list(Path::new("/x/db")).await.is_err());
    disk.sync_dir(Path::new("/")).await.unwrap();
    assert_eq!(disk.crash(&CrashPolicy::SyncedOnly).files().len(), 1);
}

#[tokio::test]
async fn a_process_crash_keeps_the_cache_but_does_not_sync_it() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"old").await;
    write(&*file, 0, b"new").await.unwrap();
    disk.open(&path("b"), OpenMode::Create).await.unwrap();
    disk.remove(&path("b")).await.unwrap();
    let image = disk.process_crash();
    assert_eq!(content(&image, "a").unwrap(), b"new");
    let survivors: BTreeSet<_> = (0..50).map(|seed| content(&image.power_loss(seed), "a").unwrap()).collect();
    assert!(survivors.contains(&b"old"[..]) && survivors.contains(&b"new"[..]));
    let reopened = image.open(&path("a"), OpenMode::ReadWrite).await.unwrap();
    reopened.sync_data().await.unwrap();
    assert_eq!(content(&image.crash(&CrashPolicy::SyncedOnly), "a").unwrap(), b"new");
}

#[tokio::test]
async fn a_removed_file_lives_as_long_as_it_is_open_and_not_beyond() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"abc").await;
    disk.remove(&path("a")).await.unwrap();
    disk.sync_dir(Path::new(DIRECTORY)).await.unwrap();
    assert_eq!(&file.read_at(0, 3).await.unwrap()[..], b"abc");
    assert_eq!(disk.core.state.lock().files.inodes.len(), 1);
    assert_eq!(disk.process_crash().core.state.lock().files.inodes.len(), 0);
    drop(file);
    disk.sync_dir(Path::new(DIRECTORY)).await.unwrap();
    assert_eq!(disk.core.state.lock().files.inodes.len(), 0);
}

#[tokio::test]
async fn after_power_loss_nothing_is_dirty() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", &[1; 5000]).await;
    write(&*file, 0, &[2; 9000]).await.unwrap();
    disk.open(&path("b"), OpenMode::Create).await.unwrap();
    for seed in 0..50 {
        let image = disk.power_loss(seed);
        assert_eq!(image.crash(&CrashPolicy::SyncedOnly).fingerprint(), image.fingerprint());
        assert_eq!(image.crash(&any_subset(seed)).fingerprint(), image.fingerprint());
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_image_and_leaves_the_disk_alone() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", &[1; 5000]).await;
    write(&*file, 100, &[2; 9000]).await.unwrap();
    let before = disk.fingerprint();
    let images: Vec<_> = (0..100).map(|seed| disk.power_loss(seed).fingerprint()).collect();
    let again: Vec<_> = (0..100).map(|seed| disk.power_loss(seed).fingerprint()).collect();
    assert_eq!(images, again);
    assert!(BTreeSet::from_iter(images).len() > 50);
    let image = disk.power_loss(7);
    write(&*image.open(&path("a"), OpenMode::ReadWrite).await.unwrap(), 0, b"image").await.unwrap();
    assert_eq!(disk.fingerprint(), before);
}

#[tokio::test]
async fn the_fuse_freezes_the_disk_at_every_operation_it_is_set_to() {
    for nth in 1..=6 {
        let disk = disk(nth).await;
        let before = disk.io_count();
        disk.crash_at(nth);
        let life = async {
            let file = disk.open(&path("a"), OpenMode::Create).await?;
            write(&*file, 0, b"abc").await?;
            file.sync_all().await?;
            disk.sync_dir(Path::new(DIRECTORY)).await?;
            file.read_at(0, 1).await?;
            disk.list(Path::new(DIRECTORY)).await
        };
        let error = life.await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::Other, "simulated crash"));
        assert!(disk.crashed());
        let frozen = disk.fingerprint();
        assert!(disk.create_dir(Path::new("/more")).await.is_err());
        assert!(disk.lane("lane").is_err());
        assert_eq!((disk.fingerprint(), disk.io_count()), (frozen, before + nth));
        let image = disk.process_crash();
        assert!(!image.crashed());
        image.list(Path::new(DIRECTORY)).await.unwrap();
    }
}

#[tokio::test]
async fn the_operation_at_the_crash_takes_place_or_not_or_in_part() {
    let mut lens = BTreeSet::new();
    for seed in 0..200 {
        let disk = disk(seed).await;
        let file = synced_file(&disk, "a", b"").await;
        disk.crash_at(1);
        write(&*file, 0, &[1; 100]).await.unwrap_err();
        lens.insert(content(&disk, "a").unwrap().len());
    }
    assert!(lens.contains(&0) && lens.contains(&100) && lens.len() > 10);
}

#[tokio::test]
async fn a_killed_disk_changes_no_more_but_yields_images() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"abc").await;
    let before = disk.fingerprint();
    disk.kill();
    assert!(write(&*file, 0, b"x").await.is_err());
    assert!(file.sync_all().await.is_err());
    assert!(file.len().await.is_err());
    assert!(disk.remove(&path("a")).await.is_err());
    assert!(disk.open(&path("b"), OpenMode::Create).await.is_err());
    assert!(!disk.crashed());
    let image = disk.process_crash();
    assert_eq!(image.fingerprint(), before);
    write(&*image.open(&path("a"), OpenMode::ReadWrite).await.unwrap(), 0, b"x").await.unwrap();
    assert_eq!(disk.fingerprint(), before);
}
