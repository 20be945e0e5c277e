//! Looking at a directory without changing it: what the files hold, whether they are sound, and copying what can
//! be read into a new database.
//!
//! Everything here goes through [`ReadOnlyDisk`], which refuses to write whatever it is asked, and reads with
//! the functions of recovery itself: what is called sound here is what an engine would open. Keys and values are
//! bytes, so this works whatever their types. Nothing is read into memory that is larger than its file.

mod copy;
mod layout;
mod read_only;
mod salvage;
mod slots;
mod source;
mod verify;
mod view;

pub use copy::Copied;
pub use layout::inspect;
pub use read_only::{OnRead, ReadOnlyDisk, SharedLock};
pub use salvage::{SalvageReport, SalvagedLog, salvage};
pub use source::{Entry, Source};
pub use verify::{VerifyReport, verify};
pub use view::{
    BatchView, CheckpointView, Detail, LayoutView, LogView, ManifestView, RecordView, SegmentRole,
    SegmentView, SlotView,
};
