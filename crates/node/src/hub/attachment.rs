//! One attachment of a link to the leader of its queues: an ordered channel each way.

use crate::host::HostInput;
use broker_model::op::{BatchHead, Op};
use broker_model::protocol::{FromHost, ToHost};
use bytes::Bytes;
use tokio::sync::mpsc;

/// Operations of a batch: as they are for a host in this process that keeps no log, else encoded
/// once for the log.
#[derive(Debug, Clone)]
pub enum BatchOps {
    /// For local queues of this node.
    Plain(Vec<Op>),
    /// In `broker_model::wire` encoding.
    Encoded(Bytes),
}

/// Number of an attachment at its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttachmentId(pub u64);

/// Sends to the host; never blocks. What is outstanding is bounded by the link's window.
#[derive(Debug)]
pub enum HostSender {
    /// A host in this process.
    Local {
        /// This attachment.
        attachment: AttachmentId,
        /// The host's inbox.
        inbox: mpsc::UnboundedSender<HostInput>,
    },
    /// A stream to another node.
    Remote(mpsc::UnboundedSender<ToHost>),
}

impl HostSender {
    /// Sends a batch. A closed channel is noticed by the receiving side of the attachment.
    pub fn batch(&self, head: BatchHead, ops: BatchOps) {
        match (self, ops) {
            (Self::Local { attachment, inbox }, ops) => {
                let _ = inbox.send(HostInput::Batch {
                    attachment: *attachment,
                    head,
                    ops,
                });
            }
            (Self::Remote(sender), BatchOps::Encoded(ops)) => {
                let _ = sender.send(ToHost::Batch { head, ops });
            }
            (Self::Remote(sender), BatchOps::Plain(ops)) => {
                let ops = super::encode_ops(&ops);
                let _ = sender.send(ToHost::Batch { head, ops });
            }
        }
    }

    /// Sends anything else.
    pub fn message(&self, message: ToHost) {
        match self {
            Self::Local { attachment, inbox } => {
                let _ = inbox.send(HostInput::Message {
                    attachment: *attachment,
                    message,
                });
            }
            Self::Remote(sender) => {
                let _ = sender.send(message);
            }
        }
    }
}

impl Drop for HostSender {
    fn drop(&mut self) {
        if let Self::Local { attachment, inbox } = self {
            let _ = inbox.send(HostInput::Detach {
                attachment: *attachment,
            });
        }
    }
}

/// Both directions. The receiver ends when the host is no longer the leader or cannot be reached.
#[derive(Debug)]
pub struct Attachment {
    /// To the host.
    pub sender: HostSender,
    /// From the host, in order.
    pub receiver: mpsc::UnboundedReceiver<Vec<FromHost>>,
}
