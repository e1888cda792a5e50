//! Clients: publishers with confirms, consumers with acknowledgements. They come back when their
//! connection is lost, and go on as a new session.

use crate::client::{Client, Gone, Usable, text};
use crate::net::{CLIENTS, SimNet};
use crate::record::{Name, Outcome, Record};
use amqp_codec::{FieldTable, Method};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Unconfirmed publishes of one publisher.
const UNCONFIRMED: usize = 60;
/// Deliveries that a consumer holds.
const PREFETCH: u16 = 20;
const AGAIN: Duration = Duration::from_millis(100);

/// What all clients share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) net: Arc<SimNet>,
    pub(crate) record: Arc<Mutex<Record>>,
    /// Publishers publish while it is set.
    pub(crate) publishing: Arc<AtomicBool>,
    pub(crate) queues: usize,
}

pub(crate) fn queue_name(queue: usize) -> String {
    format!("queue-{queue}")
}

/// Where clients of a node connect.
pub(crate) fn client_address(node: u64) -> String {
    format!("10.0.0.{node}:5672")
}

impl Surroundings {
    async fn connect(&self, node: u64) -> Option<Client> {
        let connecting = self.net.connect(CLIENTS, &client_address(node));
        let stream = timeout(Duration::from_secs(2), connecting)
            .await
            .ok()?
            .ok()?;
        Client::open(stream).await.ok()
    }
}

/// Publishes at one node, for ever. `acked` counts what was confirmed.
pub(crate) async fn publish(around: Surroundings, seed: u64, node: u64, acked: Arc<AtomicU64>) {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        if let Some(client) = around.connect(node).await {
            let session = around.record.lock().session();
            let mut publisher = Publisher {
                around: &around,
                client,
                session,
                numbers: vec![0; around.queues],
                tags: BTreeMap::new(),
                next_tag: 1,
                acked: &acked,
            };
            let _ = publisher.run(&mut random).await;
            let open: Vec<Name> = publisher.tags.values().copied().collect();
            let mut record = around.record.lock();
            for name in open {
                record.outcome(name, Outcome::Unknown);
            }
        }
        sleep(AGAIN).await;
    }
}

struct Publisher<'a> {
    around: &'a Surroundings,
    client: Client,
    session: u64,
    numbers: Vec<u64>,
    tags: BTreeMap<u64, Name>,
    next_tag: u64,
    acked: &'a AtomicU64,
}

impl Publisher<'_> {
    async fn run(&mut self, random: &mut StdRng) -> Usable<()> {
        for queue in 0..self.around.queues {
            self.client.queue_declare(&queue_name(queue), false);
            self.client.flush().await?;
            self.client
                .expect(|m| matches!(m, Method::QueueDeclareOk { .. }))
                .await?;
        }
        self.client
            .queue(1, &Method::ConfirmSelect { no_wait: false });
        self.client.flush().await?;
        self.client
            .expect(|m| matches!(m, Method::ConfirmSelectOk {}))
            .await?;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                heard = self.client.next() => self.heard(&heard?.method),
                () = sleep_until(next) => {
                    next = Instant::now() + Duration::from_millis(random.random_range(1..40));
                    if self.around.publishing.load(Ordering::Relaxed) && self.tags.len() < UNCONFIRMED {
                        self.burst(random).await?;
                    }
                }
            }
        }
    }

    async fn burst(&mut self, random: &mut StdRng) -> Usable<()> {
        for _ in 0..random.random_range(1..6) {
            let queue = random.random_range(0..self.around.queues);
            let number = self.numbers[queue];
            self.numbers[queue] += 1;
            let name = Name {
                session: self.session,
                queue,
                number,
            };
            let padding = match random.random_range(0..60) {
                0 => random.random_range(10_000..150_000),
                1..10 => random.random_range(0..3000),
                _ => 20,
            };
            self.client
                .queue_publish(&queue_name(queue), &name.body(padding));
            self.tags.insert(self.next_tag, name);
            self.next_tag += 1;
            self.around.record.lock().published(name);
        }
        self.client.flush().await
    }

    fn heard(&mut self, method: &Method) {
        let (tag, multiple, outcome) = match method {
            Method::BasicAck {
                delivery_tag,
                multiple,
            } => (*delivery_tag, *multiple, Outcome::Acked),
            Method::BasicNack {
                delivery_tag,
                multiple,
                ..
            } => (*delivery_tag, *multiple, Outcome::Nacked),
            other => {
                let mut record = self.around.record.lock();
                return record.complain(format!("a publisher heard {other:?}"));
            }
        };
        let names: Vec<Name> = if multiple {
            let rest = self.tags.split_off(&(tag + 1));
            std::mem::replace(&mut self.tags, rest)
                .into_values()
                .collect()
        } else {
            self.tags.remove(&tag).into_iter().collect()
        };
        let mut record = self.around.record.lock();
        if names.is_empty() {
            record.complain(format!("{outcome:?} for tag {tag} that is not open"));
        }
        if outcome == Outcome::Acked {
            self.acked.fetch_add(names.len() as u64, Ordering::Relaxed);
        }
        for name in names {
            record.outcome(name, outcome);
        }
    }
}

/// Consumes a queue at one node, for ever.
pub(crate) async fn consume(around: Surroundings, seed: u64, node: u64, queue: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        if let Some(client) = around.connect(node).await {
            let session = around.record.lock().session();
            let mut consumer = Consumer {
                around: &around,
                client,
                session,
                queue,
                held: BTreeMap::new(),
                answered: Vec::new(),
                barriers: Vec::new(),
            };
            let _ = consumer.run(&mut random).await;
            let unsure = consumer.barriers.into_iter().flatten();
            let unsure: Vec<Name> = unsure.chain(consumer.answered).collect();
            let mut record = around.record.lock();
            for name in unsure {
                record.perhaps_settled(name);
            }
        }
        sleep(AGAIN).await;
    }
}

struct Consumer<'a> {
    around: &'a Surroundings,
    client: Client,
    session: u64,
    queue: usize,
    held: BTreeMap<u64, Name>,
    /// Acknowledged since the last barrier.
    answered: Vec<Name>,
    /// What was acknowledged before each barrier that is not answered yet.
    barriers: Vec<Vec<Name>>,
}

impl Consumer<'_> {
    async fn run(&mut self, random: &mut StdRng) -> Usable<()> {
        let name = queue_name(self.queue);
        self.client.queue_declare(&name, false);
        self.client.flush().await?;
        self.client
            .expect(|m| matches!(m, Method::QueueDeclareOk { .. }))
            .await?;
        let qos = Method::BasicQos {
            prefetch_size: 0,
            prefetch_count: PREFETCH,
            global: false,
        };
        self.client.queue(1, &qos);
        self.client.flush().await?;
        self.client
            .expect(|m| matches!(m, Method::BasicQosOk {}))
            .await?;
        self.client.queue(
            1,
            &Method::BasicConsume {
                queue: text(&name),
                consumer_tag: text(""),
                no_local: false,
                no_ack: false,
                exclusive: false,
                no_wait: false,
                arguments: FieldTable::default(),
            },
        );
        self.client.flush().await?;
        self.client
            .expect(|m| matches!(m, Method::BasicConsumeOk { .. }))
            .await?;
        let mut next = Instant::now();
        // Some sessions are short.
        let ends = Instant::now() + Duration::from_millis(random.random_range(500..30_000));
        loop {
            tokio::select! {
                heard = self.client.next() => {
                    let heard = heard?;
                    self.heard(&heard.method, &heard.body)?;
                }
                () = sleep_until(next) => {
                    next = Instant::now() + Duration::from_millis(random.random_range(1..60));
                    self.answer(random).await?;
                }
                // Without a word: what is held goes back.
                () = sleep_until(ends) => return Ok(()),
            }
        }
    }

    fn heard(&mut self, method: &Method, body: &[u8]) -> Usable<()> {
        let mut record = self.around.record.lock();
        match method {
            Method::BasicDeliver {
                delivery_tag,
                redelivered,
                ..
            } => match Name::of_body(body) {
                Some(name) => {
                    self.held.insert(*delivery_tag, name);
                    record.delivered(self.session, name, *redelivered);
                    if name.queue != self.queue {
                        record.complain(format!("{name:?} arrived from queue {}", self.queue));
                    }
                }
                None => record.complain("a delivery with a foreign body".to_owned()),
            },
            Method::QueueDeclareOk { .. } if !self.barriers.is_empty() => {
                for name in self.barriers.remove(0) {
                    record.settled(name);
                }
            }
            // What it asked has waited for a majority for as long as anything may.
            Method::ChannelClose {
                reply_code: 404,
                reply_text,
                ..
            } if reply_text.ends_with("due to timeout") => return Err(Gone),
            other => record.complain(format!("a consumer heard {other:?}")),
        }
        Ok(())
    }

    /// Acknowledges some of what is held, gives some back, and asks when that is done.
    async fn answer(&mut self, random: &mut StdRng) -> Usable<()> {
        let tags: BTreeSet<u64> = self.held.keys().copied().collect();
        let Some(last) = tags.last().copied() else {
            return Ok(());
        };
        match random.random_range(0..20) {
            0 => {
                let tag = *tags
                    .iter()
                    .nth(random.random_range(0..tags.len()))
                    .unwrap_or(&last);
                self.held.remove(&tag);
                let nack = Method::BasicNack {
                    delivery_tag: tag,
                    multiple: false,
                    requeue: true,
                };
                self.client.queue(1, &nack);
            }
            1..8 => {
                self.client.queue(
                    1,
                    &Method::BasicAck {
                        delivery_tag: last,
                        multiple: true,
                    },
                );
                self.answered
                    .extend(std::mem::take(&mut self.held).into_values());
            }
            _ => {
                for tag in tags {
                    if random.random_range(0..3) > 0 {
                        self.client.queue(
                            1,
                            &Method::BasicAck {
                                delivery_tag: tag,
                                multiple: false,
                            },
                        );
                        self.answered.extend(self.held.remove(&tag));
                    }
                }
            }
        }
        if self.barriers.len() < 3 && !self.answered.is_empty() {
            self.client.queue_declare(&queue_name(self.queue), true);
            self.barriers.push(std::mem::take(&mut self.answered));
        }
        self.client.flush().await
    }
}
