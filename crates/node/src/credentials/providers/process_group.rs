//! The processes of one run: the plugin, and whatever it has started.

use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpgid};
use tokio::process::Child;
use tokio::time::{interval, timeout};

/// How long processes that were killed are waited for; one that hangs in the kernel may take longer.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two looks for orphans.
const LOOK: Duration = Duration::from_millis(5);

/// The group of a plugin that was started as the first of it. Dropped, all of its processes are killed.
pub(super) struct ProcessGroup(Pid);

impl ProcessGroup {
    /// The group of `child`; none where it has ended already.
    pub(super) fn of(child: &Child) -> Option<Self> {
        Pid::from_raw(child.id()?.cast_signed()).map(Self)
    }

    /// Kills what is left and waits for it. Where this is the first process of a container it adopts orphans, and they
    /// would stay in the process table for ever.
    pub(super) async fn end(self, child: &mut Child) {
        self.kill();
        let ending = async {
            // First: until the runtime has waited for its own child, nobody else may wait for the group.
            if child.wait().await.is_ok() {
                self.reap().await;
            }
        };
        let _ = timeout(LIMIT, ending).await;
    }

    fn kill(&self) {
        // It fails where nobody is left.
        let _ = kill_process_group(self.0, Signal::KILL);
    }

    /// Only what is in the group is waited for, and of that only what is a child of this process.
    async fn reap(&self) {
        let mut looks = interval(LOOK);
        // An error says that there are no such children.
        while let Ok(ended) = waitpgid(self.0, WaitOptions::NOHANG) {
            if ended.is_none() {
                looks.tick().await;
            }
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
