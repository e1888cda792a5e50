//! Clusters in one process under faults drawn from a seed.
//!
//! Three real nodes, each with a simulated clock, over a network in memory; logs that lose what was
//! not synced; AMQP clients that publish with confirms and consume with acknowledgements. First
//! faults, during which nothing may go wrong for a client that it was not told; then everything is
//! mended and must work again within a bound.
//!
//! `WARREN_SEEDS=N` runs N seeds, `WARREN_SEED=N` that one alone, `WARREN_SIM_LOG=info` shows what
//! nodes log. Nodes run on threads and hash with random keys, so a seed does not replay exactly.

#![allow(clippy::print_stdout, clippy::expect_used, clippy::panic)]

mod actors;
mod client;
mod net;
mod node;
mod record;
mod world;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Without a number of seeds in the environment.
const SEEDS: u64 = 4;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_confirmed_is_lost_under_faults() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        hook(panic);
    }));
    let (first, count) = match number("WARREN_SEED") {
        Some(seed) => (seed, 1),
        None => (
            number("WARREN_FIRST_SEED").unwrap_or(1),
            number("WARREN_SEEDS").unwrap_or(SEEDS),
        ),
    };
    let next = AtomicU64::new(first);
    let failed = AtomicUsize::new(0);
    let threads = number("WARREN_SIM_THREADS").unwrap_or(2).min(count);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + count {
                        return;
                    }
                    let started = Instant::now();
                    let verdict = world::run(seed);
                    let took = started.elapsed().as_secs_f64();
                    println!("seed {seed}: {} in {took:.1} s", verdict.summary);
                    if !verdict.wrong.is_empty() {
                        failed.fetch_add(1, Ordering::SeqCst);
                        println!("seed {seed} FAILED; run it alone with WARREN_SEED={seed}");
                        for line in verdict.faults.iter().chain(&verdict.wrong) {
                            println!("  {line}");
                        }
                    }
                }
            });
        }
    });
    assert_eq!(failed.load(Ordering::SeqCst), 0, "seeds failed");
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "something panicked");
}
