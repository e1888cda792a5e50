//! How a node of Warren is started.

use std::path::Path;
use std::process::Command;

use super::cluster::Place;

/// The command that runs a node.
pub(crate) fn command(program: &Path, place: &Place, places: &[Place]) -> Command {
    let listen = |port: u16| format!("127.0.0.1:{port}");
    let mut command = Command::new(program);
    command
        .arg("serve")
        .args(["--node-id", &place.number.to_string()])
        .arg("--data-dir")
        .arg(place.home.join("data"))
        .args(["--amqp-listen", &listen(place.amqp_port)])
        .args(["--cluster-listen", &listen(place.cluster_port)])
        .args(["--management-listen", &listen(place.management_port)]);
    if places.len() > 1 {
        let peer = |place: &Place| format!("{}={}", place.number, listen(place.cluster_port));
        let peers: Vec<_> = places.iter().map(peer).collect();
        command.args(["--peers", &peers.join(",")]);
        // Not an argument: those are visible to everybody.
        command.env("WARREN_CLUSTER_SECRET", "known to this comparison only");
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_in_a_cluster_only() {
        let place = |number: usize| Place {
            number,
            amqp_port: 10 + number as u16,
            cluster_port: 20 + number as u16,
            management_port: 30 + number as u16,
            home: "/h".into(),
        };
        let arguments = |places: &[Place]| {
            let command = command(Path::new("warren"), &places[0], places);
            command
                .get_args()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        assert!(!arguments(&[place(1)]).contains(&"--peers".to_owned()));
        let three = arguments(&[place(1), place(2)]);
        assert!(
            three.contains(&"1=127.0.0.1:21,2=127.0.0.1:22".to_owned()),
            "{three:?}"
        );
    }
}
