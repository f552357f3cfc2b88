//! The handlers of the stock worker.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use goflow_core::Handlers;

use crate::guard::Guard;
use crate::{builtin, executable};

/// The built-in types `echo` and `sleep`, and the executables in `handlers_path`. The program's `main` has to call
/// [`main_if_asked`](crate::guard::main_if_asked) before anything else.
///
/// # Errors
/// When the directory cannot be read, an executable's name is not that of a task type, or two claim one type.
pub fn stock_handlers(handlers_path: Option<&Path>) -> Result<Handlers> {
    let mut handlers = Handlers::default();
    builtin::register(&mut handlers).context("register the built-in types")?;
    if let Some(dir) = handlers_path {
        executable::register(&mut handlers, dir, &Arc::new(Guard::of_this_program()))?;
    }
    Ok(handlers)
}
