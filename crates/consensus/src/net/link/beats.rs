//! The heartbeat stream to a peer, which tells what is known about its process. It is never idle for long: with no
//! heartbeat to send, an empty one goes out.

use super::super::Connectivity;
use super::super::auth::refusal;
use super::super::dial::{Probe, probe};
use super::trips::Trips;
use super::{Beat, PeerLink};
use crate::lateness::Looks;
use cluster_proto::v1;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;

/// Heartbeats of several groups that fall due within this time go out together, sooner if all have come that were said
/// to follow.
const GATHER: Duration = Duration::from_millis(5);
/// When heartbeats of groups are to follow at the same tick, nothing else is sent before they have had this time.
const FOLLOWING: Duration = Duration::from_millis(15);
/// Longest pause between two tries to reach a peer.
const RETRY_MAX: Duration = Duration::from_millis(400);
/// Pauses before the tries that tell a peer that dies from one that refuses this node.
const DYING: [Duration; 3] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
];
/// Heartbeats that may await an answer.
const BEATS_IN_FLIGHT: usize = 4096;

/// Keeps the heartbeat stream up, and judges the peer by how it ends.
pub(super) async fn run(link: Arc<PeerLink>, mut queue: mpsc::Receiver<Beat>) {
    loop {
        let closed = link.closed.count();
        beat_stream(&link, &mut queue).await;
        link.stream_up.send_replace(false);
        while queue.try_recv().is_ok() {}
        // A dead process: the kernel closed its connection. A host that is gone closes nothing.
        let abrupt = link.closed.count() != closed;
        await_peer(&link, abrupt).await;
    }
}

/// Returns when the peer accepts connections (again).
async fn await_peer(link: &PeerLink, abrupt: bool) {
    // Where messages take long, a connection does too, and its host is not gone for that.
    let usual = link.round_trip().unwrap_or_default();
    let mut within = link.timing.reset_grace.max(usual.saturating_mul(2));
    let mut pause = Duration::from_millis(25);
    let mut first = true;
    loop {
        let began = Instant::now();
        match probe(&*link.ways.network, &link.address, within).await {
            // The process may listen already or still; the pause keeps a peer that accepts and
            // closes at once from making this a busy loop.
            Probe::Accepts => {
                *link.accepts_after.lock() = began.elapsed();
                if !first || !abrupt {
                    sleep(pause).await;
                }
                return;
            }
            Probe::Refuses => link.set(Connectivity::Refused),
            Probe::Nothing if abrupt => link.set(Connectivity::Refused),
            Probe::Nothing => link.set(Connectivity::Silent),
        }
        first = false;
        within = Duration::from_secs(1);
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(RETRY_MAX);
    }
}

/// Whether the peer, which has not let this node in, soon listens no longer: a process that dies while it is greeted ends the
/// connection as one that refuses does, and its listener may close last.
async fn is_dying(link: &PeerLink) -> bool {
    for pause in DYING {
        sleep(pause).await;
        let within = link.timing.reset_grace;
        if probe(&*link.ways.network, &link.address, within).await == Probe::Refuses {
            return true;
        }
    }
    false
}

/// One heartbeat stream, until it ends.
async fn beat_stream(link: &PeerLink, queue: &mut mpsc::Receiver<Beat>) {
    let (sender, receiver) = mpsc::channel::<v1::Heartbeats>(16);
    let mut client = link.control();
    // The first message lets the server answer at once.
    let _ = sender.try_send(v1::Heartbeats::default());
    let opening = client.beat(ReceiverStream::new(receiver));
    let opened = timeout(link.opens_within(), opening).await;
    let mut answers = match opened {
        Ok(Ok(answers)) => answers.into_inner(),
        Ok(Err(status)) => {
            link.note_failure("control connection", &status);
            let refused = refusal(&status).is_some() || link.closed.take_refusal().is_some();
            if refused && is_dying(link).await {
                return;
            }
            // Whatever was known of it before: now it does not answer.
            link.set(Connectivity::Silent);
            if refused {
                sleep(RETRY_MAX).await;
            }
            return;
        }
        Err(_) => {
            // Its kernel accepts connections, its process does not greet.
            link.set(Connectivity::Silent);
            return;
        }
    };
    *link.trips.lock() = Trips::default();
    link.stream_up.send_replace(true);
    link.displaced.accepted(&link.address);
    let mut waiting: HashMap<u64, oneshot::Sender<v1::AppendAnswer>> = HashMap::new();
    let mut next = 1_u64;
    let mut batch: Vec<v1::Heartbeat> = Vec::new();
    let mut batch_due = Instant::now();
    let mut heard = Instant::now();
    let quiet = link.timing.silence * 2 / 5;
    let mut sent = Instant::now();
    // When a message without heartbeats is to be sent.
    let mut empty_due: Option<Instant> = None;
    // At each tick before which nothing was sent for half its period: one that is lost leaves time for another
    // before the other side judges this one silent.
    let mut ticks = crate::ticks::every(quiet.max(Duration::from_millis(10)));
    let mut looks = Looks::new(link.timing.silence / 2, Instant::now());
    loop {
        tokio::select! {
            message = answers.message() => {
                let Ok(Some(message)) = message else { return };
                let now = Instant::now();
                link.hear(now, now.duration_since(heard));
                heard = now;
                link.set(Connectivity::Connected);
                match message.answers.first() {
                    Some(answer) => link.trips.lock().answered(answer.sequence, heard),
                    None => link.trips.lock().answered_empty(heard),
                }
                for answer in message.answers {
                    if let Some(waiter) = waiting.remove(&answer.sequence) {
                        let _ = waiter.send(answer);
                    }
                }
            }
            beat = queue.recv() => {
                let Some(Beat { mut beat, answer }) = beat else { return };
                beat.sequence = next;
                if waiting.len() < BEATS_IN_FLIGHT {
                    waiting.insert(next, answer);
                }
                next = next.wrapping_add(1);
                if batch.is_empty() {
                    batch_due = Instant::now() + GATHER;
                }
                batch.push(beat);
                if batch.len() >= link.beats_follow.load(Ordering::Relaxed) {
                    batch_due = Instant::now();
                }
            }
            () = due(batch_due), if !batch.is_empty() => {
                let beats = std::mem::take(&mut batch);
                // A connection that is stuck loses heartbeats; it does not queue them.
                let last = beats.last().map_or(0, |beat| beat.sequence);
                if sender.try_send(v1::Heartbeats { beats }).is_ok() {
                    sent = Instant::now();
                    empty_due = None;
                    link.trips.lock().sent(last, sent);
                }
            }
            () = due(empty_due.unwrap_or(sent)), if empty_due.is_some() => {
                empty_due = None;
                if sender.try_send(v1::Heartbeats::default()).is_ok() {
                    sent = Instant::now();
                    link.trips.lock().sent_empty(sent);
                }
            }
            _ = ticks.tick() => {
                let now = Instant::now();
                if looks.is_excused(now) {
                    link.note_stand_still(now);
                    heard = now;
                }
                if heard.elapsed() > link.timing.silence {
                    link.set(Connectivity::Silent);
                }
                if sent.elapsed() >= quiet / 2 {
                    let follow = link.beats_follow.load(Ordering::Relaxed) > 0;
                    empty_due = Some(if follow { now + FOLLOWING } else { now });
                }
                waiting.retain(|_, waiter| !waiter.is_closed());
            }
        }
    }
}

/// Waits until `at`; not at all, not even for the next turn of the clock, when that is now.
async fn due(at: Instant) {
    if at > Instant::now() {
        sleep_until(at).await;
    }
}
