//! Which executables there are.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use goflow_core::{Error, Handler, Handlers, TaskType};
use tracing::{debug, info};

use super::Executable;
use super::control::make_pipe;
use crate::guard::Guard;

/// Adds every executable file in `dir` as the handler of the task type it is named like, extension aside. Files
/// that cannot be executed and hidden ones are passed over.
///
/// # Errors
/// When the directory cannot be read, a name is not that of a task type, a type has a handler already, or no pipe can
/// be made in the directory for temporary files.
pub fn register(handlers: &mut Handlers, dir: &Path, guard: &Arc<Guard>) -> Result<()> {
    // Better to know now than with every task.
    make_pipe(&guard.prefix()).context("make a pipe in the directory for temporary files")?;
    for (task_type, path) in discover(dir)? {
        let handler: Arc<dyn Handler> = Arc::new(Executable {
            path: path.clone(),
            guard: guard.clone(),
        });
        match handlers.register(task_type.as_str(), handler) {
            Err(Error::HandlerExists(_)) => {
                bail!("{}: the type {task_type} is built in", path.display())
            }
            registered => registered.with_context(|| format!("register {}", path.display()))?,
        }
        info!(task.type = %task_type, path = %path.display(), "executable handler");
    }
    Ok(())
}

fn discover(dir: &Path) -> Result<BTreeMap<TaskType, PathBuf>> {
    let reading = || format!("read the handlers in {}", dir.display());
    let mut found: BTreeMap<TaskType, PathBuf> = BTreeMap::new();
    // Absolute, since it is executed long after, and a bare name would be looked up in PATH.
    for entry in fs::read_dir(dir.canonicalize().with_context(reading)?).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        // Follows links; a file that is gone again is as if it had never been there.
        let Ok(meta) = fs::metadata(&path) else {
            continue;
        };
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 || hidden {
            debug!(path = %path.display(), "no executable, passed over");
            continue;
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let task_type = TaskType::new(&stem).with_context(|| {
            format!(
                "{}: an executable handler is named like its task type",
                path.display()
            )
        })?;
        if let Some(other) = found.insert(task_type.clone(), path.clone()) {
            let mut both = [other, path];
            both.sort();
            bail!(
                "{} and {} are both handlers of {task_type}",
                both[0].display(),
                both[1].display()
            );
        }
    }
    Ok(found)
}
