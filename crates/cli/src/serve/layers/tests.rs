use super::*;
use std::io::Write;

/// What `warren serve` with these flags, variables and file would run with.
fn resolve(
    flags: &[&str],
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<node::Config, String> {
    let mut arguments: Vec<String> = flags.iter().map(|flag| flag.to_string()).collect();
    let directory = tempfile::tempdir().unwrap();
    if let Some(text) = file {
        let path = directory.path().join("warren.toml");
        std::fs::File::create(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        arguments.push(format!("--config={}", path.display()));
    }
    let mut all = vec!["serve".to_owned()];
    all.extend(arguments.iter().cloned());
    let options = parse(&all).map_err(|error| plain(&error))?;
    let lookup = |name: &str| {
        variables
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_string())
    };
    let config = complete(options, &arguments, &lookup)?.resolve()?.config;
    Ok(config)
}

#[test]
fn flags_win_over_environment_over_file() {
    let file = "node_id = 1";
    let variable = [("WARREN_NODE_ID", "2")];
    for (flags, variables, file, expected) in [
        (&[][..], &[][..], None, 1),
        (&[], &[], Some("node_id = 4"), 4),
        (&[], &variable, Some(file), 2),
        (&["--node-id", "3"], &variable, Some(file), 3),
        (&["--node-id=3"], &[], Some(file), 3),
        (&["--node-id=3", "--node-id=5"], &[], None, 5),
        (&[], &[("WARREN_NODE_ID", "")], Some("node_id = 4"), 4), // Compose's way to say "not set".
    ] {
        let config = resolve(flags, variables, file).unwrap();
        assert_eq!(
            config.node_id.0, expected,
            "{flags:?} {variables:?} {file:?}"
        );
    }
}

#[test]
fn every_kind_of_value_from_every_place() {
    type Place<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], Option<&'a str>);
    let places: [Place<'_>; 3] = [
        (
            &[
                "--amqp-listen=127.0.0.1:1",
                "--peers=1=a:1,2=b:2",
                "--cluster-secret=s",
                "--publish-timeout=5s",
                "--checkpoint-bytes=1MiB",
                "--memory-high-watermark=0.5",
                "--connection-limit=7",
                "--management-api=false",
                "--prometheus-listen=127.0.0.1:2",
                "--loopback-users=none",
                "--consumer-timeout=1h",
            ],
            &[],
            None,
        ),
        (
            &[],
            &[
                ("WARREN_AMQP_LISTEN", "127.0.0.1:1"),
                ("WARREN_PEERS", "1=a:1,2=b:2"),
                ("WARREN_CLUSTER_SECRET", "s"),
                ("WARREN_PUBLISH_TIMEOUT", "5"),
                ("WARREN_CHECKPOINT_BYTES", "1048576"),
                ("WARREN_MEMORY_HIGH_WATERMARK", "0.5"),
                ("WARREN_CONNECTION_LIMIT", "7"),
                ("WARREN_MANAGEMENT_API", "false"),
                ("WARREN_PROMETHEUS_LISTEN", "127.0.0.1:2"),
                ("WARREN_LOOPBACK_USERS", "none"),
                ("WARREN_CONSUMER_TIMEOUT", "60m"),
            ],
            None,
        ),
        (
            &[],
            &[],
            Some(
                "amqp_listen = '127.0.0.1:1'\npeers = { 1 = 'a:1', 2 = 'b:2' }\ncluster_secret = 's'\n\
                 publish_timeout = 5\ncheckpoint_bytes = 1048576\nmemory_high_watermark = 0.5\n\
                 connection_limit = 7\nmanagement_api = false\nprometheus_listen = '127.0.0.1:2'\nloopback_users = []\nconsumer_timeout = '1h'\n",
            ),
        ),
    ];
    let [first, rest @ ..] =
        places.map(|(flags, variables, file)| resolve(flags, variables, file).unwrap());
    assert_eq!(first.peers.len(), 2);
    assert_eq!(first.limits.connections, Some(7));
    assert!(first.loopback_users.is_empty());
    assert!(!first.management_api);
    assert_eq!(first.prometheus_listen.map(|listen| listen.port()), Some(2));
    for other in rest {
        assert_eq!(other, first);
    }
}

#[test]
fn names_of_the_other_brokers_image_work_too() {
    let theirs = [
        ("RABBITMQ_DEFAULT_USER", "u"),
        ("RABBITMQ_DEFAULT_PASS", "p"),
        ("RABBITMQ_DEFAULT_VHOST", "v"),
    ];
    let config = resolve(&[], &theirs, Some("default_user = 'file'")).unwrap();
    let user = &config.default_user;
    assert_eq!(
        (
            user.name.as_str(),
            user.password.as_str(),
            user.vhost.as_str()
        ),
        ("u", "p", "v")
    );

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, "from a file\n").unwrap();
    let file = [("RABBITMQ_DEFAULT_PASS_FILE", path.to_str().unwrap())];
    let config = resolve(&[], &file, None).unwrap();
    assert_eq!(config.default_user.password, "from a file");
    let ours = [file[0], ("WARREN_DEFAULT_PASS", "w")];
    let config = resolve(&[], &ours, None).unwrap();
    assert_eq!(config.default_user.password, "w");

    let both = [("RABBITMQ_DEFAULT_USER", "u"), ("WARREN_DEFAULT_USER", "w")];
    assert_eq!(resolve(&[], &both, None).unwrap().default_user.name, "w");
    assert_eq!(
        resolve(&["--default-user=f"], &both, None)
            .unwrap()
            .default_user
            .name,
        "f"
    );
}

#[test]
fn the_secret_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "hush\n").unwrap();
    let path = path.to_str().unwrap();
    let secret = |flags: &[&str], variables: &[(&str, &str)], file: Option<&str>| {
        resolve(flags, variables, file)
            .map(|config| config.cluster_secret.unwrap().expose().to_owned())
    };
    let flag = format!("--cluster-secret-file={path}");
    let line = format!("cluster_secret_file = '{path}'");
    assert_eq!(secret(&[&flag], &[], None).unwrap(), "hush");
    assert_eq!(
        secret(&[], &[("WARREN_CLUSTER_SECRET_FILE", path)], None).unwrap(),
        "hush"
    );
    assert_eq!(secret(&[], &[], Some(&line)).unwrap(), "hush");
    // The higher place wins, whichever of the two forms it uses.
    assert_eq!(
        secret(&["--cluster-secret=x"], &[], Some(&line)).unwrap(),
        "x"
    );
    assert_eq!(
        secret(&[&flag], &[("WARREN_CLUSTER_SECRET", "x")], None).unwrap(),
        "hush"
    );
    let both = [
        ("WARREN_CLUSTER_SECRET", "x"),
        ("WARREN_CLUSTER_SECRET_FILE", path),
    ];
    assert!(secret(&[], &both, None).unwrap_err().contains("both set"));
    assert!(
        secret(&["--cluster-secret-file=/no/such"], &[], None)
            .unwrap_err()
            .contains("/no/such")
    );
}

#[test]
fn wrong_values_name_their_source_and_say_what_to_do() {
    for (flags, variables, file, expected) in [
        (
            &[][..],
            &[("WARREN_NODE_ID", "two")][..],
            None,
            &["WARREN_NODE_ID: ", "two"][..],
        ),
        (
            &[],
            &[("WARREN_PUBLISH_TIMEOUT", "soon")],
            None,
            &["WARREN_PUBLISH_TIMEOUT", "30s"],
        ),
        (
            &["--amqp-listen=here"],
            &[],
            None,
            &["--amqp-listen", "0.0.0.0:5672"],
        ),
        (
            &[],
            &[],
            Some("nodeid = 2"),
            &["unknown key nodeid", "did you mean node_id?"],
        ),
        (&[], &[], Some("colour = 2"), &["unknown key colour"]),
        (
            &[],
            &[],
            Some("node_id = 'x'"),
            &["node_id in ", "warren.toml", "'x'"],
        ),
        (&[], &[], Some("node_id = "), &["warren.toml"]),
        (&[], &[], Some("heartbeat = 2024-01-01"), &["heartbeat in "]),
        (
            &["--peers=1=a:1,2=b:2"],
            &[],
            None,
            &["--cluster-secret-file", "same value on all nodes"],
        ),
        (
            &["--peers=2=b:2,3=c:3", "--cluster-secret=s"],
            &[],
            None,
            &["do not contain this node"],
        ),
        (
            &[],
            &[("WARREN_MANAGEMENT_API", "yes")],
            None,
            &["WARREN_MANAGEMENT_API", "use true or false"],
        ),
        (
            &["--log-format=xml"],
            &[],
            None,
            &["--log-format", "use text or json"],
        ),
        (&["--config=/no/such.toml"], &[], None, &["/no/such.toml"]),
        (&["--tls-key=k"], &[], None, &["--tls-certificate"]),
        (
            &["--amqps-listen=:5671"],
            &[],
            None,
            &["--amqps-listen needs"],
        ),
        (
            &["--management-tls-listen=:15671"],
            &[],
            None,
            &["--management-tls-listen needs"],
        ),
        (&["--cluster-tls-ca=k"], &[], None, &["all three"]),
        (
            &["--shards=0"],
            &[],
            None,
            &["shards is 0", "use 1 to 1024"],
        ),
    ] {
        let error = resolve(flags, variables, file).unwrap_err();
        for part in expected {
            assert!(
                error.contains(part),
                "{flags:?} {variables:?} {file:?}: {error}"
            );
        }
        assert!(!error.contains("Usage"), "{error}");
    }
}

/// As RabbitMQ's file has them, but for the quotes that TOML wants.
#[test]
fn tokens_from_every_place() {
    let file = "auth_oauth2.resource_server_id = 'shop'\n\
        auth_oauth2.issuer = 'http://localhost:8080/realms/a/'\n\
        auth_oauth2.discovery_endpoint_params.appid = 'a b'\n\
        auth_oauth2.preferred_username_claims.2 = 'mail'\n\
        auth_oauth2.preferred_username_claims.1 = 'name'\n\
        auth_oauth2.scope_aliases.admin = 'shop.tag:administrator shop.read:*/*'\n\
        auth_oauth2.scope_aliases.1.alias = 'api://x.y'\n\
        auth_oauth2.scope_aliases.1.scope = ['shop.a', 'shop.b']\n\
        auth_oauth2.additional_scopes_key = 'roles realm_access.roles'\n\
        auth_oauth2.verify_aud = false\n\
        auth_oauth2.algorithms.1 = 'RS256'\n\
        auth_backends.1 = 'internal'\nauth_backends.2 = 'rabbit_auth_backend_oauth2'\n";
    let variables = [
        ("WARREN_AUTH_OAUTH2_RESOURCE_SERVER_ID", "shop"),
        (
            "WARREN_AUTH_OAUTH2_ISSUER",
            "http://localhost:8080/realms/a",
        ),
        ("WARREN_AUTH_OAUTH2_DISCOVERY_ENDPOINT_PARAMS", "appid=a b"),
        ("WARREN_AUTH_OAUTH2_PREFERRED_USERNAME_CLAIMS", "name,mail"),
        (
            "WARREN_AUTH_OAUTH2_SCOPE_ALIASES",
            "admin=shop.tag:administrator shop.read:*/*,api://x.y=shop.a shop.b",
        ),
        (
            "WARREN_AUTH_OAUTH2_ADDITIONAL_SCOPES_KEY",
            "roles realm_access.roles",
        ),
        ("WARREN_AUTH_OAUTH2_VERIFY_AUD", "false"),
        ("WARREN_AUTH_OAUTH2_ALGORITHMS", "RS256"),
        ("WARREN_AUTH_BACKENDS", "internal,oauth2"),
    ];
    let of_file = resolve(&[], &[], Some(file)).unwrap().auth;
    assert_eq!(of_file, resolve(&[], &variables, None).unwrap().auth);
    assert!(of_file.internal);
    let oauth2 = of_file.oauth2.unwrap();
    let provider = oauth2.provider.unwrap();
    let address = "http://localhost:8080/realms/a/.well-known/openid-configuration?appid=a%20b";
    let discovery = node::config::KeysAt::Discovery(address.into());
    assert_eq!(provider.keys_at, discovery);
    assert_eq!(oauth2.username_claims, ["name", "mail"]);
    assert_eq!(oauth2.scope_prefix, "shop.");
    assert_eq!(oauth2.scope_aliases["api://x.y"], ["shop.a", "shop.b"]);
    assert_eq!(oauth2.scope_aliases["admin"].len(), 2);
    assert!(!oauth2.verify_aud && oauth2.require_exp);
}

#[test]
fn wrong_settings_of_tokens() {
    let id = "auth_oauth2.resource_server_id = 'shop'\n";
    for (file, parts) in [
        (
            "auth_oauth2.issuer = 'https://idp'",
            &["auth_oauth2_issuer needs", "resource_server_id"][..],
        ),
        (
            "auth_oauth2.verify_aud = false",
            &["auth_oauth2_verify_aud needs"],
        ),
        (
            "auth_oauth2.isuer = 'https://idp'",
            &["unknown key auth_oauth2_isuer", "auth_oauth2_issuer?"],
        ),
        (
            "auth_backends = ['internal', 'ldap']",
            &["'ldap'", "internal, oauth2"],
        ),
        (
            "auth_backends = ['oauth2']",
            &["auth_oauth2_resource_server_id"],
        ),
        ("auth_backends = []", &["nobody could log in"]),
        (id, &["need keys", "auth_oauth2_issuer"]),
        (
            &format!("{id}auth_oauth2.https.cacertfile = 'a'"),
            &["https_cacertfile needs"],
        ),
        (
            &format!("{id}auth_oauth2.jwks_uri = 'http://idp/keys'"),
            &["http://idp/keys", "use https://"],
        ),
        (
            &format!("{id}auth_oauth2.signing_keys.a = '/no/such'"),
            &["signing key a", "/no/such"],
        ),
        (
            &format!(
                "{id}auth_oauth2.jwks_uri = 'http://localhost/'\nauth_oauth2.algorithms = ['RS265']"
            ),
            &["'RS265'", "RS256"],
        ),
        (
            &format!(
                "{id}auth_oauth2.jwks_uri = 'http://localhost/'\nauth_backends.1 = 'internal'"
            ),
            &["auth_backends does not have oauth2"],
        ),
        (
            &format!("{id}auth_oauth2.scope_aliases = 'a'"),
            &["auth_oauth2_scope_aliases", "'a' is not NAME=VALUE"],
        ),
    ] {
        let error = resolve(&[], &[], Some(file)).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{file}: {error}");
        }
    }
}

#[test]
fn every_option_has_help_and_a_variable() {
    let command = with_variables(Options::augment_args(Command::new("serve")));
    for arg in command.get_arguments() {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(!help.is_empty(), "{arg}");
        let flag = arg.get_long().unwrap_or_default();
        if settable()
            .iter()
            .any(|other| other.get_long() == Some(flag))
        {
            assert!(
                help.contains(&format!("[env: {}]", variable_of(flag))),
                "{flag}: {help}"
            );
        }
    }
}
