//! The first words on a connection: both sides prove that they know the cluster's secret.
//!
//! ```text
//! caller → node   hello (who, a fresh number)
//! node → caller   hello (who, a fresh number), proof
//! caller → node   proof
//! node → caller   welcome, or why not
//! ```
//!
//! A proof is an HMAC-SHA-256 with the secret over its side, both hellos, and what TLS says is this
//! connection's own. The numbers are new for each connection, so that a connection that was
//! overheard cannot be repeated; with TLS, it cannot be relayed either. Without TLS nothing keeps
//! who can change the traffic from taking a connection over: then the network must be trusted.
//!
//! Not here: what each call claims (`auth`); it is checked against what was proven here.

use super::auth::{Keys, Refusal};
use super::tls::Bound;
use super::transport::Wired;
use std::io;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Both sides give up after this time.
const PATIENCE: Duration = Duration::from_secs(5);
const MAGIC: &[u8; 6] = b"WARREN";
/// Changes when an old node could not understand a new one.
pub(super) const PROTOCOL: u16 = 2;

const HELLO: usize = 56;
const PROOF: usize = 32;

const WELCOME: u8 = 0;
const WRONG_SECRET: u8 = 1;
const WRONG_VERSION: u8 = 2;

/// Who is at the other end of a connection, proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Greeted {
    pub(crate) node: u64,
    pub(crate) incarnation: u64,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetError {
    /// Told to both sides.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody said a word: a port scan, a health check.
    #[error("closed without a word")]
    Silent,
    #[error("not a node of Warren, or one that uses TLS where this one does not")]
    Foreign,
    #[error("no answer in time")]
    Late,
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

struct Hello {
    version: u16,
    greeted: Greeted,
    bytes: [u8; HELLO],
}

fn hello(keys: &Keys) -> [u8; HELLO] {
    let me = keys.me().caller;
    let mut bytes = [0; HELLO];
    bytes[..6].copy_from_slice(MAGIC);
    bytes[6..8].copy_from_slice(&PROTOCOL.to_be_bytes());
    bytes[8..16].copy_from_slice(&me.node.to_be_bytes());
    bytes[16..24].copy_from_slice(&me.incarnation.to_be_bytes());
    bytes[24..].copy_from_slice(&rand::random::<[u8; 32]>());
    bytes
}

fn parse(bytes: [u8; HELLO]) -> Result<Hello, GreetError> {
    let (magic, rest) = bytes.split_first_chunk::<6>().ok_or(GreetError::Foreign)?;
    let (version, rest) = rest.split_first_chunk().ok_or(GreetError::Foreign)?;
    let (node, rest) = rest.split_first_chunk().ok_or(GreetError::Foreign)?;
    let (incarnation, _) = rest.split_first_chunk().ok_or(GreetError::Foreign)?;
    if magic != MAGIC {
        return Err(GreetError::Foreign);
    }
    Ok(Hello {
        version: u16::from_be_bytes(*version),
        greeted: Greeted {
            node: u64::from_be_bytes(*node),
            incarnation: u64::from_be_bytes(*incarnation),
        },
        bytes,
    })
}

/// What one side proves.
struct Proofs<'a> {
    keys: &'a Keys,
    caller: &'a [u8; HELLO],
    node: &'a [u8; HELLO],
    binding: &'a [u8; 32],
}

impl Proofs<'_> {
    fn of(&self, side: &[u8; 6]) -> [u8; PROOF] {
        let parts: [&[u8]; 4] = [side, self.caller, self.node, self.binding];
        self.keys.hmac(&parts.concat())
    }

    fn caller(&self) -> [u8; PROOF] {
        self.of(b"caller")
    }

    fn node(&self) -> [u8; PROOF] {
        self.of(b"node  ")
    }

    /// Without a secret nobody is let in.
    fn holds(&self, expected: [u8; PROOF], got: [u8; PROOF]) -> bool {
        let same: bool = expected.ct_eq(&got).into();
        same && self.keys.has_secret()
    }
}

/// As the one who has connected; tells who answers.
pub(crate) async fn call(
    keys: &Keys,
    bound: Bound,
) -> Result<(Box<dyn Wired>, Greeted), GreetError> {
    let Bound {
        mut stream,
        binding,
    } = bound;
    let greeted = timeout(PATIENCE, async {
        let ours = hello(keys);
        stream.write_all(&ours).await?;
        stream.flush().await?;
        let mut theirs = [0; HELLO];
        stream.read_exact(&mut theirs).await?;
        let theirs = parse(theirs)?;
        if theirs.version != PROTOCOL {
            let theirs = u32::from(theirs.version);
            return Err(Refusal::Version { theirs }.into());
        }
        let mut proof = [0; PROOF];
        stream.read_exact(&mut proof).await?;
        let proofs = Proofs {
            keys,
            caller: &ours,
            node: &theirs.bytes,
            binding: &binding,
        };
        let right = proofs.holds(proofs.node(), proof);
        // Who does not know the secret gets nothing to guess it by, but learns that it is wrong.
        let answer = if right { proofs.caller() } else { [0; PROOF] };
        stream.write_all(&answer).await?;
        stream.flush().await?;
        if !right {
            return Err(Refusal::WrongSecret.into());
        }
        match stream.read_u8().await? {
            WELCOME => Ok(theirs.greeted),
            WRONG_VERSION => Err(Refusal::Version {
                theirs: u32::from(theirs.version),
            }
            .into()),
            _ => Err(Refusal::WrongSecret.into()),
        }
    });
    match greeted.await {
        Ok(Ok(greeted)) => Ok((stream, greeted)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(GreetError::Late),
    }
}

/// As the one who was connected to. `who` is told who claims to call, also when it is refused.
pub(crate) async fn answer(
    keys: &Keys,
    bound: Bound,
    who: &mut Option<u64>,
) -> Result<(Box<dyn Wired>, Greeted), GreetError> {
    let Bound {
        mut stream,
        binding,
    } = bound;
    let greeted = timeout(PATIENCE, async {
        let mut theirs = [0; HELLO];
        let (first, rest) = theirs.split_at_mut(1);
        if stream.read(first).await? == 0 {
            return Err(GreetError::Silent);
        }
        if first != [MAGIC[0]] {
            return Err(GreetError::Foreign);
        }
        stream.read_exact(rest).await?;
        let theirs = parse(theirs)?;
        *who = Some(theirs.greeted.node);
        let ours = hello(keys);
        let proofs = Proofs {
            keys,
            caller: &theirs.bytes,
            node: &ours,
            binding: &binding,
        };
        stream.write_all(&ours).await?;
        stream.write_all(&proofs.node()).await?;
        stream.flush().await?;
        if theirs.version != PROTOCOL {
            let theirs = u32::from(theirs.version);
            return Err(Refusal::Version { theirs }.into());
        }
        let mut proof = [0; PROOF];
        stream.read_exact(&mut proof).await?;
        if !proofs.holds(proofs.caller(), proof) {
            return Err(Refusal::WrongSecret.into());
        }
        stream.write_u8(WELCOME).await?;
        stream.flush().await?;
        Ok(theirs.greeted)
    });
    let result = match greeted.await {
        Ok(Ok(greeted)) => return Ok((stream, greeted)),
        Ok(Err(error)) => error,
        Err(_) => GreetError::Late,
    };
    if let GreetError::Refused(refusal) = &result {
        let code = match refusal {
            Refusal::Version { .. } => WRONG_VERSION,
            _ => WRONG_SECRET,
        };
        let _ = timeout(PATIENCE, async {
            stream.write_u8(code).await?;
            stream.shutdown().await
        })
        .await;
    }
    Err(result)
}

#[cfg(test)]
mod tests {
    use super::super::auth::{Caller, Me};
    use super::*;
    use crate::config::Secret;
    use std::sync::Arc;
    use tokio::io::DuplexStream;

    fn keys(secret: &str, node: u64) -> Arc<Keys> {
        let caller = Caller {
            node,
            generation: 0,
            incarnation: 7,
        };
        let me = Me {
            caller,
            cluster: None,
        };
        Keys::new(Secret::new(secret), me)
    }

    fn bound(stream: DuplexStream, binding: u8) -> Bound {
        Bound {
            stream: Box::new(stream),
            binding: [binding; 32],
        }
    }

    async fn meet(
        caller: (&str, u8),
        node: (&str, u8),
    ) -> (Result<Greeted, GreetError>, Result<Greeted, GreetError>) {
        let (here, there) = tokio::io::duplex(1024);
        let (calling, answering) = (keys(caller.0, 1), keys(node.0, 2));
        let mut who = None;
        let (called, answered) = tokio::join!(
            call(&calling, bound(here, caller.1)),
            answer(&answering, bound(there, node.1), &mut who)
        );
        assert_eq!(who, Some(1));
        let greeted = |(_, greeted)| greeted;
        (called.map(greeted), answered.map(greeted))
    }

    #[tokio::test]
    async fn both_sides_prove_the_secret() {
        let (called, answered) = meet(("s", 0), ("s", 0)).await;
        for (greeted, node) in [(called, 2), (answered, 1)] {
            let greeted = greeted.unwrap();
            assert_eq!((greeted.node, greeted.incarnation), (node, 7));
        }
        // Another secret, none, or another TLS connection.
        for (caller, node) in [
            (("s", 0), ("t", 0)),
            (("", 0), ("", 0)),
            (("s", 1), ("s", 2)),
        ] {
            let (called, answered) = meet(caller, node).await;
            let wrong = |error| matches!(error, GreetError::Refused(Refusal::WrongSecret));
            assert!(wrong(called.unwrap_err()), "{caller:?} {node:?}");
            assert!(wrong(answered.unwrap_err()), "{caller:?} {node:?}");
        }
    }

    /// What was overheard is of no use on another connection.
    #[tokio::test]
    async fn a_recording_is_refused() {
        let keys_here = keys("s", 2);
        let (mut here, there) = tokio::io::duplex(1024);
        let calling = keys("s", 1);
        let (middle_here, mut middle) = tokio::io::duplex(1024);
        let recorded = async {
            // The caller's words pass through the middle, which keeps them.
            let mut hello = [0; HELLO];
            middle.read_exact(&mut hello).await.unwrap();
            here.write_all(&hello).await.unwrap();
            let mut back = [0; HELLO + PROOF];
            here.read_exact(&mut back).await.unwrap();
            middle.write_all(&back).await.unwrap();
            let mut proof = [0; PROOF];
            middle.read_exact(&mut proof).await.unwrap();
            here.write_all(&proof).await.unwrap();
            let welcome = here.read_u8().await.unwrap();
            middle.write_u8(welcome).await.unwrap();
            (hello, proof)
        };
        let mut who = None;
        let (called, answered, (hello, proof)) = tokio::join!(
            call(&calling, bound(middle_here, 0)),
            answer(&keys_here, bound(there, 0), &mut who),
            recorded
        );
        assert!(called.is_ok() && answered.is_ok());
        let (mut here, there) = tokio::io::duplex(1024);
        let repeated = async {
            here.write_all(&hello).await.unwrap();
            let mut back = [0; HELLO + PROOF];
            here.read_exact(&mut back).await.unwrap();
            here.write_all(&proof).await.unwrap();
            here.read_u8().await.unwrap()
        };
        let (answered, said) =
            tokio::join!(answer(&keys_here, bound(there, 0), &mut who), repeated);
        let error = answered.map(|_| ()).unwrap_err();
        assert!(matches!(error, GreetError::Refused(Refusal::WrongSecret)));
        assert_eq!(said, WRONG_SECRET);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_garbage_end() {
        let node = keys("s", 2);
        let mut who = None;
        let (here, there) = tokio::io::duplex(1024);
        let late = answer(&node, bound(there, 0), &mut who).await;
        assert!(matches!(late.map(|_| ()), Err(GreetError::Late)));
        drop(here);
        for (words, silent) in [
            (&b""[..], true),
            (b"GET / HTTP/1.1", false),
            (b"PRI * HTTP/2.0", false),
        ] {
            let (mut here, there) = tokio::io::duplex(1024);
            here.write_all(words).await.unwrap();
            drop(here);
            match answer(&node, bound(there, 0), &mut who).await.map(|_| ()) {
                Err(GreetError::Silent) => assert!(silent),
                Err(GreetError::Foreign) => assert!(!silent),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(who, None);
    }
}
