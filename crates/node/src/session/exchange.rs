//! Exchanges: declare, delete.

use super::catalog_calls::{LeadsTo, catalog_error, look, look_for, write};
use super::channel::ChannelKey;
use super::state::Session;
use amqp_codec::{FieldTable, Method, ShortStr};
use amqp_connection::ProtocolError;
use broker_model::catalog::{
    CatalogCommand, CatalogError, ExchangeSpec, Permission, RESERVED_PREFIX, strip_line_ends,
};
use broker_model::routing::ExchangeKind;
use std::sync::Arc;

/// `exchange.declare`.
const DECLARE: (u16, u16) = (40, 10);
/// `exchange.delete`.
const DELETE: (u16, u16) = (40, 20);

/// The arguments of `exchange.declare`.
pub(super) struct DeclareExchange {
    pub(super) exchange: ShortStr,
    pub(super) kind: ShortStr,
    pub(super) passive: bool,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    pub(super) no_wait: bool,
    pub(super) arguments: FieldTable,
}

impl Session {
    /// `exchange.declare`.
    pub(super) fn declare_exchange(
        &mut self,
        key: ChannelKey,
        declare: DeclareExchange,
    ) -> Result<(), ProtocolError> {
        let name: Arc<str> = strip_line_ends(&declare.exchange).into();
        if !declare.passive && ExchangeKind::parse(&declare.kind).is_none() {
            let kind = declare.kind.as_str().into();
            return Err(catalog_error(&CatalogError::UnknownExchangeType { kind }));
        }
        if name.is_empty() {
            return Err(catalog_error(&CatalogError::DefaultExchange));
        }
        let (broker, vhost, no_wait) = (
            Arc::clone(&self.broker),
            Arc::clone(&self.vhost),
            declare.no_wait,
        );
        let done = move |session: &mut Self, key, ()| {
            session.reply(key, no_wait, &Method::ExchangeDeclareOk {});
            Ok(())
        };
        if declare.passive {
            self.check_any_permission(&self.exchange_resource(&name))?;
            let check = async move {
                look(&*broker, |catalog| {
                    catalog.check_exchange(&vhost, &name).map(drop)
                })
                .await
                .map_err(ProtocolError::from)
            };
            self.later(key, DECLARE, check, done);
            return Ok(());
        }
        self.check_permission(Permission::Configure, &self.exchange_resource(&name))?;
        let alternate = declare.arguments.get("alternate-exchange");
        let leads_to = LeadsTo {
            user: self.user.clone(),
            from: self.exchange_resource(&name),
            exchange: alternate
                .as_ref()
                .and_then(|value| value.as_text())
                .map(|alternate| self.exchange_resource(alternate)),
        };
        let spec = ExchangeSpec {
            vhost,
            name,
            kind: declare.kind.as_str().into(),
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments.detached(),
        };
        let declare = async move {
            let existing = look(&*broker, |catalog| {
                let found = catalog.check_declare_exchange(&spec);
                let is_new = catalog.exchange(&spec.vhost, &spec.name).is_none();
                if is_new && !matches!(found, Err(CatalogError::Reserved { .. })) {
                    leads_to.check(catalog)?;
                }
                found
            })
            .await;
            match existing {
                Ok(Some(_)) => Ok(()),
                Ok(None) => write(&*broker, CatalogCommand::DeclareExchange(spec))
                    .await
                    .map(drop),
                Err(error) => Err(error.into()),
            }
        };
        self.later(key, DECLARE, declare, done);
        Ok(())
    }

    /// `exchange.delete`.
    pub(super) fn delete_exchange(
        &mut self,
        key: ChannelKey,
        exchange: &ShortStr,
        if_unused: bool,
        no_wait: bool,
    ) -> Result<(), ProtocolError> {
        let name: Arc<str> = strip_line_ends(exchange).into();
        if name.is_empty() {
            return Err(catalog_error(&CatalogError::DefaultExchange));
        }
        let resource = self.exchange_resource(&name);
        if name.starts_with(RESERVED_PREFIX) {
            return Err(catalog_error(&CatalogError::SystemExchange(resource)));
        }
        self.check_permission(Permission::Configure, &resource)?;
        let (broker, vhost) = (Arc::clone(&self.broker), Arc::clone(&self.vhost));
        let delete = async move {
            let check = |catalog: &broker_model::catalog::Catalog| {
                catalog.check_delete_exchange(&vhost, &name, if_unused)
            };
            match look_for(&*broker, check, |exists| *exists).await {
                Ok(false) => Ok(()),
                Ok(true) => {
                    let command = CatalogCommand::DeleteExchange {
                        vhost: Arc::clone(&vhost),
                        name: Arc::clone(&name),
                        if_unused,
                    };
                    write(&*broker, command).await.map(drop)
                }
                Err(error) => Err(error.into()),
            }
        };
        self.later(key, DELETE, delete, move |session, key, ()| {
            session.reply(key, no_wait, &Method::ExchangeDeleteOk {});
            Ok(())
        });
        Ok(())
    }
}
