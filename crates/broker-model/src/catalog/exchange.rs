//! Exchanges that do more than match: their arguments, and the queues of the broker itself that
//! belong to some of them.
//!
//! Such a *store* is a replicated queue in a shard that follows from the exchange's name. It has no
//! name of its own, so clients cannot use it; it goes with its exchange.

use super::apply::Applying;
use super::command::ExchangeSpec;
use super::error::{CatalogError, Resource};
use super::event::CatalogEvent;
use super::record::{EffectiveSettings, ExchangeRecord, QueueRecord};
use super::settings::{Overflow, QueueSettings, QueueType, Store};
use super::{Catalog, arguments};
use crate::ids::{Placement, QueueId, ShardId};
use crate::routing::{ExchangeKind, stable_hash};
use amqp_codec::FieldTable;
use std::sync::Arc;

/// Messages that an `x-recent-history` exchange keeps unless it says otherwise.
const HISTORY_LENGTH: u64 = 20;
/// Most messages that it may keep.
const HISTORY_LENGTH_MAX: i64 = 10_000;
/// Body bytes that it keeps at most.
const HISTORY_BYTES_MAX: u64 = 16 << 20;

/// How an exchange matches: by its own kind, or by the one in `x-delayed-type`.
pub(crate) fn matching(kind: ExchangeKind, arguments: &FieldTable) -> ExchangeKind {
    match kind {
        ExchangeKind::DelayedMessage => delayed_type(arguments).unwrap_or(ExchangeKind::Fanout),
        ExchangeKind::RecentHistory => ExchangeKind::Fanout,
        kind => kind,
    }
}

/// `x-delayed-type`, if it names a kind that can be.
fn delayed_type(arguments: &FieldTable) -> Option<ExchangeKind> {
    arguments
        .get("x-delayed-type")
        .and_then(|value| ExchangeKind::parse(value.as_text()?))
        .filter(|kind| store_of(*kind).is_none())
}

const fn store_of(kind: ExchangeKind) -> Option<Store> {
    match kind {
        ExchangeKind::DelayedMessage => Some(Store::Delay),
        ExchangeKind::RecentHistory => Some(Store::History),
        _ => None,
    }
}

/// Whether something is kept under the id of the exchange.
pub(crate) fn needs_id(kind: ExchangeKind, arguments: &FieldTable) -> bool {
    store_of(kind).is_some() || arguments::deduplication(arguments).is_some()
}

/// Checks the arguments of a new exchange, apart from those of its way to match.
pub(crate) fn check(
    exchange: &Resource,
    kind: ExchangeKind,
    arguments: &FieldTable,
) -> Result<(), CatalogError> {
    let refused = |text: String| Err(CatalogError::Invalid(text.into()));
    arguments::check_deduplication(exchange, arguments)?;
    match kind {
        ExchangeKind::DelayedMessage if delayed_type(arguments).is_none() => refused(
            "Invalid argument, 'x-delayed-type' must be an existing exchange type".to_owned(),
        ),
        ExchangeKind::RecentHistory => {
            let Some(length) = arguments.get("x-recent-history-length") else {
                return Ok(());
            };
            let text = arguments::printed(&length);
            match length.as_integer() {
                Some(1..=HISTORY_LENGTH_MAX) => Ok(()),
                Some(number) if number > 0 => refused(format!(
                    "Invalid argument {text}, 'x-recent-history-length' must not be above \
                     {HISTORY_LENGTH_MAX}"
                )),
                _ => refused(format!(
                    "Invalid argument {text}, 'x-recent-history-length' must be a positive integer"
                )),
            }
        }
        _ => Ok(()),
    }
}

/// The arguments of exchanges that a redeclaration is compared by.
pub(crate) fn compared(kind: ExchangeKind) -> impl Iterator<Item = &'static str> {
    let of_kind = match kind {
        ExchangeKind::DelayedMessage => Some("x-delayed-type"),
        ExchangeKind::RecentHistory => Some("x-recent-history-length"),
        _ => None,
    };
    std::iter::once("alternate-exchange")
        .chain(of_kind)
        .chain(arguments::DEDUPLICATION)
}

impl Catalog {
    /// Adds an exchange that has been checked; returns its store, if it has one.
    pub(crate) fn make_exchange(
        &mut self,
        id: QueueId,
        spec: &ExchangeSpec,
        kind: ExchangeKind,
    ) -> Result<Option<Arc<QueueRecord>>, CatalogError> {
        let vhost = self.vhost_state(&spec.vhost)?.record.name.clone();
        let mut record = ExchangeRecord::from_spec(spec.clone(), kind, vhost, id);
        record.store = store_of(kind).map(|store| self.make_store(&record, store));
        let store = record.store.clone();
        if let Some(store) = &store {
            self.stores.insert(id, store.clone());
        }
        self.vhost_state_mut(&spec.vhost)?.insert_exchange(record);
        Ok(store)
    }

    fn make_store(&mut self, exchange: &ExchangeRecord, store: Store) -> Arc<QueueRecord> {
        let length = exchange
            .arguments
            .get("x-recent-history-length")
            .and_then(|value| u64::try_from(value.as_integer()?).ok())
            .unwrap_or(HISTORY_LENGTH);
        let bound = |limit| (store == Store::History).then_some(limit);
        let settings = QueueSettings {
            max_length: bound(length),
            max_length_bytes: bound(HISTORY_BYTES_MAX),
            overflow: Overflow::DropHead,
            store: Some(store),
            ..QueueSettings::default()
        };
        let effective = self.shared_settings(EffectiveSettings {
            settings: settings.into(),
            ..EffectiveSettings::default()
        });
        let name = format!("{}\0{}", exchange.vhost, exchange.name);
        let shard = stable_hash(name.as_bytes()) % u64::from(self.shards.max(1));
        Arc::new(QueueRecord {
            id: exchange.id,
            vhost: exchange.vhost.clone(),
            name: exchange.name.clone(),
            placement: Placement::Shard(ShardId(1 + shard as u32)),
            exclusive: None,
            durable: true,
            auto_delete: false,
            queue_type: QueueType::Classic,
            arguments: FieldTable::empty(),
            effective,
        })
    }

    /// Tells of exchanges that went; what they kept goes with them.
    pub(crate) fn exchanges_deleted(
        &mut self,
        exchanges: Vec<Arc<ExchangeRecord>>,
        applying: &mut Applying<'_>,
    ) {
        for exchange in exchanges {
            if let Some(store) = &exchange.store {
                self.stores.remove(&store.id);
                applying
                    .events
                    .push(CatalogEvent::QueueDeleted(store.clone()));
            }
            applying.events.push(CatalogEvent::ExchangeDeleted {
                vhost: exchange.vhost.clone(),
                name: exchange.name.clone(),
            });
        }
    }
}
