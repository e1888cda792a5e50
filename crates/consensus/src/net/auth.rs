//! Who may speak on the cluster port.
//!
//! A connection begins with both sides proving that they know the cluster's secret (`greet`). Every
//! request then carries the caller's identity and a digest of it keyed with the secret
//! (HMAC-SHA-256), and must come from the node that the connection belongs to. The secret itself is
//! never sent or logged. This keeps strangers and misconfigured nodes out, also those that have
//! overheard others; what is said can be read unless TLS is used.

use super::greet::{Greeted, PROTOCOL};
use super::limit::RateLimit;
use super::presence::Presence;
use crate::config::Secret;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

const H_PROTOCOL: &str = "warren-protocol";
const H_CLUSTER: &str = "warren-cluster";
const H_NODE: &str = "warren-node";
const H_GENERATION: &str = "warren-generation";
const H_INCARNATION: &str = "warren-incarnation";
const H_TO: &str = "warren-to";
const H_DIGEST: &str = "warren-digest";

/// Who sent a request to the cluster port; in the extensions of every request that reaches a
/// service there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The node.
    pub node: u64,
    /// Its disk.
    pub generation: u64,
    /// Its start.
    pub incarnation: u64,
}

/// This node as it presents itself; parts of it become known only when a cluster is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Me {
    pub(crate) caller: Caller,
    pub(crate) cluster: Option<u64>,
}

/// The secret and this node's identity.
pub(crate) struct Keys {
    secret: Secret,
    me: RwLock<Me>,
    pub(super) refusals: RateLimit,
}

/// What a request claims.
struct Claims<'a> {
    caller: Caller,
    cluster: Option<u64>,
    to: u64,
    digest: &'a [u8],
}

/// Why a request is refused. Told to both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no credentials")]
    Missing,
    #[error("credentials of another connection")]
    OtherConnection,
    #[error("wrong cluster secret")]
    WrongSecret,
    #[error("protocol version {theirs}, this node speaks {PROTOCOL}")]
    Version { theirs: u32 },
    #[error(
        "this node belongs to another cluster: to come into this one it has to start with an empty data directory"
    )]
    ForeignCluster,
    #[error(
        "node id {node} is the id of the node that answers here: every node needs an id of its own"
    )]
    DuplicateNode { node: u64 },
    #[error("node id {node} is in use: another process with this id is connected")]
    InUse { node: u64 },
    #[error("this node has called itself")]
    Myself,
    #[error("node {here} is there, not node {wanted}: the address belongs to another node")]
    WrongNode { here: u64, wanted: u64 },
}

impl Keys {
    pub(crate) fn new(secret: Secret, me: Me) -> Arc<Self> {
        Arc::new(Self {
            secret,
            me: RwLock::new(me),
            refusals: RateLimit::default(),
        })
    }

    pub(crate) fn me(&self) -> Me {
        *self.me.read()
    }

    pub(crate) fn set_me(&self, me: Me) {
        *self.me.write() = me;
    }

    pub(super) fn has_secret(&self) -> bool {
        !self.secret.bytes().is_empty()
    }

    pub(super) fn hmac(&self, message: &[u8]) -> [u8; 32] {
        hmac_sha256(self.secret.bytes(), message)
    }

    /// Adds this node's credentials for a request to node `to` (0: whoever answers).
    fn sign(&self, to: u64, headers: &mut MetadataMap) -> Result<(), Status> {
        let me = self.me();
        let digest = hex(&self.digest(me.caller, me.cluster, to));
        let mut put = |key: &'static str, value: &str| -> Result<(), Status> {
            let value = MetadataValue::try_from(value).map_err(|_| Status::internal("metadata"))?;
            headers.insert(key, value);
            Ok(())
        };
        put(H_PROTOCOL, &PROTOCOL.to_string())?;
        put(
            H_CLUSTER,
            &me.cluster
                .map_or(String::new(), |cluster| format!("{cluster:016x}")),
        )?;
        put(H_NODE, &me.caller.node.to_string())?;
        put(H_GENERATION, &me.caller.generation.to_string())?;
        put(H_INCARNATION, &me.caller.incarnation.to_string())?;
        put(H_TO, &to.to_string())?;
        put(H_DIGEST, &digest)
    }

    fn digest(&self, caller: Caller, cluster: Option<u64>, to: u64) -> [u8; 32] {
        let message = format!(
            "warren {PROTOCOL} {} {} {} {} {to}",
            cluster.map_or(String::new(), |cluster| format!("{cluster:016x}")),
            caller.node,
            caller.generation,
            caller.incarnation,
        );
        self.hmac(message.as_bytes())
    }

    /// Checks what a request on the connection of `greeted` carries.
    fn check(&self, headers: &MetadataMap, greeted: Option<Greeted>) -> Result<Caller, Refusal> {
        let version = number::<u32>(headers, H_PROTOCOL).ok_or(Refusal::Missing)?;
        if version != u32::from(PROTOCOL) {
            return Err(Refusal::Version { theirs: version });
        }
        let claims = claims(headers).ok_or(Refusal::Missing)?;
        let expected = hex(&self.digest(claims.caller, claims.cluster, claims.to));
        let matches: bool = expected.as_bytes().ct_eq(claims.digest).into();
        // Without a secret nobody is let in.
        if !matches || !self.has_secret() {
            return Err(Refusal::WrongSecret);
        }
        let claimed = Greeted {
            node: claims.caller.node,
            incarnation: claims.caller.incarnation,
        };
        if greeted != Some(claimed) {
            return Err(Refusal::OtherConnection);
        }
        let me = self.me();
        if claims.to != 0 && claims.to != me.caller.node {
            return Err(Refusal::WrongNode {
                here: me.caller.node,
                wanted: claims.to,
            });
        }
        if claims.caller == me.caller {
            return Err(Refusal::Myself);
        }
        if claims.caller.node == me.caller.node {
            return Err(Refusal::DuplicateNode {
                node: me.caller.node,
            });
        }
        if let (Some(theirs), Some(ours)) = (claims.cluster, me.cluster)
            && theirs != ours
        {
            return Err(Refusal::ForeignCluster);
        }
        Ok(claims.caller)
    }
}

fn number<T: std::str::FromStr>(headers: &MetadataMap, key: &str) -> Option<T> {
    headers.get(key)?.to_str().ok()?.parse().ok()
}

fn claims(headers: &MetadataMap) -> Option<Claims<'_>> {
    let cluster = headers.get(H_CLUSTER)?.to_str().ok()?;
    let cluster = match cluster {
        "" => None,
        cluster => Some(u64::from_str_radix(cluster, 16).ok()?),
    };
    Some(Claims {
        caller: Caller {
            node: number(headers, H_NODE)?,
            generation: number(headers, H_GENERATION)?,
            incarnation: number(headers, H_INCARNATION)?,
        },
        cluster,
        to: number(headers, H_TO)?,
        digest: headers.get(H_DIGEST)?.as_encoded_bytes(),
    })
}

/// RFC 2104 over SHA-256.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        let hashed: [u8; 32] = Sha256::digest(key).into();
        for (to, from) in block.iter_mut().zip(hashed) {
            *to = from;
        }
    } else {
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
    }
    let inner = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Adds this node's credentials to requests.
#[derive(Clone)]
pub struct Credentials {
    pub(crate) keys: Arc<Keys>,
    pub(crate) to: u64,
}

impl tonic::service::Interceptor for Credentials {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        self.keys.sign(self.to, request.metadata_mut())?;
        Ok(request)
    }
}

/// Lets only requests with good credentials through, from one process per node, and says who sent
/// them.
#[derive(Clone)]
pub(crate) struct Doorkeeper {
    pub(crate) keys: Arc<Keys>,
    pub(crate) presence: Arc<Presence>,
}

impl tonic::service::Interceptor for Doorkeeper {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let greeted = request.extensions().get::<Greeted>().copied();
        let admitted = self
            .keys
            .check(request.metadata(), greeted)
            .and_then(|caller| {
                if self.presence.admits(caller) {
                    Ok(caller)
                } else {
                    Err(Refusal::InUse { node: caller.node })
                }
            });
        match admitted {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Ok(request)
            }
            Err(refusal) => {
                if refusal != Refusal::Myself && self.keys.refusals.permit() {
                    let node: Option<u64> = number(request.metadata(), H_NODE);
                    let from = request.remote_addr();
                    tracing::warn!(from_node = ?node, ?from, reason = %refusal, "refused a request on the cluster port");
                }
                Err(refusal.status())
            }
        }
    }
}

impl Refusal {
    pub(crate) fn status(self) -> Status {
        let code = match self {
            Self::Missing | Self::OtherConnection | Self::WrongSecret => Code::Unauthenticated,
            Self::Version { .. } | Self::ForeignCluster | Self::Myself | Self::WrongNode { .. } => {
                Code::FailedPrecondition
            }
            Self::DuplicateNode { .. } | Self::InUse { .. } => Code::AlreadyExists,
        };
        Status::new(code, format!("{REFUSED}{self}"))
    }
}

/// Begins the message of every refusal, so that callers can tell it from other failures.
const REFUSED: &str = "refused: ";

/// The reason, if `status` is a refusal of a doorkeeper.
pub(crate) fn refusal(status: &Status) -> Option<&str> {
    matches!(
        status.code(),
        Code::Unauthenticated | Code::FailedPrecondition | Code::AlreadyExists
    )
    .then(|| status.message().strip_prefix(REFUSED))
    .flatten()
}

/// The reason, if `status` says that another process has this node's id.
pub(crate) fn displacement(status: &Status) -> Option<&str> {
    refusal(status).filter(|_| status.code() == Code::AlreadyExists)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secret: &str, node: u64, cluster: Option<u64>) -> Arc<Keys> {
        let caller = Caller {
            node,
            generation: 0,
            incarnation: 5,
        };
        Keys::new(Secret::new(secret), Me { caller, cluster })
    }

    fn signed(keys: &Keys, to: u64) -> MetadataMap {
        let mut headers = MetadataMap::new();
        keys.sign(to, &mut headers).unwrap();
        headers
    }

    #[test]
    fn hmac_matches_rfc_4231() {
        let digest = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(
            hex(&digest),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let digest = hmac_sha256(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
        );
        assert_eq!(
            hex(&digest),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    /// The connection that belongs to these keys.
    fn greeted(keys: &Keys) -> Option<Greeted> {
        let Caller {
            node, incarnation, ..
        } = keys.me().caller;
        Some(Greeted { node, incarnation })
    }

    #[test]
    fn only_the_right_ones_come_in() {
        let one = keys("s", 1, Some(7));
        let check = |from: &Keys, to| {
            let checked = one.check(&signed(from, to), greeted(from));
            checked.map(|caller| caller.node)
        };
        let two = keys("s", 2, Some(7));
        for other in [None, greeted(&keys("s", 3, Some(7)))] {
            assert_eq!(
                one.check(&signed(&two, 1), other),
                Err(Refusal::OtherConnection),
                "a request belongs to its connection"
            );
        }
        assert_eq!(check(&keys("s", 2, Some(7)), 1), Ok(2));
        assert_eq!(
            check(&keys("s", 2, None), 0),
            Ok(2),
            "a node without a cluster may ask for one"
        );
        assert_eq!(check(&keys("t", 2, Some(7)), 1), Err(Refusal::WrongSecret));
        assert_eq!(
            check(&keys("s", 2, Some(8)), 1),
            Err(Refusal::ForeignCluster)
        );
        let mut second = one.me();
        second.caller.incarnation += 1;
        assert_eq!(
            check(&Keys::new(Secret::new("s"), second), 1),
            Err(Refusal::DuplicateNode { node: 1 })
        );
        assert_eq!(check(&one, 0), Err(Refusal::Myself));
        assert_eq!(
            check(&keys("s", 2, Some(7)), 3),
            Err(Refusal::WrongNode { here: 1, wanted: 3 })
        );
        assert_eq!(
            one.check(&MetadataMap::new(), greeted(&two)),
            Err(Refusal::Missing)
        );
        let nobody = keys("", 1, None);
        assert_eq!(
            nobody.check(&signed(&keys("", 2, None), 1), greeted(&two)),
            Err(Refusal::WrongSecret)
        );
    }

    #[test]
    fn only_one_process_per_node_comes_in() {
        use tonic::service::Interceptor;
        let presence = Presence::new(std::time::Duration::from_secs(60));
        let mut door = Doorkeeper {
            keys: keys("s", 1, Some(7)),
            presence: Arc::clone(&presence),
        };
        let mut knock = |from: &Keys| {
            let mut request = tonic::Request::new(());
            from.sign(1, request.metadata_mut()).unwrap();
            request.extensions_mut().insert(greeted(from).unwrap());
            door.call(request).map(|request| {
                let caller = request.extensions().get::<Caller>();
                caller.copied().unwrap()
            })
        };
        let first = keys("s", 2, Some(7));
        let caller = knock(&first).unwrap();
        let heard = presence.enter(caller).unwrap();
        let mut copy = first.me();
        copy.caller.incarnation += 1;
        let copy = Keys::new(Secret::new("s"), copy);
        let refused = knock(&copy).unwrap_err();
        assert!(
            displacement(&refused).is_some_and(|reason| reason.contains("node id 2 is in use"))
        );
        assert!(knock(&first).is_ok() && knock(&keys("s", 3, Some(7))).is_ok());
        drop(heard);
        assert!(knock(&copy).is_ok());
    }

    #[test]
    fn what_is_claimed_cannot_be_altered() {
        let one = keys("s", 1, Some(7));
        for key in [H_NODE, H_GENERATION, H_INCARNATION] {
            let two = keys("s", 2, Some(7));
            let mut headers = signed(&two, 1);
            headers.insert(key, MetadataValue::from_static("9"));
            assert_eq!(
                one.check(&headers, greeted(&two)),
                Err(Refusal::WrongSecret),
                "{key}"
            );
        }
        let mut newer = signed(&keys("s", 2, Some(7)), 1);
        newer.insert(H_PROTOCOL, MetadataValue::from_static("3"));
        assert_eq!(one.check(&newer, None), Err(Refusal::Version { theirs: 3 }));
    }
}
