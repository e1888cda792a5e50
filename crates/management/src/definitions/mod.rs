//! `/api/definitions`: everything but messages, in RabbitMQ's JSON.

mod boot;
mod export;
mod import;

pub use boot::{Definitions, Loaded};
pub(crate) use export::{export, export_vhost};
pub(crate) use import::{import, import_vhost};
