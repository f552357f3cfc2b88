//! The targets: one for each kind of bytes that somebody else writes.

mod columns;
mod control;
mod durations;
mod grpc;
mod lines;
mod messages;
mod names;
mod push;
mod query;
mod settings;
mod signals;
mod urls;

/// A decoder, and what is promised of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is also that of its corpus.
    pub name: &'static str,
    /// What it decodes.
    pub about: &'static str,
    /// Pieces of input that chance would be long in finding.
    pub words: &'static [&'static str],
    /// Decodes these bytes. Panics when a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const ALL: &[Target] = &[
    messages::TASK,
    messages::OUTCOMES,
    signals::SIGNAL,
    columns::COLUMNS,
    names::NAMES,
    durations::DURATIONS,
    push::ONE,
    push::MANY,
    push::CHANGE,
    query::QUERY,
    grpc::GRPC,
    control::CONTROL,
    lines::LINES,
    settings::SETTINGS,
    urls::URLS,
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

/// Input that is text, if it is.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}
