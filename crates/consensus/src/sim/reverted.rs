//! A disk that has lost what it had acknowledged.

use super::nodes::Nodes;

#[test]
fn a_follower_that_has_lost_what_it_acknowledged_is_given_it_again() {
    let mut nodes = Nodes::new(3, false).started();
    for number in 0..10 {
        nodes.put(1, number);
    }
    nodes.converged(1, 10);
    let leader = nodes.leader(1);
    let follower = if leader == 3 { 2 } else { 3 };
    nodes.node(follower).kill();
    nodes.node(follower).lose_entries(1, 5);
    nodes.node(follower).start();
    nodes.put(1, 10);
    let all: Vec<u64> = (0..=10).collect();
    assert_eq!(nodes.converged(1, 11), all);
    assert_eq!(nodes.leader(1), leader, "the leader stood by what it had");
    nodes.no_aborts();
}
