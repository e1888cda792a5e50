//! What goes through the exchanges of this node, for the operator's view.
//!
//! A session counts for itself ([`Current`]) and adds to what all share at the end of a turn, or when it publishes to another
//! exchange: nothing shared is touched per message.

use crate::metrics::Counter;
use crate::queries::ExchangeReport;
use broker_model::catalog::{Catalog, ExchangeRecord, Name};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Before so many exchanges are known nobody looks for those that are gone.
const FEW: usize = 1024;

/// Counts of one exchange on one node.
#[derive(Debug, Default)]
pub struct Flow {
    published: Counter,
    routed: Counter,
}

/// Counts of all exchanges that somebody has published to here.
#[derive(Debug, Default)]
pub struct ExchangeFlows(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    flows: HashMap<(Name, Name), Arc<Flow>>,
    /// How many were left when it was last looked for those that are gone.
    left: usize,
}

impl ExchangeFlows {
    /// Where publishes to this exchange, which is in the catalog, are counted.
    fn of(&self, catalog: &Catalog, exchange: &ExchangeRecord) -> Arc<Flow> {
        let mut known = self.0.lock();
        let name = (Arc::clone(&exchange.vhost), Arc::clone(&exchange.name));
        if known.flows.len() > FEW.max(2 * known.left) {
            known.forget_missing(catalog);
        }
        Arc::clone(known.flows.entry(name).or_default())
    }

    /// What was counted.
    #[must_use]
    pub fn reports(&self) -> Vec<ExchangeReport> {
        let known = self.0.lock();
        let report = |((vhost, name), flow): (&(Name, Name), &Arc<Flow>)| ExchangeReport {
            vhost: vhost.to_string(),
            name: name.to_string(),
            published: flow.published.value(),
            routed: flow.routed.value(),
        };
        known.flows.iter().map(report).collect()
    }
}

impl Known {
    fn forget_missing(&mut self, catalog: &Catalog) {
        self.flows
            .retain(|(vhost, name), _| catalog.exchange(vhost, name).is_some());
        self.left = self.flows.len();
    }
}

/// What a session has counted since it told.
#[derive(Debug, Default)]
pub(crate) struct Current {
    flow: Option<Arc<Flow>>,
    published: u64,
    routed: u64,
    /// The exchange that was asked for last.
    asked: Option<(Arc<ExchangeRecord>, Arc<Flow>)>,
}

impl Current {
    /// Where publishes to this exchange, which is in the catalog, are counted.
    pub(crate) fn of(
        &mut self,
        flows: &ExchangeFlows,
        catalog: &Catalog,
        exchange: &Arc<ExchangeRecord>,
    ) -> Arc<Flow> {
        match &self.asked {
            Some((last, flow)) if Arc::ptr_eq(last, exchange) => Arc::clone(flow),
            _ => {
                let flow = flows.of(catalog, exchange);
                self.asked = Some((Arc::clone(exchange), Arc::clone(&flow)));
                flow
            }
        }
    }

    /// A message was published that goes to so many queues.
    pub(crate) fn count(&mut self, flow: &Arc<Flow>, queues: u32) {
        if !self
            .flow
            .as_ref()
            .is_some_and(|last| Arc::ptr_eq(last, flow))
        {
            self.tell();
            self.flow = Some(Arc::clone(flow));
        }
        self.published += 1;
        self.routed += u64::from(queues);
    }

    /// Adds what was counted to what all share.
    pub(crate) fn tell(&mut self) {
        if self.published == 0 {
            return;
        }
        if let Some(flow) = &self.flow {
            flow.published.add(self.published);
            flow.routed.add(self.routed);
        }
        (self.published, self.routed) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_codec::FieldTable;
    use broker_model::catalog::{Bootstrap, CatalogCommand, CatalogEntry, ExchangeSpec};

    fn catalog() -> Catalog {
        let mut catalog = Catalog::new();
        let bootstrap = CatalogCommand::Bootstrap(Bootstrap {
            cluster_id: "test".into(),
            cluster_name: "test".into(),
            shards: 1,
            vhost: "/".into(),
            user: None,
            nodes: Vec::new(),
        });
        catalog.apply(1, &CatalogEntry::of(bootstrap), &mut Vec::new());
        catalog
    }

    fn declare(catalog: &mut Catalog, at: u64, name: &str) -> Arc<ExchangeRecord> {
        let spec = ExchangeSpec {
            vhost: "/".into(),
            name: name.into(),
            kind: "direct".into(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default(),
        };
        let command = CatalogCommand::DeclareExchange(spec);
        catalog.apply(at, &CatalogEntry::of(command), &mut Vec::new());
        Arc::clone(catalog.exchange("/", name).unwrap())
    }

    #[test]
    fn sessions_add_up() {
        let mut catalog = catalog();
        let (a, b) = (declare(&mut catalog, 2, "a"), declare(&mut catalog, 3, "b"));
        let flows = ExchangeFlows::default();
        let (mut one, mut two) = (Current::default(), Current::default());
        let (to_a, to_b) = (one.of(&flows, &catalog, &a), one.of(&flows, &catalog, &b));
        one.count(&to_a, 2);
        one.count(&to_a, 3);
        one.count(&to_b, 0);
        let same = two.of(&flows, &catalog, &a);
        two.count(&same, 1);
        one.tell();
        one.tell();
        two.tell();
        let mut reports = flows.reports();
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        let found: Vec<_> = reports
            .iter()
            .map(|report| (report.name.as_str(), report.published, report.routed))
            .collect();
        assert_eq!(found, [("a", 3, 6), ("b", 1, 0)]);
    }

    #[test]
    fn exchanges_that_are_gone_are_forgotten() {
        let mut catalog = catalog();
        let flows = ExchangeFlows::default();
        let kept = declare(&mut catalog, 2, "kept");
        flows.of(&catalog, &kept);
        for number in 0..3 * FEW as u64 {
            let name: Name = format!("e{number}").into();
            let gone = declare(&mut catalog, 3 + 2 * number, &name);
            flows.of(&catalog, &gone);
            let command = CatalogCommand::DeleteExchange {
                vhost: "/".into(),
                name,
                if_unused: false,
            };
            catalog.apply(4 + 2 * number, &CatalogEntry::of(command), &mut Vec::new());
        }
        let reports = flows.reports();
        assert!(reports.len() <= FEW + 2, "{}", reports.len());
        assert!(reports.iter().any(|report| report.name == "kept"));
    }
}
