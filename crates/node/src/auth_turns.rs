//! Who may have a password verified next: one at a time for each address, so that an address that tries
//! thousands of passwords keeps only itself waiting.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// With more addresses than this those that wait for nothing are forgotten.
const SWEEP: usize = 1024;

/// The turns of all addresses that wait.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    addresses: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl Turns {
    /// Waits until nobody before from the same address has its turn. The turn ends when what is
    /// returned is dropped.
    pub(crate) async fn take(&self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        let turn = self.of(network(address));
        // It is never closed.
        turn.acquire_owned().await.ok()
    }

    fn of(&self, network: IpAddr) -> Arc<Semaphore> {
        let mut addresses = self.addresses.lock();
        if let Some(turn) = addresses.get(&network).and_then(Weak::upgrade) {
            return turn;
        }
        if addresses.len() >= SWEEP {
            addresses.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(Semaphore::new(1));
        addresses.insert(network, Arc::downgrade(&turn));
        turn
    }
}

/// Whoever has one address of IPv6 has the 64 bits behind its network's prefix.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_address_waits_for_itself_only() {
        let turns = Turns::default();
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(turns.take(address("192.0.2.1"))).poll(&mut context) else {
            panic!("the first waits for nobody");
        };
        let mut second = pin!(turns.take(address("192.0.2.1")));
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(
            pin!(turns.take(address("192.0.2.2")))
                .poll(&mut context)
                .is_ready()
        );
        drop(first);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn neighbours_in_one_network_share_a_turn() {
        assert_eq!(
            network(address("2001:db8::1")),
            network(address("2001:db8::ffff"))
        );
        assert_ne!(
            network(address("2001:db8::1")),
            network(address("2001:db8:0:1::1"))
        );
        assert_ne!(network(address("192.0.2.1")), network(address("192.0.2.2")));
    }

    #[test]
    fn who_waits_no_more_is_forgotten() {
        let turns = Turns::default();
        let kept = turns.of(address("203.0.113.1"));
        for n in 0..3 * SWEEP as u32 {
            turns.of(IpAddr::V4((0x0A00_0000 + n).into()));
        }
        assert!(turns.addresses.lock().len() <= SWEEP);
        assert!(Arc::ptr_eq(&kept, &turns.of(address("203.0.113.1"))));
    }
}
