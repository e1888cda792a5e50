//! The PROXY protocol, versions 1 and 2: who a client behind a load balancer is.
//!
//! Parsing is the `ppp` crate's; here is only how many bytes to take off the stream.

use ppp::{HeaderResult, PartialResult, v1, v2};
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longest header accepted: version 1 has at most 107 bytes, version 2 little more with its
/// extensions.
const HEADER_MAX: usize = 2048;

/// Reads the header off the stream: addresses of client and server, or `None` for a health check
/// of the load balancer itself.
///
/// # Errors
/// There is no valid header, or the stream ended.
pub(crate) async fn read(
    stream: &mut TcpStream,
) -> Result<Option<(SocketAddr, SocketAddr)>, Error> {
    let mut buffer = Vec::with_capacity(256);
    loop {
        // One byte at a time at the end would be slow; peeking leaves what follows the header.
        let mut chunk = [0u8; HEADER_MAX];
        let seen = stream.peek(&mut chunk).await?;
        if seen == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        let fresh = chunk.get(..seen).unwrap_or_default();
        let mut joined = buffer.clone();
        joined.extend_from_slice(fresh);
        let parsed = HeaderResult::parse(&joined);
        if parsed.is_incomplete() {
            if joined.len() >= HEADER_MAX {
                return Err(invalid("the header is too long"));
            }
            consume(stream, seen).await?;
            buffer = joined;
            continue;
        }
        let (length, addresses) = match parsed {
            HeaderResult::V1(Ok(header)) => (header.header.len(), of_v1(&header.addresses)),
            HeaderResult::V2(Ok(header)) => (header.len(), of_v2(&header)),
            HeaderResult::V1(Err(error)) => return Err(invalid(&error.to_string())),
            HeaderResult::V2(Err(error)) => return Err(invalid(&error.to_string())),
        };
        let left = length.saturating_sub(buffer.len());
        consume(stream, left).await?;
        return Ok(addresses);
    }
}

fn invalid(text: &str) -> Error {
    Error::new(ErrorKind::InvalidData, text.to_owned())
}

async fn consume(stream: &mut TcpStream, count: usize) -> Result<(), Error> {
    let mut taken = vec![0u8; count];
    stream.read_exact(&mut taken).await?;
    Ok(())
}

fn of_v1(addresses: &v1::Addresses) -> Option<(SocketAddr, SocketAddr)> {
    match addresses {
        v1::Addresses::Tcp4(a) => Some((
            SocketAddr::from((a.source_address, a.source_port)),
            SocketAddr::from((a.destination_address, a.destination_port)),
        )),
        v1::Addresses::Tcp6(a) => Some((
            SocketAddr::from((a.source_address, a.source_port)),
            SocketAddr::from((a.destination_address, a.destination_port)),
        )),
        v1::Addresses::Unknown => None,
    }
}

fn of_v2(header: &v2::Header<'_>) -> Option<(SocketAddr, SocketAddr)> {
    if header.command == v2::Command::Local {
        return None;
    }
    match header.addresses {
        v2::Addresses::IPv4(a) => Some((
            SocketAddr::from((a.source_address, a.source_port)),
            SocketAddr::from((a.destination_address, a.destination_port)),
        )),
        v2::Addresses::IPv6(a) => Some((
            SocketAddr::from((a.source_address, a.source_port)),
            SocketAddr::from((a.destination_address, a.destination_port)),
        )),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    }
}
