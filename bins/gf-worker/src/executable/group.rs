//! The process group of a running handler.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;
use tracing::warn;

/// A process group that ends with this value.
#[derive(Debug)]
pub(super) struct Group(Option<Pid>);

impl Group {
    /// The group led by `child`, which was started as the leader of one.
    pub(super) fn of(child: &Child) -> Self {
        Self(
            child
                .id()
                .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
        )
    }

    pub(super) fn signal(&self, signal: Signal) {
        let Some(leader) = self.0 else { return };
        match kill_process_group(leader, signal) {
            // Nobody is left.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => warn!(group = %leader, %error, "process group cannot be signalled"),
        }
    }
}

impl Drop for Group {
    /// Also when the future that runs the handler is dropped: then its leader has not been waited for, so the id
    /// is still its own. After it has been, the id could be another's only if all ids were used up in between.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
