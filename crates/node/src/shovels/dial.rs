//! Connections of shovels to this cluster that need no network: sessions like those of clients, at the other end of a pipe.
//!
//! Whose permissions these have: without a user, everything in the virtual host of the URI. Whoever defined the shovel had to
//! be allowed to open that. With a user and no password, what that user may do: less than without one. With a password, it is
//! checked as any client's.

use crate::broker::Broker;
use crate::identity::Identity;
use crate::session::{self, Ends};
use futures::FutureExt;
use futures::future::BoxFuture;
use shovel::Dial;
use shovel::client::Wire;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Bytes that a pipe holds in each direction.
const PIPE: usize = 256 * 1024;

/// Connections have names by their ends, and these have no ports of their own.
static NEXT: AtomicU16 = AtomicU16::new(1);

pub(super) struct Inside(pub(super) Arc<Broker>);

impl Dial for Inside {
    fn dial(
        &self,
        vhost: &str,
        user: Option<&str>,
        has_password: bool,
    ) -> BoxFuture<'static, Result<Box<dyn Wire>, String>> {
        let known = match user {
            None => Some(Identity::of_vhost(vhost)),
            Some(user) if !has_password => {
                if self.0.catalog().user(user).is_none() {
                    let text = format!("there is no user '{user}'");
                    return std::future::ready(Err(text)).boxed();
                }
                Some(Identity::stored(user))
            }
            Some(_) => None,
        };
        let port = NEXT.fetch_add(1, Ordering::Relaxed).max(1);
        let ends = Ends {
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: false,
            certificate_user: None,
            known,
        };
        let (client, server) = tokio::io::duplex(PIPE);
        tokio::spawn(session::serve(Arc::clone(&self.0) as _, server, ends));
        std::future::ready(Ok(Box::new(client) as Box<dyn Wire>)).boxed()
    }
}
