//! A producer: publishes as fast as allowed, or at a fixed rate, and watches its confirms.

use std::time::Duration;

use amqp_codec::{FrameKind, FrameSlice, Method};
use anyhow::bail;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::confirms::Confirms;
use super::pace::Pace;
use super::shared::Shared;
use super::stamp::Origin;
use super::template::Template;
use crate::client::{CHANNEL, Connection, Uri, checked_method, is_tick, write_all};
use crate::measure::{Latency, now_ns};

/// What a producer does.
#[derive(Debug, Clone)]
pub(crate) struct ProducerConfig {
    /// Its number from 0.
    pub(crate) index: usize,
    /// How many there are.
    pub(crate) producers: usize,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) persistent: bool,
    pub(crate) size: usize,
    /// 0 is without confirms.
    pub(crate) confirm_window: usize,
    /// Of all producers, each second.
    pub(crate) rate: Option<f64>,
    /// How many to publish; without it until told to stop.
    pub(crate) limit: Option<u64>,
    /// How long to wait for confirms at the end without progress.
    pub(crate) settle: Duration,
}

/// What a producer has done.
#[derive(Debug)]
pub(crate) struct Produced {
    pub(crate) sent: u64,
    /// Neither confirmed nor refused at the end.
    pub(crate) unsettled: u64,
    pub(crate) nacked: u64,
    pub(crate) confirm: Latency,
}

/// A connected producer.
#[derive(Debug)]
pub(crate) struct Producer {
    connection: Connection,
    config: ProducerConfig,
    template: Template,
    confirms: Confirms,
    output: Vec<u8>,
    result: Produced,
}

impl Producer {
    /// Publishes are written together up to this size.
    const BATCH_BYTES: usize = 64 * 1024;

    /// Connects and turns confirms on.
    pub(crate) fn open(uri: &Uri, config: ProducerConfig) -> anyhow::Result<Self> {
        let mut connection = Connection::open(uri, &format!("producer {}", config.index))?;
        connection.open_channel()?;
        if config.confirm_window > 0 {
            connection.call(CHANNEL, &Method::ConfirmSelect { no_wait: false })?;
        }
        let template = Template::new(
            &config.exchange,
            &config.routing_key,
            config.persistent,
            config.size,
            connection.frame_max,
        );
        Ok(Self {
            connection,
            template,
            confirms: Confirms::new(config.confirm_window),
            output: Vec::new(),
            result: Produced {
                sent: 0,
                unsettled: 0,
                nacked: 0,
                confirm: Latency::new(),
            },
            config,
        })
    }

    /// Publishes until the limit or until told to stop, then waits for the confirms.
    pub(crate) fn run(mut self, shared: &Shared) -> anyhow::Result<Produced> {
        while !shared.go.is_set() {
            if shared.abort.is_set() {
                return Ok(self.result);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let pace = self
            .config
            .rate
            .map(|rate| Pace::new(rate, self.config.index, self.config.producers, now_ns()));
        if pace.is_some() {
            precise_timers();
        }
        while !shared.stop_producing.is_set() && !shared.abort.is_set() {
            let left = self
                .config
                .limit
                .map_or(u64::MAX, |limit| limit - self.result.sent);
            if left == 0 {
                break;
            }
            let due = pace.map_or(u64::MAX, |pace| {
                pace.due_by(now_ns()).saturating_sub(self.result.sent)
            });
            let count = left.min(due).min(self.room());
            if count > 0 {
                self.publish(count, pace, shared)?;
            }
            if self.room() == 0 {
                self.read_confirms(shared)?;
            } else if let Some(pace) = pace {
                self.wait_until(pace.due_ns(self.result.sent), shared)?;
            }
        }
        self.finish(shared)
    }

    /// How many may be published now.
    fn room(&self) -> u64 {
        match self.config.confirm_window {
            0 => u64::MAX,
            _ => self.confirms.room() as u64,
        }
    }

    /// Publishes up to `count` messages with one write.
    fn publish(&mut self, count: u64, pace: Option<Pace>, shared: &Shared) -> anyhow::Result<()> {
        let batch = (Self::BATCH_BYTES / self.template.len()).max(1) as u64;
        let count = count.min(batch);
        let now = now_ns();
        let (run, producer) = (shared.run, self.config.index as u16);
        self.output.clear();
        for _ in 0..count {
            let sequence = self.result.sent;
            let sent_ns = pace.map_or(now, |pace| pace.due_ns(sequence));
            self.template.write(
                Origin {
                    run,
                    producer,
                    sequence,
                },
                sent_ns,
                &mut self.output,
            );
            if self.config.confirm_window > 0 {
                self.confirms.sent(sent_ns);
            }
            self.result.sent += 1;
        }
        // Counted before it is written: what has been received must have been sent.
        shared.sent.add(count);
        let stream = &mut self.connection.stream;
        match write_all(stream, &self.output, self.config.settle, || {
            shared.abort.is_set()
        }) {
            Ok(()) => Ok(()),
            Err(error) if is_tick(&error) => bail!("the broker takes no publishes any more"),
            Err(error) => Err(self.reason(error.into())),
        }
    }

    /// Waits for a message of the broker, up to a tick.
    fn read_confirms(&mut self, shared: &Shared) -> anyhow::Result<()> {
        match self.connection.input.fill(&mut self.connection.stream) {
            Ok(()) => self.handle_input(shared),
            Err(error) if is_tick(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until a message is due or something has arrived.
    fn wait_until(&mut self, due_ns: u64, shared: &Shared) -> anyhow::Result<()> {
        let tick_ns = Connection::TICK.as_nanos() as u64;
        let wait_ns = due_ns.saturating_sub(now_ns()).min(tick_ns);
        if wait_ns == 0 {
            return Ok(());
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: wait_ns as _,
        };
        let mut fds = [PollFd::new(&self.connection.stream, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
            Ok(_) => self.read_confirms(shared),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    fn handle_input(&mut self, shared: &Shared) -> anyhow::Result<()> {
        let now = now_ns();
        let measuring = shared.measuring.is_set();
        let (mut confirmed, mut nacked) = (0, 0);
        while let Some(frame) = self.connection.input.next()? {
            let Some(answer) = Answer::parse(frame)? else {
                continue;
            };
            let latencies = &mut self.result.confirm;
            let count = self
                .confirms
                .settle(answer.tag, answer.multiple, |sent_ns| {
                    if measuring && answer.ack {
                        latencies.record(now.saturating_sub(sent_ns));
                    }
                }) as u64;
            *(if answer.ack {
                &mut confirmed
            } else {
                &mut nacked
            }) += count;
        }
        shared.confirmed.add(confirmed);
        shared.nacked.add(nacked);
        self.result.nacked += nacked;
        Ok(())
    }

    /// Waits for the confirms that are still out, and closes.
    fn finish(mut self, shared: &Shared) -> anyhow::Result<Produced> {
        let mut progress_ns = now_ns();
        while self.confirms.outstanding() > 0 && !shared.abort.is_set() {
            let before = self.confirms.outstanding();
            self.read_confirms(shared)?;
            if self.confirms.outstanding() < before {
                progress_ns = now_ns();
            } else if now_ns() - progress_ns > self.config.settle.as_nanos() as u64 {
                break;
            }
        }
        self.result.unsettled = self.confirms.outstanding() as u64;
        if !shared.abort.is_set() {
            self.connection.close()?;
        }
        Ok(self.result)
    }

    /// Why a write failed: the broker says so before it closes the socket.
    fn reason(&mut self, error: anyhow::Error) -> anyhow::Error {
        loop {
            while let Ok(Some(frame)) = self.connection.input.next() {
                if frame.kind == FrameKind::Method
                    && let Err(reason) = checked_method(frame)
                {
                    return reason;
                }
            }
            if self
                .connection
                .input
                .fill(&mut self.connection.stream)
                .is_err()
            {
                return error;
            }
        }
    }
}

/// A confirm or nack.
struct Answer {
    tag: u64,
    multiple: bool,
    ack: bool,
}

impl Answer {
    /// Parses a frame; other methods than confirms are looked at for what closes something.
    fn parse(frame: FrameSlice<'_>) -> anyhow::Result<Option<Self>> {
        if frame.kind != FrameKind::Method {
            return Ok(None);
        }
        match *frame.payload {
            [
                0,
                60,
                0,
                method @ (80 | 120),
                t0,
                t1,
                t2,
                t3,
                t4,
                t5,
                t6,
                t7,
                bits,
            ] => Ok(Some(Self {
                tag: u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
                multiple: bits & 1 != 0,
                ack: method == 80,
            })),
            _ => checked_method(frame).map(|_| None),
        }
    }
}

/// The kernel lets timers of a thread be late by 50 µs to save power; latencies would show it.
fn precise_timers() {
    // Where that is not allowed, latencies at a fixed rate are that much longer.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}
