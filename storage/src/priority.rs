//! Who goes first while threads want more than the processors give: spans that come in, then questions, then merges.

use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};
use tracing::warn;

/// What a thread works at, if not at spans that come in: those are refused when nothing takes them, and what Envoy sent is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Somebody waits for it: on Linux a niceness of 1, four fifths of what a thread of ingest gets of a contended processor.
    Query,
    /// Nobody waits for it: a niceness of 5, a third. With 9, an eighth, merges fell behind where other processes were busy.
    Merge,
}

impl Priority {
    /// The calling thread, and those that it starts, have this priority from now on. Where that can't be, the log says so.
    pub fn take(self) {
        // Of 99, where 49 is usual.
        let level: u8 = match self {
            Priority::Query => 44,
            Priority::Merge => 34,
        };
        let taken = ThreadPriorityValue::try_from(level)
            .and_then(|level| set_current_thread_priority(ThreadPriority::Crossplatform(level)).map_err(|error| error.to_string()));
        if let Err(error) = taken {
            warn!(error, priority = ?self, "a thread keeps the usual priority");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The niceness of the calling thread: the 19th field of its `stat`, the 17th behind its name.
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    /// Scenario: a thread takes the one priority, then the other. Guarantee: it is nicer each time, and no other thread is.
    #[test]
    fn threads_let_others_go_first() {
        let before = niceness();
        let taken = std::thread::spawn(|| {
            [Priority::Query, Priority::Merge].map(|priority| {
                priority.take();
                niceness()
            })
        });
        assert_eq!(taken.join().unwrap(), [1, 5]);
        assert_eq!(niceness(), before);
    }
}
