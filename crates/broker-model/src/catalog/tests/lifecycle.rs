//! Ids, repetition of requests, starts and deaths of nodes, deletion of vhosts and users.

use super::*;

fn hosted(name: &str, node: u64) -> QueueSpec {
    QueueSpec {
        durable: false,
        placement: Placement::Host(NodeId(node)),
        ..queue(name)
    }
}

fn exclusive(name: &str, node: u64, incarnation: u64, serial: u64) -> QueueSpec {
    let owner = Some(connection(node, incarnation, serial));
    QueueSpec {
        exclusive: owner,
        ..hosted(name, node)
    }
}

/// A start while other nodes were up.
fn started(node: u64, incarnation: u64) -> CatalogCommand {
    CatalogCommand::NodeStarted {
        origin: origin(node, incarnation),
        all_were_down_in: None,
    }
}

fn names(driver: &Driver) -> Vec<String> {
    let mut names: Vec<_> = driver
        .catalog
        .queues("/")
        .map(|q| q.name.to_string())
        .collect();
    names.sort();
    names
}

#[test]
fn ids_name_index_and_slot() {
    let mut driver = Driver::new();
    let requests = ["a", "b", "a"].map(|name| CatalogRequest {
        key: None,
        command: CatalogCommand::DeclareQueue(queue(name)),
    });
    let entry = CatalogEntry {
        requests: requests.into(),
    };
    let replies = driver.catalog.apply(9, &entry, &mut driver.events);
    let ids: Vec<_> = replies
        .into_iter()
        .map(|reply| match reply {
            Ok(CatalogAnswer::Queue { id, created, .. }) => (id, created),
            other => panic!("{other:?}"),
        })
        .collect();
    let (first, second) = (QueueId::new(9, 0), QueueId::new(9, 1));
    assert_eq!(ids, [(first, true), (second, true), (first, false)]);
    assert_eq!(
        driver.catalog.queue_by_id(second).map(|q| &*q.name),
        Some("b")
    );
}

#[test]
fn entries_can_be_joined() {
    let entries =
        ["a", "b"].map(|name| CatalogEntry::of(CatalogCommand::DeclareQueue(queue(name))));
    let joined: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry.encode().to_vec())
        .collect();
    let decoded = CatalogEntry::decode(joined.into()).expect("an entry");
    assert_eq!(
        decoded.requests,
        entries.map(|entry| entry.requests).concat()
    );
}

#[test]
fn a_repeated_request_gets_the_first_answer() {
    let mut driver = Driver::new();
    let request = |number, command| CatalogRequest {
        key: Some(RequestKey {
            origin: origin(1, 1),
            number,
        }),
        command,
    };
    let delete = || CatalogCommand::DeleteQueue {
        vhost: "/".into(),
        name: "q".into(),
        expected: None,
    };
    let declared = driver.apply_request(request(1, CatalogCommand::DeclareQueue(queue("q"))));
    let deleted = driver.apply_request(request(2, delete()));
    assert_eq!(
        declared,
        driver.apply_request(request(1, CatalogCommand::DeclareQueue(queue("q"))))
    );
    assert!(
        driver.events.is_empty() && names(&driver).is_empty(),
        "nothing is applied again"
    );
    assert_eq!(deleted, driver.apply_request(request(2, delete())));
    let bad = || CatalogCommand::DeclareExchange(exchange("e", "foo"));
    let refused = driver.apply_request(request(3, bad()));
    assert_eq!(refused, driver.apply_request(request(3, bad())));
    // The memory is bounded, and goes with the start of the node.
    for number in 4..3000 {
        let name = CatalogCommand::SetClusterName { name: "n".into() };
        driver
            .apply_request(request(number, name))
            .expect("applied");
    }
    assert_eq!(
        driver.apply_request(request(2, delete())),
        Ok(CatalogAnswer::Done { created: false })
    );
    driver.ok(started(1, 2));
    assert_eq!(driver.catalog.replays.iter().count(), 0);
}

#[test]
fn deletion_of_the_expected_queue_only() {
    let mut driver = Driver::new();
    let old = driver.queue("q");
    let delete = |expected| CatalogCommand::DeleteQueue {
        vhost: "/".into(),
        name: "q".into(),
        expected: Some(expected),
    };
    driver.ok(delete(old));
    assert!(matches!(driver.events.first(), Some(CatalogEvent::QueueDeleted(q)) if q.id == old));
    let new = driver.queue("q");
    assert_ne!(old, new);
    assert_eq!(
        driver.ok(delete(old)),
        CatalogAnswer::Done { created: false }
    );
    assert_eq!(names(&driver), ["q"]);
}

#[test]
fn a_connection_takes_its_queues_along() {
    let mut driver = Driver::new();
    driver.ok(CatalogCommand::DeclareQueue(exclusive("mine", 1, 1, 7)));
    driver.ok(CatalogCommand::DeclareQueue(exclusive("other", 1, 1, 8)));
    driver.bind("amq.fanout", "mine", "");
    assert_eq!(driver.catalog.queues_of(connection(1, 1, 7)).count(), 1);
    driver.ok(CatalogCommand::DeleteQueuesOf {
        connection: connection(1, 1, 7),
    });
    assert_eq!(names(&driver), ["other"]);
    assert!(driver.route("amq.fanout", "").is_empty());
}

#[test]
fn a_node_starts_again() {
    let mut driver = Driver::new();
    driver.ok(started(1, 10));
    driver.queue("durable");
    for spec in [
        hosted("local", 1),
        hosted("elsewhere", 2),
        exclusive("mine", 1, 10, 1),
        exclusive("theirs", 2, 5, 1),
    ] {
        driver.ok(CatalogCommand::DeclareQueue(spec));
    }
    // A repetition of the announcement changes nothing.
    driver.ok(started(1, 10));
    assert_eq!(names(&driver).len(), 5);
    let before = driver.catalog.queue("/", "local").map(|queue| queue.id);
    let before = before.expect("there");
    driver.ok(started(1, 11));
    let lost = [CatalogEvent::MemoryLost {
        node: NodeId(1),
        start: 11,
    }];
    assert!(driver.events.ends_with(&lost), "{:?}", driver.events);
    assert_eq!(names(&driver), ["durable", "elsewhere", "local", "theirs"]);
    let local = driver.catalog.queue("/", "local").expect("still there");
    assert_eq!(local.placement, Placement::Host(NodeId(1)));
    assert_ne!(
        local.id, before,
        "what is sent to the lost memory finds nothing"
    );
    // A late declaration of the old start finds no home.
    assert!(
        driver
            .apply(CatalogCommand::DeclareQueue(exclusive("late", 1, 10, 2)))
            .is_err()
    );
}

#[test]
fn all_nodes_were_down() {
    let mut driver = Driver::new();
    driver.ok(started(1, 10));
    driver.ok(started(2, 10));
    let era = driver.catalog.era();
    let transient = || ExchangeSpec {
        durable: false,
        ..exchange("transient", "fanout")
    };
    driver.ok(CatalogCommand::DeclareExchange(exchange(
        "durable", "topic",
    )));
    driver.ok(CatalogCommand::DeclareExchange(transient()));
    driver.queue("kept");
    driver.ok(CatalogCommand::DeclareQueue(hosted("local", 3)));
    for source in ["durable", "transient", "amq.topic"] {
        driver.bind(source, "kept", "#");
        driver.bind(source, "local", "#");
    }
    let exchange_there = |driver: &Driver, name: &str| driver.catalog.exchange("/", name).is_some();
    // One node of several: everything stays.
    driver.ok(started(2, 11));
    assert!(exchange_there(&driver, "transient"));
    assert_eq!(names(&driver), ["kept", "local"]);
    // All of them; the first to come back says so.
    let first = |node, incarnation, era| CatalogCommand::NodeStarted {
        origin: origin(node, incarnation),
        all_were_down_in: Some(era),
    };
    driver.ok(first(1, 12, era));
    assert_eq!(driver.catalog.era(), era + 1);
    assert!(exchange_there(&driver, "durable") && exchange_there(&driver, "amq.topic"));
    assert!(!exchange_there(&driver, "transient"));
    assert_eq!(names(&driver), ["kept"]);
    assert_eq!(driver.route("durable", "k"), ["kept"]);
    assert_eq!(driver.route("amq.topic", "k"), ["kept"]);
    // What is declared since is not hit by the next one, which looked before.
    driver.ok(CatalogCommand::DeclareExchange(transient()));
    driver.ok(first(2, 12, era));
    assert!(exchange_there(&driver, "transient"));
    // It is part of the snapshot.
    let copy = Catalog::decode_snapshot(&driver.catalog.encode_snapshot()).expect("whole");
    assert_eq!(copy.era(), era + 1);
}

#[test]
fn a_node_dies() {
    let mut driver = Driver::new();
    driver.ok(started(1, 10));
    for spec in [
        hosted("local", 1),
        exclusive("mine", 1, 10, 1),
        exclusive("theirs", 2, 5, 1),
    ] {
        driver.ok(CatalogCommand::DeclareQueue(spec));
    }
    driver.bind("amq.fanout", "local", "");
    assert_eq!(driver.catalog.missing_hosts(), [NodeId(1), NodeId(2)]);
    let dead = |incarnation| CatalogCommand::NodeDead {
        origin: origin(1, incarnation),
        new_host: NodeId(2),
    };
    // News of an earlier start's death are too late.
    assert_eq!(driver.ok(dead(9)), CatalogAnswer::Done { created: false });
    assert_eq!(driver.ok(dead(10)), CatalogAnswer::Done { created: true });
    let moved = driver.events.iter().find_map(|event| match event {
        CatalogEvent::QueueRehosted { old, new } => Some((old.clone(), new.clone())),
        _ => None,
    });
    let (old, new) = moved.expect("moved");
    let lost = [CatalogEvent::MemoryLost {
        node: NodeId(1),
        start: 10,
    }];
    assert!(driver.events.ends_with(&lost), "{:?}", driver.events);
    let owners: Vec<_> = (driver.events.iter())
        .filter_map(|event| match event {
            CatalogEvent::ExclusiveQueuesLost { owner } => Some(*owner),
            _ => None,
        })
        .collect();
    let mine = ConnectionId {
        origin: origin(1, 10),
        serial: 1,
    };
    assert_eq!(owners, [mine], "its client relies on its queue");
    assert!(!driver.catalog.depends_on(NodeId(1)) && driver.catalog.depends_on(NodeId(2)));
    assert_eq!(driver.catalog.missing_hosts(), [NodeId(2)]);
    assert_eq!(
        (old.placement, new.placement),
        (Placement::Host(NodeId(1)), Placement::Host(NodeId(2)))
    );
    assert_ne!(old.id, new.id);
    assert!(driver.catalog.queue_by_id(old.id).is_none());
    assert_eq!(driver.catalog.queue("/", "local"), Some(&new));
    assert_eq!(
        driver.route("amq.fanout", ""),
        ["local"],
        "its bindings stay"
    );
    assert_eq!(names(&driver), ["local", "theirs"]);
    // Repeated until nothing is left to do.
    assert_eq!(driver.ok(dead(10)), CatalogAnswer::Done { created: false });
}

#[test]
fn many_queues_move_in_steps() {
    let mut driver = Driver::new();
    let count = super::super::nodes::REHOSTED_MAX + 5;
    let requests = (0..count).map(|number| CatalogRequest {
        key: None,
        command: CatalogCommand::DeclareQueue(hosted(&format!("q{number}"), 1)),
    });
    let entry = CatalogEntry {
        requests: requests.collect(),
    };
    driver.catalog.apply(2, &entry, &mut driver.events);
    let mut steps = 0;
    let mut lost = Vec::new();
    let dead = || CatalogCommand::NodeDead {
        origin: origin(1, 1),
        new_host: NodeId(2),
    };
    while driver.ok(dead()) == (CatalogAnswer::Done { created: true }) {
        steps += 1;
        let told = driver.events.iter();
        lost.push(
            told.filter(|e| matches!(e, CatalogEvent::MemoryLost { .. }))
                .count(),
        );
    }
    assert_eq!(steps, 2);
    assert_eq!(lost, [0, 1], "consumers are taken along before links end");
    assert_eq!(driver.catalog.queues_hosted_by(NodeId(2)).count(), count);
}

#[test]
fn a_vhost_goes_with_all_that_is_in_it() {
    let mut driver = Driver::new();
    driver.ok(CatalogCommand::PutVhost(VhostSpec::named("v")));
    let spec = QueueSpec {
        vhost: "v".into(),
        ..exclusive("q", 1, 1, 1)
    };
    driver.ok(CatalogCommand::DeclareQueue(spec));
    driver.ok(CatalogCommand::SetPermissions(PermissionSpec {
        user: "guest".into(),
        vhost: "v".into(),
        configure: "".into(),
        write: "".into(),
        read: "".into(),
    }));
    driver.ok(CatalogCommand::DeleteVhost { name: "v".into() });
    assert!(matches!(
        driver.events.as_slice(),
        [
            CatalogEvent::QueueDeleted(_),
            CatalogEvent::VhostDeleted { .. }
        ]
    ));
    assert_eq!(driver.catalog.queue_count(), 0);
    assert_eq!(driver.catalog.exclusive_owners().count(), 0);
    assert_eq!(driver.catalog.permissions_of("guest").count(), 1);
    assert_eq!(driver.catalog.routing_version("v"), 0);
}

#[test]
fn a_cluster_is_formed_once() {
    let mut driver = Driver::new();
    let again = Bootstrap {
        cluster_id: "other".into(),
        cluster_name: "other".into(),
        shards: 9,
        vhost: "v".into(),
        user: None,
        nodes: Vec::new(),
    };
    assert_eq!(
        driver.ok(CatalogCommand::Bootstrap(again)),
        CatalogAnswer::Done { created: false }
    );
    assert_eq!(driver.catalog.cluster_id().map(|id| &**id), Some("c"));
    assert_eq!(driver.catalog.shards(), 4);
}

#[test]
fn nodes_and_their_starts() {
    let mut driver = Driver::new();
    let record = NodeRecord {
        node: NodeId(3),
        raft_id: 3,
        cluster_address: "n3:25672".into(),
        amqp_address: "n3:5672".into(),
        management_address: "n3:15672".into(),
        state: NodeState::Joining,
        incarnation: 77,
    };
    driver.ok(CatalogCommand::PutNode(record.clone()));
    let incarnation = |driver: &Driver| driver.catalog.node(NodeId(3)).map(|n| n.incarnation);
    assert_eq!(incarnation(&driver), Some(0), "only a start moves it on");
    driver.ok(started(3, 5));
    assert_eq!(incarnation(&driver), Some(5));
    driver.ok(CatalogCommand::PutNode(record.clone()));
    assert_eq!(incarnation(&driver), Some(5));
    let state = |driver: &Driver| driver.catalog.node(NodeId(3)).map(|n| n.state);
    let set = |state| CatalogCommand::SetNodeState {
        node: NodeId(3),
        state,
    };
    driver.ok(set(NodeState::Dead));
    assert_eq!(state(&driver), Some(NodeState::Dead));
    // Whom the cluster is about to forget cannot stay by starting again, but with an empty disk it is another member.
    let member = NodeRecord {
        state: NodeState::Member,
        ..record.clone()
    };
    driver.ok(set(NodeState::Leaving));
    driver.ok(CatalogCommand::PutNode(member.clone()));
    assert_eq!(state(&driver), Some(NodeState::Leaving));
    driver.ok(CatalogCommand::PutNode(NodeRecord {
        raft_id: (1 << 16) | 3,
        ..member
    }));
    assert_eq!(state(&driver), Some(NodeState::Member));
    driver.ok(CatalogCommand::RemoveNode { node: NodeId(3) });
    assert_eq!(driver.catalog.nodes().count(), 0);
}
