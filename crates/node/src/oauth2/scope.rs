//! What scopes allow: `<permission>:<vhost>/<name>[/<routing key>]`, each a pattern.

use super::wildcard::{Variable, Wildcard};
use broker_model::catalog::Permission;

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Grants {
    configure: Vec<Grant>,
    write: Vec<Grant>,
    read: Vec<Grant>,
}

/// What one scope allows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    vhost: Wildcard,
    name: Wildcard,
    /// `None`: no topics.
    topic: Option<Wildcard>,
}

impl Grants {
    /// What these scopes, without their prefix, allow. Those that are none, or make no sense, allow nothing. `claim` is the value
    /// of a claim that is a text.
    pub(super) fn new<'a>(scopes: &'a [String], claim: &dyn Fn(&str) -> Option<&'a str>) -> Self {
        let mut grants = Self::default();
        for scope in scopes {
            let Some((permission, resource)) = scope.split_once(':') else {
                continue;
            };
            let list = match permission {
                "configure" => &mut grants.configure,
                "write" => &mut grants.write,
                "read" => &mut grants.read,
                _ => continue,
            };
            list.extend(Grant::new(resource, claim));
        }
        grants
    }

    /// Whether anything at all is allowed in a vhost.
    pub(super) fn has_vhost(&self, vhost: &str) -> bool {
        [&self.configure, &self.write, &self.read]
            .into_iter()
            .flatten()
            .any(|grant| grant.vhost.matches(vhost, vhost))
    }

    /// Whether a queue or exchange may be used so.
    pub(super) fn allow(&self, permission: Permission, vhost: &str, name: &str) -> bool {
        self.of(permission)
            .iter()
            .any(|grant| grant.vhost.matches(vhost, vhost) && grant.name.matches(name, vhost))
    }

    /// Whether a topic of an exchange may be used so.
    pub(super) fn allow_topic(
        &self,
        permission: Permission,
        vhost: &str,
        exchange: &str,
        topic: &str,
    ) -> bool {
        self.of(permission).iter().any(|grant| {
            let topics = grant.topic.as_ref();
            topics.is_some_and(|topics| topics.matches(topic, vhost))
                && grant.vhost.matches(vhost, vhost)
                && grant.name.matches(exchange, vhost)
        })
    }

    /// Scopes that may give this.
    pub(super) fn count(&self, permission: Permission) -> usize {
        self.of(permission).len()
    }

    fn of(&self, permission: Permission) -> &[Grant] {
        match permission {
            Permission::Configure => &self.configure,
            Permission::Write => &self.write,
            Permission::Read => &self.read,
        }
    }
}

impl Grant {
    fn new<'a>(resource: &'a str, claim: &dyn Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let variable = |name: &'a str| match name {
            "vhost" => Variable::Vhost,
            name => Variable::Text(claim(name).unwrap_or(name)),
        };
        let wildcard = |pattern| Wildcard::new(pattern, &variable);
        let mut parts = resource.split('/');
        let (vhost, name, topic) = (parts.next()?, parts.next()?, parts.next());
        if parts.next().is_some() {
            return None;
        }
        Some(Self {
            vhost: wildcard(vhost)?,
            name: wildcard(name)?,
            topic: match topic {
                Some(topic) => Some(wildcard(topic)?),
                None => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Permission::{Configure, Read, Write};

    fn grants(scopes: &[&str]) -> Grants {
        let scopes: Vec<String> = scopes.iter().map(|scope| scope.to_string()).collect();
        Grants::new(&scopes, &|claim| (claim == "sub").then_some("ann"))
    }

    #[test]
    fn resources() {
        for (scope, permission, vhost, name, expected) in [
            ("read:*/*", Read, "/", "q", true),
            ("read:*/*", Write, "/", "q", false),
            ("read:*/*", Configure, "/", "q", false),
            ("write:*/*/*", Write, "foo/bar", "*/*", true),
            ("configure:*/*/only", Configure, "/", "q", true),
            ("read:shop/*", Read, "shop", "юникод", true),
            ("read:shop/*", Read, "shop2", "q", false),
            ("read:shop/orders-*", Read, "shop", "orders-1", true),
            ("read:shop/orders-*", Read, "shop", "order", false),
            ("read:%2F/bar%2A%2Fbaz", Read, "/", "bar*/baz", true),
            ("read:%2F/bar%2A%2Fbaz", Read, "/", "bar1/baz", false),
            ("read:/q", Read, "/", "q", false),
            ("read:*", Read, "/", "q", false),
            ("read:*/*/*/*", Read, "/", "q", false),
            ("read:{vhost}/{sub}-*", Read, "a/b", "ann-1", true),
            ("read:{vhost}/{sub}-*", Read, "a/b", "bob-1", false),
            ("read:{vhost/*", Read, "/", "q", false),
            ("Read:*/*", Read, "/", "q", false),
            ("tag:administrator", Read, "/", "q", false),
            ("openid", Read, "/", "q", false),
            ("", Read, "/", "q", false),
        ] {
            let grants = grants(&[scope]);
            assert_eq!(
                grants.allow(permission, vhost, name),
                expected,
                "{scope} {permission:?} {vhost} {name}"
            );
        }
    }

    #[test]
    fn topics() {
        for (scope, exchange, topic, expected) in [
            ("write:*/*/*", "x", "a.b", true),
            ("write:*/*", "x", "a.b", false),
            ("write:*/x/a.*", "x", "a.b", true),
            ("write:*/x/a.*", "y", "a.b", false),
            ("write:*/x/a.*", "x", "b.a", false),
            ("write:other/x/*", "x", "a", false),
            ("read:*/x/*", "x", "a", false),
            ("write:*/x/u-{sub}-*", "x", "u-ann-1", true),
            ("write:*/x/u-{sub}-*", "x", "u-bob-1", false),
        ] {
            let grants = grants(&[scope]);
            assert_eq!(
                grants.allow_topic(Write, "/", exchange, topic),
                expected,
                "{scope} {exchange} {topic}"
            );
        }
    }

    #[test]
    fn vhosts() {
        let grants = grants(&["read:a/none", "write:b*/x", "configure:%2F/x/y", "tag:c"]);
        for (vhost, expected) in [
            ("a", true),
            ("b1", true),
            ("/", true),
            ("c", false),
            ("", false),
        ] {
            assert_eq!(grants.has_vhost(vhost), expected, "{vhost}");
        }
    }
}
