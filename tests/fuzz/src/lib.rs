//! The fuzz targets of anabranch, which `tests/hostile` runs as well.

pub mod budget;
pub mod json;
pub mod targets;
pub mod types;
