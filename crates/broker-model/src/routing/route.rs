//! From exchange to exchange to queues.

use super::delay::{delay_ms, is_kept};
use super::targets::{Matches, Target, Thinned};
use super::{Effort, ExchangeKind, RouteInput};
use crate::catalog::vhost::Vhost;
use crate::catalog::{Catalog, CatalogError, QueueRecord, Resource, Store};
use hashbrown::HashSet;
use smallvec::SmallVec;
use std::sync::Arc;

/// Above this number of exchanges on one way, they are looked up in a set.
const VISITED_SMALL_MAX: usize = 16;

/// Exchanges that have had this message.
#[derive(Default)]
struct Visited {
    few: SmallVec<[u32; VISITED_SMALL_MAX]>,
    many: HashSet<u32, foldhash::fast::RandomState>,
}

impl Visited {
    /// Whether `exchange` is new.
    fn insert(&mut self, exchange: u32) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(exchange);
        }
        if self.few.contains(&exchange) {
            return false;
        }
        self.few.push(exchange);
        if self.few.len() == VISITED_SMALL_MAX {
            self.many.extend(self.few.iter().copied());
        }
        true
    }
}

impl Catalog {
    /// Adds the queues that a message published to `exchange` reaches to `out`, each once, in the
    /// order of their ids. Nothing added means unroutable.
    ///
    /// Each exchange has a message once, so cycles end. An exchange whose own bindings lead nowhere
    /// hands over to its alternate exchange. An exchange that keeps messages adds its store; one that
    /// delays this message adds nothing else. Whether clients may publish to it is
    /// [`Catalog::check_publish`]'s question.
    ///
    /// # Errors
    /// The vhost or the exchange does not exist, or it takes more steps than `effort` has. Then what is in `out` is not all.
    pub fn route(
        &self,
        vhost: &str,
        exchange: &str,
        input: &RouteInput<'_>,
        effort: &mut Effort,
        out: &mut Vec<Arc<QueueRecord>>,
    ) -> Result<(), CatalogError> {
        let vhost = self.vhost_state(vhost)?;
        if exchange.is_empty() {
            let start = out.len();
            effort.take(1 + input.more_keys.len())?;
            out.extend(vhost.queue(input.routing_key).cloned());
            if !input.more_keys.is_empty() {
                out.extend(
                    input
                        .more_keys
                        .iter()
                        .filter_map(|key| vhost.queue(key))
                        .cloned(),
                );
                let mut found = out.split_off(start);
                found.sort_unstable_by_key(|queue| queue.id);
                found.dedup_by_key(|queue| queue.id);
                out.append(&mut found);
            }
            return Ok(());
        }
        let first = vhost.exchange_place(exchange).ok_or_else(|| {
            CatalogError::NotFound(Resource::exchange(&vhost.record.name, exchange))
        })?;
        let start = out.len();
        let mut queues = Matches::new();
        let mut thinned = Thinned::default();
        let mut matches = Matches::new();
        let mut visited = Visited::default();
        let mut ahead: SmallVec<[u32; 8]> = SmallVec::new();
        visited.insert(first);
        ahead.push(first);
        while let Some(exchange) = ahead.pop().and_then(|at| vhost.exchange_at(at)) {
            effort.take(1)?;
            if let Some(store) = &exchange.record.store {
                let headers = input.properties.headers();
                effort.read(headers.as_ref())?;
                match store.settings().store {
                    Some(Store::Delay) if delay_ms(headers.as_ref()).is_some() => {
                        out.push(store.clone());
                        continue;
                    }
                    Some(Store::History) if is_kept(headers.as_ref()) => out.push(store.clone()),
                    _ => {}
                }
            }
            matches.clear();
            exchange.matcher.matches(input, effort, &mut matches)?;
            if exchange.record.matching() == ExchangeKind::LocalRandom {
                effort.take(matches.len())?;
                pick_here(vhost, input, &mut matches);
            }
            if matches.is_empty() {
                match exchange.record.alternate.as_deref() {
                    Some("") => {
                        effort.take(1 + input.more_keys.len())?;
                        let keys = std::iter::once(input.routing_key)
                            .chain(input.more_keys.iter().copied());
                        let places = keys.filter_map(|key| vhost.queue_place(key));
                        queues.extend(places.map(Target::Queue));
                    }
                    Some(name) => ahead.extend(
                        vhost
                            .exchange_place(name)
                            .filter(|place| visited.insert(*place)),
                    ),
                    None => {}
                }
            }
            thinned.thin(&mut queues);
            for target in &matches {
                match *target {
                    Target::Queue(_) => queues.push(*target),
                    Target::Exchange(place) => {
                        if visited.insert(place) {
                            ahead.push(place);
                        }
                    }
                }
            }
        }
        if queues.len() > 1 {
            queues.sort_unstable();
            queues.dedup();
        }
        out.extend(
            queues
                .iter()
                .filter_map(|target| vhost.queue_at(*target))
                .cloned(),
        );
        if let Some(found) = out.get_mut(start..) {
            found.sort_unstable_by_key(|queue| queue.id);
        }
        Ok(())
    }
}

/// Leaves one of the queues that the node which routes serves, or none.
fn pick_here(vhost: &Vhost, input: &RouteInput<'_>, matches: &mut Matches) {
    // Asked for in any case: who serves a queue may change any moment.
    let random = input.properties.random().unwrap_or(input.random);
    let is_here = |target: &mut Target| {
        let queue = vhost.queue_at(*target);
        queue.is_some_and(|queue| (input.is_here)(queue.placement))
    };
    matches.retain(is_here);
    let picked = random
        .checked_rem(matches.len() as u64)
        .and_then(|at| matches.get(at as usize).copied());
    matches.clear();
    matches.extend(picked);
}
