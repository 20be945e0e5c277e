//! How much work the expensive tests do: a little by default, all of it with `ANABRANCH_EFFORT=ci`.

/// `small` by default, `full` with `ANABRANCH_EFFORT=ci`.
pub(crate) fn effort<T>(small: T, full: T) -> T {
    if std::env::var("ANABRANCH_EFFORT").is_ok_and(|effort| effort == "ci") { full } else { small }
}
