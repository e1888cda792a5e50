//! Tasks without which a node must not go on.
//!
//! tokio keeps a panic to the task that it happened in. A host, a link or a follower of the catalog that is gone would leave
//! its queues without anybody who serves them, while the node looks well to the others: nothing would ever be handed to one
//! of them. So the process ends, as it does when a Raft group fails, and another node takes over. Tasks of one client's
//! connection are not among them: their end is that connection's.

use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// What ends the process, with a reason for the operator.
pub type Abort = Arc<dyn Fn(&str) + Send + Sync>;

/// Starts vital tasks.
#[derive(Clone)]
pub struct Vital(Abort);

impl Vital {
    /// Tasks whose panic ends the process by `abort`.
    pub fn new(abort: Abort) -> Self {
        Self(abort)
    }

    /// Runs a task; `what` names it to the operator.
    pub fn spawn(
        &self,
        what: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let abort = Arc::clone(&self.0);
        tokio::spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                abort(&format!(
                    "{what} has panicked (its message stands above); this is a bug of Warren, please report it"
                ));
            }
        })
    }
}

impl std::fmt::Debug for Vital {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vital")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[tokio::test]
    async fn a_panic_ends_the_process_and_an_end_does_not() {
        let reasons = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&reasons);
        let vital = Vital::new(Arc::new(move |why: &str| heard.lock().push(why.to_owned())));
        vital.spawn("the quiet one", async {}).await.unwrap();
        assert!(reasons.lock().is_empty());
        vital
            .spawn("the loud one", async { panic!("for the test") })
            .await
            .unwrap();
        let reasons = reasons.lock();
        assert!(reasons.len() == 1 && reasons[0].starts_with("the loud one has panicked"));
    }
}
