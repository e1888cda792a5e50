//! Free ports of the loopback interface.

use std::net::TcpListener;

/// Finds `count` different ports that nobody listens on now.
pub(crate) fn free(count: usize) -> anyhow::Result<Vec<u16>> {
    // All are held until all are found, so that none is found twice.
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<_, _>>()?;
    let ports = held
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()));
    Ok(ports.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn different_ports() {
        let mut ports = super::free(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
