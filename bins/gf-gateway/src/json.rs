//! The JSON of the HTTP surface: what comes in, and what goes out.

pub(crate) mod push;
pub(crate) mod span;
pub(crate) mod status;
pub(crate) mod task;
pub(crate) mod text;
