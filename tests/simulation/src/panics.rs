//! Panics of the engine: a loop that ended by one would go unnoticed otherwise. (Handlers that panic as planned do so
//! without a report.)

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

static HOOKED: Once = Once::new();

thread_local! {
    static FIRST: RefCell<Watched> = const { RefCell::new(Watched::No) };
}

enum Watched {
    No,
    Calm,
    Panicked(String),
}

/// Keeps the reports of panics on this thread from now on, instead of printing them.
pub(crate) fn watch() {
    HOOKED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let kept = FIRST.with_borrow_mut(|watched| {
                if matches!(watched, Watched::Calm) {
                    *watched = Watched::Panicked(panic.to_string());
                }
                !matches!(watched, Watched::No)
            });
            if !kept {
                before(panic);
            }
        }));
    });
    FIRST.set(Watched::Calm);
}

/// The first panic since, if there was one; the others are printed again.
pub(crate) fn first() -> Option<String> {
    match FIRST.replace(Watched::No) {
        Watched::Panicked(report) => Some(report),
        Watched::No | Watched::Calm => None,
    }
}
