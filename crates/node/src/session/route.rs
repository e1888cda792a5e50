//! Where the publishes of a channel go: found once per exchange and key, then remembered until the
//! catalog changes.

use crate::exchange_flows::Flow;
use crate::identity::Identity;
use crate::target::{add_headers, looks_at_headers, target_for};
use amqp_codec::{FieldTable, PropertiesView, ShortStr};
use broker_model::catalog::record::{ExchangeRecord, QueueRecord};
use broker_model::catalog::{Catalog, CatalogError, Permission, ResourceKind, Store};
use broker_model::ids::Placement;
use broker_model::op::Target;
use broker_model::routing::{Effort, RouteInput, RouteProperties};
use smallvec::SmallVec;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Routes remembered per channel.
const ROUTES_MAX: usize = 1024;
/// Queues in the routes that are remembered per channel.
const QUEUES_MAX: usize = 8 * 1024;
/// What the catalog did not have is believed for so long after it was brought up to date.
pub(super) const BELIEF: Duration = Duration::from_secs(1);

/// The queues of one place that a message goes to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) placement: Placement,
    pub(super) queues: SmallVec<[Arc<QueueRecord>; 1]>,
    /// These are stores of delayed messages: they keep what is to be taken out before a delivery.
    pub(super) delays: bool,
    /// One of them has a dead letter exchange and no key for it: what dies there is routed by all of its keys, so they
    /// are kept too.
    pub(super) keeps_keys: bool,
    /// The targets of a message without priority and expiration.
    plain: SmallVec<[Target; 1]>,
    /// The exchange that the message was published to, if it deduplicates.
    exchange: Option<Arc<ExchangeRecord>>,
    /// Targets depend on headers.
    looks_at_headers: bool,
}

impl Place {
    /// The targets of a message.
    pub(super) fn targets(
        &self,
        priority: Option<u8>,
        expiration_ms: Option<u64>,
        properties: PropertiesView<'_>,
    ) -> SmallVec<[Target; 1]> {
        if !self.looks_at_headers {
            if priority.is_none() && expiration_ms.is_none() {
                return self.plain.clone();
            }
            return self
                .queues
                .iter()
                .map(|record| target_for(record, priority, expiration_ms))
                .collect();
        }
        let headers = properties.headers();
        let exchange = self.exchange.as_deref();
        self.queues
            .iter()
            .map(|record| {
                let mut target = target_for(record, priority, expiration_ms);
                add_headers(&mut target, record, exchange, headers.as_ref());
                target
            })
            .collect()
    }
}

/// Where messages with one exchange and key go.
#[derive(Debug, Default)]
pub(super) struct Route {
    pub(super) places: SmallVec<[Place; 1]>,
    /// Some queue gets it, now or when its time has come: not only the history of an exchange.
    pub(super) is_routed: bool,
    /// Queues that clients declared, among those it goes to.
    pub(super) queues: u32,
    /// Where it is counted, if it is.
    pub(super) flow: Option<Arc<Flow>>,
    /// The virtual host is traced.
    pub(super) traced: bool,
}

/// Who publishes where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publisher<'a> {
    pub(super) user: &'a Identity,
    pub(super) vhost: &'a str,
}

/// Routes of one channel.
#[derive(Debug, Default)]
pub(super) struct RouteCache {
    /// The catalog that all of it is about.
    version: u64,
    last: Option<(ShortStr, ShortStr, Arc<Route>)>,
    all: HashMap<(ShortStr, ShortStr), Arc<Route>>,
    /// Queues in `all`.
    queues: usize,
    /// When the catalog was last brought up to date for this channel.
    synced: Option<Synced>,
}

/// An attempt to bring the catalog up to date.
#[derive(Debug, Clone, Copy)]
struct Synced {
    version: u64,
    at: Instant,
    /// It is up to date. Else nobody could be asked: what it does not have may exist all the same.
    sure: bool,
}

impl RouteCache {
    /// The route, if it is known for this version of the catalog.
    pub(super) fn get(
        &mut self,
        version: u64,
        exchange: &ShortStr,
        key: &ShortStr,
    ) -> Option<Arc<Route>> {
        if self.version != version {
            self.version = version;
            self.last = None;
            self.forget_all();
            return None;
        }
        if let Some((last_exchange, last_key, route)) = &self.last
            && is_same(last_key, key)
            && is_same(last_exchange, exchange)
        {
            return Some(Arc::clone(route));
        }
        let known = (exchange.clone(), key.clone());
        let route = Arc::clone(self.all.get(&known)?);
        self.last = Some((known.0, known.1, Arc::clone(&route)));
        Some(route)
    }

    /// Remembers a route found at this version of the catalog.
    pub(super) fn put(
        &mut self,
        version: u64,
        exchange: &ShortStr,
        key: &ShortStr,
        route: &Arc<Route>,
    ) {
        if self.version != version {
            return;
        }
        let names = (exchange.clone(), key.clone());
        self.last = Some((names.0.clone(), names.1.clone(), Arc::clone(route)));
        let queues: usize = route.places.iter().map(|place| place.queues.len()).sum();
        if self.all.len() >= ROUTES_MAX || self.queues + queues > QUEUES_MAX {
            self.forget_all();
        }
        if queues <= QUEUES_MAX {
            self.queues += queues;
            self.all.insert(names, Arc::clone(route));
        }
    }

    fn forget_all(&mut self) {
        self.all.clear();
        self.queues = 0;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The catalog of this version is up to date, or (`sure` is false) nobody could be asked.
    pub(super) fn note_synced(&mut self, version: u64, at: Instant, sure: bool) {
        self.synced = Some(Synced { version, at, sure });
    }

    /// Whether the catalog need not be brought up to date for what it does not have.
    pub(super) fn believes(&self, version: u64, now: Instant) -> bool {
        self.synced.is_some_and(|synced| {
            synced.version == version && now.saturating_duration_since(synced.at) < BELIEF
        })
    }

    /// Whether it was tried in vain to bring the catalog up to date, no longer than `patience` ago.
    pub(super) fn was_in_vain(&self, patience: Duration, now: Instant) -> bool {
        self.synced.is_some_and(|synced| {
            !synced.sure && now.saturating_duration_since(synced.at) < patience
        })
    }

    /// Whether what the catalog does not have may exist: the last attempt to bring it up to date has failed.
    pub(super) fn is_unsure(&self) -> bool {
        self.synced.is_some_and(|synced| !synced.sure)
    }
}

/// The same text. Usually it is the very same string: then no byte of it needs to be looked at.
fn is_same(a: &ShortStr, b: &ShortStr) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    std::ptr::eq(a, b) || a == b
}

/// Whether `publisher` may publish to this exchange; returns it.
///
/// # Errors
/// No permission, no such exchange, internal.
pub(super) fn check<'a>(
    catalog: &'a Catalog,
    publisher: Publisher<'_>,
    exchange: &str,
) -> Result<&'a Arc<ExchangeRecord>, CatalogError> {
    let Publisher { user, vhost } = publisher;
    let (permission, kind) = (Permission::Write, ResourceKind::Exchange);
    user.check_permission(catalog, vhost, permission, kind, exchange)?;
    catalog.check_publish(vhost, exchange)
}

/// What is to find its way.
pub(super) struct Sought<'a> {
    /// Name of the exchange.
    pub(super) exchange: &'a str,
    /// Its routing keys.
    pub(super) keys: &'a [&'a str],
    /// Its properties.
    pub(super) properties: PropertiesView<'a>,
    /// What this node serves.
    pub(super) is_here: &'a dyn Fn(Placement) -> bool,
}

/// Finds the way of a message with several keys. Also tells whether it depends on exchange and keys only.
///
/// # Errors
/// No permission, no such exchange, internal, more steps than `effort` has.
pub(super) fn find(
    catalog: &Catalog,
    publisher: Publisher<'_>,
    sought: &Sought<'_>,
    effort: &mut Effort,
) -> Result<(Route, bool), CatalogError> {
    let Sought {
        exchange,
        keys,
        properties,
        is_here,
    } = *sought;
    let record = check(catalog, publisher, exchange)?;
    let Publisher { user, vhost } = publisher;
    let watched = Watched {
        properties,
        asked: Cell::new(false),
    };
    let mut queues = Vec::new();
    user.check_topic_permission(catalog, Permission::Write, record, keys, effort)?;
    if let Some((routing_key, more_keys)) = keys.split_first() {
        let input = RouteInput {
            routing_key,
            more_keys,
            properties: &watched,
            random: 0,
            is_here,
        };
        catalog.route(vhost, exchange, &input, effort, &mut queues)?;
    }
    let mut route = along(queues, record);
    route.traced = catalog.vhost(vhost).is_some_and(|vhost| vhost.tracing);
    Ok((route, !watched.asked.get()))
}

/// The way of a message of the broker's own; `None` without such an exchange, or where finding it takes long.
pub(super) fn find_inside(
    catalog: &Catalog,
    vhost: &str,
    exchange: &str,
    routing_key: &str,
    is_here: &dyn Fn(Placement) -> bool,
) -> Option<Route> {
    let record = catalog.exchange(vhost, exchange)?;
    let input = RouteInput {
        is_here,
        ..RouteInput::key(routing_key)
    };
    let mut queues = Vec::new();
    let mut effort = Effort::at_once();
    let routed = catalog.route(vhost, exchange, &input, &mut effort, &mut queues);
    routed.ok()?;
    Some(along(queues, record))
}

/// The route to these queues, of what is published to this exchange.
fn along(queues: Vec<Arc<QueueRecord>>, record: &Arc<ExchangeRecord>) -> Route {
    let deduplicating = record.deduplication.is_some().then(|| Arc::clone(record));
    let mut places: SmallVec<[Place; 1]> = SmallVec::new();
    let mut is_routed = false;
    let mut declared = 0;
    for queue in queues {
        let plain = target_for(&queue, None, None);
        let store = queue.settings().store;
        let delays = store == Some(Store::Delay);
        is_routed |= store != Some(Store::History);
        declared += u32::from(store.is_none());
        let settings = queue.settings();
        let keeps_keys = delays
            || settings.dead_letter_exchange.is_some()
                && settings.dead_letter_routing_key.is_none();
        let looks = deduplicating.is_some() || looks_at_headers(&queue);
        match places
            .iter_mut()
            .find(|place| place.placement == queue.placement && place.delays == delays)
        {
            Some(place) => {
                place.plain.push(plain);
                place.queues.push(queue);
                place.looks_at_headers |= looks;
                place.keeps_keys |= keeps_keys;
            }
            None => places.push(Place {
                placement: queue.placement,
                delays,
                keeps_keys,
                plain: SmallVec::from_elem(plain, 1),
                queues: SmallVec::from_elem(queue, 1),
                exchange: deduplicating.clone(),
                looks_at_headers: looks,
            }),
        }
    }
    Route {
        places,
        is_routed,
        queues: declared,
        flow: None,
        traced: false,
    }
}

/// Properties that remember whether routing looked at them.
struct Watched<'a> {
    properties: PropertiesView<'a>,
    asked: Cell<bool>,
}

impl Watched<'_> {
    fn ask(&self) -> PropertiesView<'_> {
        self.asked.set(true);
        self.properties
    }
}

impl RouteProperties for Watched<'_> {
    fn headers(&self) -> Option<FieldTable> {
        self.ask().headers()
    }

    fn message_id(&self) -> Option<&[u8]> {
        self.ask().message_id()
    }

    fn correlation_id(&self) -> Option<&[u8]> {
        self.ask().correlation_id()
    }

    fn timestamp(&self) -> Option<u64> {
        self.ask().timestamp()
    }

    fn random(&self) -> Option<u64> {
        self.ask();
        Some(rand::random())
    }
}
