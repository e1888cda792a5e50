//! Who of a channel's consumers gets credit, and whose is called back: a pure decision.
//!
//! Three limits, the lowest counts: what each consumer may have (its own prefetch and what this node
//! is ready to hold), and the window that the consumers of the channel share. The window is given out
//! in equal shares. A consumer whose queue has a message but which has no credit is *hungry*: it comes
//! first, and if nothing is left for it, what others do not use is called back.

/// A consumer, as the decision sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// Credit at the queue's leader.
    pub(super) granted: u32,
    /// The most credit that it may have, the shared window aside.
    pub(super) most: u32,
    /// It takes part in the shared window.
    pub(super) shares: bool,
    /// A message waits for it.
    pub(super) hungry: bool,
    /// Credit may be given and taken: it is attached, and nothing is being called back.
    pub(super) settled: bool,
}

/// What is decided about one consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    Leave,
    /// More credit.
    Grant(u32),
    /// Its unused credit is called back.
    CallBack,
}

/// The window that the consumers of a channel share.
#[derive(Debug, Default, Clone)]
pub(super) struct Window {
    /// Its size; 0 is no limit.
    pub(super) limit: u32,
    /// Unacknowledged deliveries to consumers of the channel; gets take no room.
    pub(super) unacked: u32,
    /// It was made smaller: credit above it is called back.
    pub(super) narrowed: bool,
    /// Whose turn it is to get credit first.
    turn: usize,
}

impl Window {
    /// Sets the size; 0 is no limit.
    pub(super) fn resize(&mut self, limit: u32) {
        let before = std::mem::replace(&mut self.limit, limit);
        self.narrowed |= limit != 0 && (before == 0 || limit < before);
    }

    /// What is left of the window beside what is granted to `consumers`.
    pub(super) fn room(&self, consumers: &[View]) -> u32 {
        if self.limit == 0 {
            return u32::MAX;
        }
        let granted: u32 = consumers
            .iter()
            .filter(|view| view.shares)
            .fold(0, |sum, view| sum.saturating_add(view.granted));
        self.limit
            .saturating_sub(self.unacked)
            .saturating_sub(granted)
    }

    /// Everything that it holds is delivered and not acknowledged. Then consumers that do not
    /// acknowledge wait too, although they take no room.
    pub(super) fn is_full(&self) -> bool {
        self.limit > 0 && self.unacked >= self.limit
    }

    /// The share of one of `count` consumers.
    pub(super) fn share(&self, count: usize) -> u32 {
        match self.limit {
            0 => u32::MAX,
            limit => (limit / u32::try_from(count.max(1)).unwrap_or(u32::MAX)).max(1),
        }
    }

    /// Decides about all consumers of the channel.
    pub(super) fn plan(&mut self, consumers: &[View]) -> Vec<Decision> {
        let mut decisions = vec![Decision::Leave; consumers.len()];
        if std::mem::take(&mut self.narrowed) && self.is_overdrawn(consumers) {
            return consumers
                .iter()
                .map(|view| {
                    if view.can_give() {
                        Decision::CallBack
                    } else {
                        Decision::Leave
                    }
                })
                .collect();
        }
        for (view, decision) in consumers.iter().zip(&mut decisions) {
            if !view.shares && self.is_full() {
                if view.settled && view.granted > 0 {
                    *decision = Decision::CallBack;
                }
            } else if self.limit == 0 || !view.shares {
                *decision = view.raise(u32::MAX);
            }
        }
        if self.limit > 0 {
            self.share_out(consumers, &mut decisions);
        }
        decisions
    }

    /// More is granted and unacknowledged than the window holds.
    fn is_overdrawn(&self, consumers: &[View]) -> bool {
        let granted: u64 = consumers
            .iter()
            .filter(|view| view.shares)
            .map(|view| u64::from(view.granted))
            .sum();
        granted > 0 && u64::from(self.unacked) + granted > u64::from(self.limit)
    }

    fn share_out(&mut self, consumers: &[View], decisions: &mut [Decision]) {
        let count = consumers.len();
        let mut room = self.room(consumers);
        let share = self.share(consumers.iter().filter(|view| view.shares).count());
        let order: Vec<usize> = (0..count)
            .map(|nth| (nth + self.turn) % count.max(1))
            .collect();
        let mut give = |at: usize, most: u32, room: &mut u32| -> u32 {
            let (Some(view), Some(decision)) = (consumers.get(at), decisions.get_mut(at)) else {
                return 0;
            };
            *decision = view.raise(most.min(*room));
            let Decision::Grant(given) = *decision else {
                return 0;
            };
            *room -= given;
            given
        };
        let is = |at: &usize, hungry: bool| {
            consumers
                .get(*at)
                .is_some_and(|view| view.shares && view.settled && view.hungry == hungry)
        };
        let hungry: Vec<usize> = order.iter().filter(|at| is(at, true)).copied().collect();
        let mut left = u32::try_from(hungry.len()).unwrap_or(u32::MAX);
        let mut last_served = None;
        let mut starves = false;
        for at in &hungry {
            let part = room.div_ceil(left.max(1));
            left = left.saturating_sub(1);
            if give(*at, part, &mut room) > 0 {
                last_served = Some(*at);
            } else {
                starves |= consumers
                    .get(*at)
                    .is_some_and(|view| view.most > view.granted);
            }
        }
        for at in order.iter().filter(|at| is(at, false)) {
            let granted = consumers.get(*at).map_or(0, |view| view.granted);
            give(*at, share.saturating_sub(granted), &mut room);
        }
        if let Some(last) = last_served {
            self.turn = last + 1;
        }
        if starves {
            for (view, decision) in consumers.iter().zip(decisions) {
                if view.can_give() && !view.hungry && *decision == Decision::Leave {
                    *decision = Decision::CallBack;
                }
            }
        }
    }
}

impl View {
    /// Raises the credit by `room` at most. In steps of a quarter unless it runs low: credit costs a
    /// message.
    pub(super) fn raise(&self, room: u32) -> Decision {
        if !self.settled {
            return Decision::Leave;
        }
        let more = self.most.saturating_sub(self.granted).min(room);
        let worth_it =
            more.saturating_mul(4) >= self.most || self.granted < self.most / 2 || self.hungry;
        if more > 0 && worth_it {
            Decision::Grant(more)
        } else {
            Decision::Leave
        }
    }

    fn can_give(&self) -> bool {
        self.shares && self.settled && self.granted > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDLE: View = View {
        granted: 0,
        most: 100,
        shares: true,
        hungry: false,
        settled: true,
    };

    fn window(limit: u32, unacked: u32) -> Window {
        Window {
            limit,
            unacked,
            ..Window::default()
        }
    }

    #[test]
    fn decisions() {
        use Decision::{CallBack, Grant, Leave};
        let granted = |granted| View { granted, ..IDLE };
        let outside = |granted| View {
            granted,
            shares: false,
            ..IDLE
        };
        let hungry = View {
            hungry: true,
            ..IDLE
        };
        for (limit, unacked, consumers, expected) in [
            // Without a window everybody has what it may have.
            (
                0,
                0,
                vec![IDLE, granted(100), granted(90)],
                vec![Grant(100), Leave, Leave],
            ),
            (
                0,
                0,
                vec![View {
                    settled: false,
                    ..IDLE
                }],
                vec![Leave],
            ),
            // A window is shared equally; what is unacknowledged counts.
            (10, 0, vec![IDLE, IDLE], vec![Grant(5), Grant(5)]),
            (10, 10, vec![IDLE, IDLE], vec![Leave, Leave]),
            (10, 7, vec![IDLE, IDLE], vec![Grant(3), Leave]),
            (1, 0, vec![IDLE, IDLE], vec![Grant(1), Leave]),
            // Consumers that do not acknowledge take no room, and wait while there is none.
            (2, 1, vec![outside(0), IDLE], vec![Grant(100), Grant(1)]),
            (1, 1, vec![outside(0), IDLE], vec![Leave, Leave]),
            (1, 1, vec![outside(9), IDLE], vec![CallBack, Leave]),
            (0, 1, vec![outside(0), IDLE], vec![Grant(100), Grant(100)]),
            // The hungry come first.
            (10, 4, vec![granted(5), hungry], vec![Leave, Grant(1)]),
            (10, 6, vec![IDLE, hungry], vec![Leave, Grant(4)]),
            (10, 0, vec![hungry, hungry], vec![Grant(5), Grant(5)]),
            // Nothing left: what others do not use is called back, unless that is under way.
            (10, 5, vec![granted(5), hungry], vec![CallBack, Leave]),
            (
                10,
                5,
                vec![
                    View {
                        settled: false,
                        ..granted(5)
                    },
                    hungry,
                ],
                vec![Leave, Leave],
            ),
            (10, 10, vec![IDLE, hungry], vec![Leave, Leave]),
            // Its own limit is reached: nothing is called back for it.
            (
                10,
                5,
                vec![granted(5), View { most: 0, ..hungry }],
                vec![Leave, Leave],
            ),
        ] {
            assert_eq!(
                window(limit, unacked).plan(&consumers),
                expected,
                "{limit} {unacked} {consumers:?}"
            );
        }
    }

    #[test]
    fn a_narrower_window_calls_back_what_is_too_much() {
        let view = View {
            granted: 10,
            ..IDLE
        };
        let mut window = window(0, 3);
        window.resize(13);
        assert_eq!(window.plan(&[view]), [Decision::Leave]);
        window.resize(12);
        assert_eq!(window.plan(&[view]), [Decision::CallBack]);
        window.resize(30);
        assert_eq!(
            window.plan(&[View { granted: 0, ..IDLE }]),
            [Decision::Grant(27)]
        );
    }

    /// A consumer and its queue's leader, which gets decisions and tells its side at once or late.
    #[derive(Debug, Clone, Default)]
    struct Sim {
        waiting: u32,
        credit: u32,
        granted: u32,
        unacked: u32,
        hungry: bool,
        told: bool,
        revoking: bool,
    }

    impl Sim {
        fn view(&self) -> View {
            View {
                granted: self.granted,
                most: 50u32.saturating_sub(self.unacked),
                shares: true,
                hungry: self.hungry,
                settled: !self.revoking,
            }
        }

        /// The leader hands out what it may, and complains if it may not.
        fn serve(&mut self) -> u32 {
            let count = self.waiting.min(self.credit);
            self.waiting -= count;
            self.credit -= count;
            self.granted -= count;
            self.unacked += count;
            if self.waiting > 0 && self.credit == 0 && !self.told && self.granted == 0 {
                (self.told, self.hungry) = (true, true);
            }
            count
        }
    }

    fn decide(window: &mut Window, sims: &mut [Sim]) {
        let views: Vec<View> = sims.iter().map(Sim::view).collect();
        for (sim, decision) in sims.iter_mut().zip(window.plan(&views)) {
            match decision {
                Decision::Grant(more) => {
                    sim.granted += more;
                    sim.credit += more;
                    (sim.hungry, sim.told) = (false, false);
                }
                Decision::CallBack => sim.revoking = true,
                Decision::Leave => {}
            }
        }
    }

    proptest! {
        /// The window is never exceeded, and whatever is published is delivered in the end, however
        /// unevenly it comes.
        #[test]
        fn window_holds_and_nobody_starves(
            limit in 1u32..20,
            consumers in 1usize..6,
            steps in proptest::collection::vec((0u8..4, 0usize..6, 1u32..8), 0..120),
        ) {
            let mut window = window(limit, 0);
            let mut sims = vec![Sim::default(); consumers];
            let (mut published, mut delivered) = (0, 0);
            let act = |window: &mut Window, sims: &mut Vec<Sim>, kind: u8, at: usize, count: u32| {
                let at = at % sims.len();
                let sim = &mut sims[at];
                match kind {
                    0 => { sim.waiting += count; return (count, 0); }
                    1 => {
                        let done = sim.unacked.min(count);
                        sim.unacked -= done;
                        window.unacked -= done;
                    }
                    2 => {
                        // Credit that can be used is used before it can be called back.
                        let count = sim.serve();
                        window.unacked += count;
                        if std::mem::take(&mut sim.revoking) {
                            sim.granted -= std::mem::take(&mut sim.credit);
                        }
                        return (0, count);
                    }
                    _ => {
                        let count = sim.serve();
                        window.unacked += count;
                        return (0, count);
                    }
                }
                (0, 0)
            };
            for (kind, at, count) in steps {
                let (more, out) = act(&mut window, &mut sims, kind, at, count);
                published += more;
                delivered += out;
                decide(&mut window, &mut sims);
                let held: u32 = sims.iter().map(|sim| sim.granted + sim.unacked).sum();
                prop_assert!(held <= limit, "{held} of {limit}");
            }
            for _ in 0..200 {
                for at in 0..consumers {
                    for kind in [2, 3, 1] {
                        delivered += act(&mut window, &mut sims, kind, at, u32::MAX).1;
                        decide(&mut window, &mut sims);
                    }
                }
            }
            prop_assert_eq!(delivered, published);
        }
    }
}
