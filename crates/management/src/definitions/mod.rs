//! `/api/definitions`: everything but messages, in RabbitMQ's JSON.

mod export;
mod import;

pub(crate) use export::{export, export_vhost};
pub(crate) use import::{import, import_vhost};
