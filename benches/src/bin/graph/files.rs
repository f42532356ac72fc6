//! The bytes in the folder of a store, by kind of file.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::Path};

use anyhow::Context;

/// The files of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// All files below the folder `store`, by their folders without those of days, and by what stands after the first dot of their
/// names: `lake/data/*.parquet`.
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn kinds(store: &Path) -> anyhow::Result<BTreeMap<String, Kind>> {
    let mut kinds = BTreeMap::new();
    add(store, "", &mut kinds)?;
    Ok(kinds)
}

fn add(folder: &Path, kind: &str, kinds: &mut BTreeMap<String, Kind>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            let is_day = name.contains('=') || name.starts_with(|letter: char| letter.is_ascii_digit());
            let kind = if is_day { kind.to_owned() } else { format!("{kind}{name}/") };
            add(&entry.path(), &kind, kinds)?;
            continue;
        }
        let bytes = match entry.metadata() {
            Ok(metadata) => metadata.len(),
            // Deleted meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let extension = name.split_once('.').map_or("", |(_, extension)| extension);
        let found = kinds.entry(format!("{kind}*.{extension}")).or_default();
        found.files += 1;
        found.bytes += bytes;
    }
    Ok(())
}

/// Prints what each kind takes, beside the files of the lake that hold the spans: `spans` in so many bytes.
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn print(store: &Path, spans: u64, spans_bytes: u64) -> anyhow::Result<()> {
    println!("{spans} spans in {spans_bytes} bytes of lake files: {:.2} a span", spans_bytes as f64 / spans as f64);
    for (name, Kind { files, bytes }) in kinds(store)? {
        let (share, a_span) = (bytes as f64 * 100.0 / spans_bytes as f64, bytes as f64 / spans as f64);
        println!("  {name:<40} {files:>7} files {bytes:>13} bytes {a_span:>7.2} a span {share:>6.1} % of the spans'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Scenario: a folder with days, written both ways, files beside them, and names with several dots. Guarantee: each file counts once,
    /// days are one kind.
    #[test]
    fn files_are_counted_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in [
            ("lake/data/2026-11-25/a.parquet", 10),
            ("lake/data/date=2026-11-26/b.parquet", 20),
            ("lake/_index/a.traces", 3),
            ("lake/_index/a.edges.parquet", 4),
            ("lock", 0),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; bytes]).unwrap();
        }
        let found = kinds(folder.path()).unwrap();
        let found: Vec<(&str, u64, u64)> = found.iter().map(|(name, kind)| (name.as_str(), kind.files, kind.bytes)).collect();
        let expected =
            [("*.", 1, 0), ("lake/_index/*.edges.parquet", 1, 4), ("lake/_index/*.traces", 1, 3), ("lake/data/*.parquet", 2, 30)];
        assert_eq!(found, expected);
    }
}
