//! The committed inputs.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Where the corpora are.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs in a directory, by name; none if it is not there.
///
/// # Errors
/// A directory or file that cannot be read.
pub fn read(directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(format!("read {}", directory.display())),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.with_context(|| format!("read {}", directory.display()))?;
    paths.sort();
    let inputs = paths.into_iter().map(|path| {
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default();
        Ok((name.to_string_lossy().into_owned(), bytes))
    });
    inputs.collect()
}

/// The committed inputs of a target.
///
/// # Errors
/// None there, or one that cannot be read.
pub fn of(target: &str) -> Result<Vec<Vec<u8>>> {
    let inputs = read(&root().join(target))?;
    ensure!(!inputs.is_empty(), "{target} has no corpus");
    Ok(inputs.into_iter().map(|(_, bytes)| bytes).collect())
}
