//! What a client sends: events of its connection, and the input of channels, now or when what they wait for is done.

use super::Session;
use crate::session::channel::{Channel, ChannelKey, Input, Waiting};
use amqp_connection::Event;
use tracing::debug;

/// Input that may wait for busy channels before the socket is not read any more.
const BACKLOG_MAX: usize = 2048;

impl Session {
    pub(super) fn takes_input(&self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        // Whoever closes is listened to in any case.
        !self.conn.is_open()
            || !self.blocked
                && !self.paused
                && !self.refreshing
                && self.backlog_len < BACKLOG_MAX
                && self.backlog_bytes < self.backlog_limit()
                && self.outbox.unanswered_bytes() <= self.unanswered_limit()
                && self.conn.output_len() <= self.output_max()
    }

    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Publish(publish) => {
                if let Some(key) = self.key_of(publish.channel) {
                    self.block_if_alarmed();
                    let input = Input::Publish(publish);
                    if self.blocked {
                        self.held = Some(Box::new((key, input)));
                    } else {
                        self.input(key, input);
                    }
                }
            }
            Event::Method { channel, method } => {
                if let Some(key) = self.key_of(channel) {
                    self.input(key, Input::Method(method));
                }
            }
            Event::OpenChannel(channel) => self.open_channel(channel),
            Event::ChannelClosed { channel, reason } => {
                debug!(channel, code = reason.reply_code, text = %reason.reply_text, "client closes channel");
                if let Some(key) = self.key_of(channel) {
                    self.input(key, Input::Close);
                } else {
                    self.conn.channel_closed(channel);
                }
            }
            Event::ChannelFailed { channel, error } => {
                // What was sent before it is done, and answered, before.
                if let Some(key) = self.key_of(channel) {
                    self.input(key, Input::Fail(error));
                } else {
                    self.conn.channel_error(channel, &error, self.now);
                }
            }
            Event::Authenticate(credentials) => self.authenticate(credentials),
            Event::OpenVhost(vhost) => self.open_vhost(vhost),
            Event::UpdateSecret(secret) => self.update_secret(secret),
            Event::CloseRequested(reason) => {
                debug!(code = reason.reply_code, text = %reason.reply_text, "client closes connection");
                self.closing = true;
                self.close_if_idle();
            }
            Event::Failed(error) => self.connection_error(&error),
            Event::Ended(reason) => self.ended = Some(reason),
        }
    }

    /// Input of a channel, now or when what it waits for is done.
    pub(super) fn input(&mut self, key: ChannelKey, input: Input) {
        let Some(channel) = self.channels.get_mut(&key.number) else {
            return;
        };
        if channel.busy || !channel.backlog.is_empty() {
            let waiting = Waiting::new(input);
            self.backlog_len += 1;
            self.backlog_bytes += waiting.weight;
            channel.backlog.push_back(waiting);
        } else {
            self.act_on(key, input);
        }
    }

    fn act_on(&mut self, key: ChannelKey, input: Input) {
        let (result, ids) = match input {
            Input::Publish(publish) => (self.publish(key, publish), (60, 40)),
            Input::Method(method) => {
                let ids = (method.class_id(), method.method_id());
                (self.method(key, method), ids)
            }
            Input::Close => {
                self.close_channel(key);
                return;
            }
            Input::Fail(error) => {
                let ids = (error.class_id, error.method_id);
                (Err(error), ids)
            }
        };
        if let Err(error) = result {
            self.fail(key, error, ids);
        }
    }

    /// Goes on with what waited on a channel.
    pub(in super::super) fn go_on(&mut self, key: ChannelKey) {
        self.tell_gone(key);
        while let Some(channel) = self.channels.get_mut(&key.number)
            && channel.key == key
            && !channel.busy
        {
            let Some(Waiting { input, weight }) = channel.backlog.pop_front() else {
                break;
            };
            self.backlog_len -= 1;
            self.backlog_bytes -= weight;
            self.act_on(key, input);
        }
        self.close_if_idle();
    }

    /// Takes note that a channel's backlog is dropped.
    pub(in super::super) fn forget_backlog(&mut self, channel: &Channel) {
        self.backlog_len -= channel.backlog.len();
        let weights = channel.backlog.iter().map(|waiting| waiting.weight);
        self.backlog_bytes -= weights.sum::<usize>();
    }

    /// The client closed, and all channels are done.
    pub(in super::super) fn close_if_idle(&mut self) {
        if self.closing && self.channels.values().all(|channel| !channel.busy) {
            self.closing = false;
            self.close_connection();
        }
    }

    pub(super) fn block_if_alarmed(&mut self) {
        if self.blocked || self.left {
            return;
        }
        let reason = self.alarms.borrow().reason();
        if let Some(reason) = reason {
            self.blocked = true;
            self.conn.send_blocked(reason);
            self.show_state("blocked");
        }
    }
}
