//! What keys and values must be able to do, said once.

use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A key: ordered, hashed, cloned into indexes, and written to the log.
///
/// Implemented for every type that can do these. `Ord`, `Eq` and `Hash` must agree with each other and must
/// not change while the key is stored, as for the standard maps. They run under the engine's locks: a panic in
/// one of them poisons the engine.
pub trait Key: Clone + Ord + Hash + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + Ord + Hash + Serialize + DeserializeOwned + Send + Sync + 'static> Key for T {}

/// A value: shared with readers, and written to the log. It need not be `Clone`.
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}
