//! What an operator has set for a node and nobody reads: variables with a slip in their names, and what RabbitMQ's image takes.

use super::layers;
use super::nearest::nearest;
use std::path::{Path, PathBuf};

/// Variables that the programs of this one file read besides the options of `serve`.
const OURS: &[&str] = &[
    "WARREN_CONFIG",
    "WARREN_URL",
    "WARREN_LOGIN",
    "WARREN_CACERT",
];

/// Variables that mean something to RabbitMQ's image, and what does the same here. Others that begin alike may be an
/// application's, which shares its environment with the broker.
const RABBITMQ: &[(&str, &str)] = &[
    (
        "RABBITMQ_ERLANG_COOKIE",
        "nodes prove that they belong together by WARREN_CLUSTER_SECRET",
    ),
    ("RABBITMQ_NODENAME", "a node is told by WARREN_NODE_ID"),
    ("RABBITMQ_USE_LONGNAME", "a node is told by WARREN_NODE_ID"),
    ("RABBITMQ_NODE_IP_ADDRESS", "use WARREN_AMQP_LISTEN"),
    ("RABBITMQ_NODE_PORT", "use WARREN_AMQP_LISTEN"),
    ("RABBITMQ_DIST_PORT", "use WARREN_CLUSTER_LISTEN"),
    ("RABBITMQ_CONFIG_FILE", CONFIG),
    ("RABBITMQ_CONFIG_FILES", CONFIG),
    ("RABBITMQ_ADVANCED_CONFIG_FILE", CONFIG),
    ("RABBITMQ_CONF_ENV_FILE", CONFIG),
    ("RABBITMQ_MNESIA_BASE", "use WARREN_DATA_DIR"),
    ("RABBITMQ_MNESIA_DIR", "use WARREN_DATA_DIR"),
    (
        "RABBITMQ_VM_MEMORY_HIGH_WATERMARK",
        "use WARREN_MEMORY_HIGH_WATERMARK",
    ),
    ("RABBITMQ_DEFAULT_USER_FILE", "use WARREN_DEFAULT_USER"),
    ("RABBITMQ_SSL_CERTFILE", TLS),
    ("RABBITMQ_SSL_KEYFILE", TLS),
    ("RABBITMQ_SSL_CACERTFILE", TLS),
    (
        "RABBITMQ_LOGS",
        "the log goes to standard error; WARREN_LOG filters it",
    ),
    ("RABBITMQ_LOG", "use WARREN_LOG"),
    ("RABBITMQ_ENABLED_PLUGINS_FILE", PLUGINS),
];

/// Files that RabbitMQ's image reads.
const FILES: &[(&str, &str)] = &[
    ("/etc/rabbitmq/rabbitmq.conf", CONFIG),
    ("/etc/rabbitmq/conf.d", CONFIG),
    ("/etc/rabbitmq/advanced.config", CONFIG),
    ("/etc/rabbitmq/enabled_plugins", PLUGINS),
    (
        "/etc/rabbitmq/definitions.json",
        "name it by WARREN_LOAD_DEFINITIONS",
    ),
];

const CONFIG: &str = "options are variables, or keys of a TOML file that WARREN_CONFIG names; see `warren serve --help`";
const TLS: &str = "use WARREN_TLS_CERTIFICATE, WARREN_TLS_KEY and WARREN_TLS_CLIENT_CA";
const PLUGINS: &str = "what there is is built in";

/// What is set and has no effect, one line for each.
pub(super) fn notices(
    variables: impl Iterator<Item = (String, String)>,
    exists: &dyn Fn(&Path) -> bool,
) -> Vec<String> {
    let known = layers::variables();
    let mut found: Vec<String> = variables
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| notice(&name, &value, &known))
        .collect();
    found.sort();
    let files = FILES
        .iter()
        .filter(|(file, _)| exists(&PathBuf::from(file)));
    found.extend(files.map(|(file, instead)| format!("{file} is not read: {instead}")));
    found
}

fn notice(name: &str, value: &str, known: &[String]) -> Option<String> {
    if let Some((_, instead)) = RABBITMQ.iter().find(|(foreign, _)| *foreign == name) {
        return Some(format!("the variable {name} has no effect: {instead}"));
    }
    if !name.starts_with("WARREN_")
        || is_of_kubernetes(name, value)
        || OURS.contains(&name)
        || known.iter().any(|known| known == name)
    {
        return None;
    }
    let hint = nearest(name, known)
        .map(|name| format!("; did you mean {name}?"))
        .unwrap_or_default();
    Some(format!(
        "the variable {name} has no effect, there is no such option{hint}"
    ))
}

/// Kubernetes tells every container of a service named `warren` where that is: `WARREN_PORT=tcp://10.0.0.1:5672`.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_without_effect() {
        for (name, value, expected) in [
            ("WARREN_NODE_ID", "1", None),
            ("WARREN_LOAD_DEFINITIONS", "/f", None),
            ("WARREN_CONFIG", "/f", None),
            ("WARREN_URL", "http://one:15672", None),
            ("WARREN_NODEID", "1", Some("did you mean WARREN_NODE_ID?")),
            ("WARREN_PEER", "1=a:1", Some("did you mean WARREN_PEERS?")),
            ("WARREN_COLOUR", "red", Some("no such option")),
            ("WARREN_COLOUR", "", None),
            ("WARREN_PORT", "tcp://10.0.0.1:5672", None),
            ("WARREN_SERVICE_HOST", "10.0.0.1", None),
            ("WARREN_PORT_5672_TCP_ADDR", "10.0.0.1", None),
            ("WARREN_PORT", "5672", Some("WARREN_PORT has no effect")),
            ("RABBITMQ_ERLANG_COOKIE", "c", Some("WARREN_CLUSTER_SECRET")),
            ("RABBITMQ_DEFAULT_USER", "u", None),
            ("RABBITMQ_DEFAULT_PASS_FILE", "/f", None),
            // An application's.
            ("RABBITMQ_HOST", "one", None),
            ("PATH", "/bin", None),
        ] {
            let variables = [(name.to_owned(), value.to_owned())];
            let found = notices(variables.into_iter(), &|_| false);
            match expected {
                None => assert_eq!(found, Vec::<String>::new(), "{name}={value}"),
                Some(part) => {
                    assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
                }
            }
            assert!(!found.iter().any(|line| line.contains("10.0.0.1")));
        }
    }

    #[test]
    fn files_of_the_other_broker() {
        let there = |file: &Path| file.ends_with("rabbitmq.conf");
        let found = notices(std::iter::empty(), &there);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("/etc/rabbitmq/rabbitmq.conf is not read: "));
        assert!(found[0].contains("WARREN_CONFIG"), "{found:?}");
    }
}
