//! What the machine is, and what the process uses of it, as Linux tells. Elsewhere the numbers are zero.

/// Memory of this process that is resident now.
pub(crate) fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// The most that ever was.
pub(crate) fn resident_peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    number_after(&status, name) * 1024
}

/// Bytes that this process caused to be written to storage.
pub(crate) fn written_bytes() -> u64 {
    number_after(&std::fs::read_to_string("/proc/self/io").unwrap_or_default(), "write_bytes:")
}

fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The machine in words, for whoever reads the numbers elsewhere.
pub(crate) fn describe() -> Vec<(String, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut facts = vec![
        ("processor".to_owned(), field(&read("/proc/cpuinfo"), "model name")),
        ("cores".to_owned(), cores.to_string()),
        ("memory".to_owned(), field(&read("/proc/meminfo"), "MemTotal")),
        ("kernel".to_owned(), read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("load when begun".to_owned(), read("/proc/loadavg").trim().to_owned()),
        ("allocator".to_owned(), "mimalloc, for all".to_owned()),
    ];
    facts.extend(
        crate::engines::ALL.iter().filter_map(|engine| Some((engine.name.to_owned(), version(engine.name)?))),
    );
    facts
}

/// Of a crate in the workspace's lock file. None where this was built from a package, without the workspace.
fn version(name: &str) -> Option<String> {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).ok()?;
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")))?;
    entry.lines().find_map(|line| Some(line.strip_prefix("version = ")?.trim_matches('"').to_owned()))
}
