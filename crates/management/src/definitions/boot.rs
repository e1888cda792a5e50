//! Definitions that a node brings along when it starts, as RabbitMQ's `load_definitions`.

use super::import;
use crate::Management;
use crate::api::{Body, without_mark};
use serde_json::Value;

/// A file of definitions; its form is checked, what it holds is not.
pub struct Definitions(Body);

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Items that are there now.
    pub imported: u64,
    /// Parts and keys that mean nothing here.
    pub not_understood: Vec<String>,
    /// Items that could not be imported, each with the reason.
    pub failed: Vec<String>,
}

impl Definitions {
    /// Reads RabbitMQ's JSON.
    ///
    /// # Errors
    /// It is no JSON object, no list stands where one must be, or a virtual host is not named; the text says where.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let object = match serde_json::from_slice(without_mark(json)) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err("not a JSON object".into()),
            Err(error) => return Err(format!("not JSON: {error}")),
        };
        for part in import::PARTS {
            if !matches!(
                object.get(*part),
                None | Some(Value::Null | Value::Array(_))
            ) {
                return Err(format!("'{part}' is not a list"));
            }
        }
        let body = Body(object);
        import::refuse_homeless(&body)?;
        Ok(Self(body))
    }

    /// Whether users are among them: then the default user is not needed.
    #[must_use]
    pub fn has_users(&self) -> bool {
        let users = self.0.0.get("users").and_then(Value::as_array);
        users.is_some_and(|users| !users.is_empty())
    }
}

impl Management {
    /// Imports definitions; of use once [`open`](Self::open) has been called. What exists already is left as it
    /// is, and what fails keeps nothing else from being imported. Each change is bounded in time.
    pub async fn load(&self, definitions: Definitions) -> Loaded {
        let report = import::run(&self.app, definitions.0, None).await;
        Loaded {
            imported: report.imported.values().sum(),
            not_understood: report.not_understood,
            failed: report.failed,
        }
    }
}
