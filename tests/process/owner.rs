//! Files and directories are for their owner alone, also where the process would let others in.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::database;
use crate::history::Content;
use crate::plan::{Mode, Plan, Work};
use crate::process::{Kill, lead};
use crate::random::Random;

#[tokio::test]
async fn everything_is_created_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path().join("parent");
    let mut plan = Plan::new(&parent.join("database"), 1, &mut Random::new(1), Mode::Full);
    (plan.work, plan.operations) = (Work::Backup, 200);
    let permissive = ["sh", "-c", "umask 0; exec \"$0\" \"$@\""].map(OsString::from);
    let ended = lead(&plan, Content::default(), &permissive, Kill::Never).await.unwrap();
    assert!(ended.status.success(), "{}", ended.status);
    let backup = parent.join("database.backup");
    let mut kinds = [("LOCK", 0), ("MANIFEST", 0), (".wal", 0), (".ckp", 0)];
    for made in [&parent, &plan.directory, &backup] {
        assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700, "{}", made.display());
    }
    for made in [&plan.directory, &backup] {
        for file in fs::read_dir(made).unwrap() {
            let file = file.unwrap().path();
            assert_eq!(
                fs::metadata(&file).unwrap().permissions().mode() & 0o777,
                0o600,
                "{}",
                file.display()
            );
            let name = file.to_str().unwrap();
            for (kind, count) in &mut kinds {
                *count += u32::from(name.ends_with(*kind));
            }
        }
    }
    assert!(kinds.iter().all(|(_, count)| *count > 0), "not all kinds of files were seen: {kinds:?}");
    database::reopen(&plan, &ended.history).await.unwrap();
}
