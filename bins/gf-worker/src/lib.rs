//! The stock worker: executable handlers and built-in types.
//!
//! [`run`] is the program `gf-worker`. The gateway and `gf dev`, which can have workers of their own, take its
//! handlers from [`stock_handlers`]; their `main` starts with [`guard::main_if_asked`].

mod args;
mod builtin;
pub mod executable;
pub mod guard;
mod run;
mod stock;

pub use args::Args;
pub use run::run;
pub use stock::stock_handlers;
