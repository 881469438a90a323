//! Opening connections: the first packet of every flow, and the answer to it.
//!
//! Only so many are on their way at a time, so that none is lost for want of room; what was lost all the same is sent
//! again. In the end every flow is answered, and its backend is known.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use dataplane::nic::{BURST, Frame, Nic};
use vipgate::dpdk::cycles;

use super::frames::{self, Ends, LEN, Tag};
use super::generator::{Flow, Generator, Source};

/// Flows that may wait for their answer at a time.
const WINDOW: usize = 256;
/// How long to wait for an answer, in seconds.
const PATIENCE: f64 = 0.01;
/// How long to leave the core to others then.
const REST: Duration = Duration::from_millis(10);

impl<N: Nic, S: Source<N::Frame>> Generator<N, S> {
    /// Opens those of the first `flows` flows that are not open yet. Returns how many could not be opened in `seconds`.
    pub(super) fn open(&mut self, flows: u32, seconds: f64) -> usize {
        let count = flows as usize;
        self.known.resize(self.known.len().max(count), Flow::default());
        let end = cycles() + self.cycles(seconds);
        loop {
            self.open_once(flows, end);
            let left = self.known[..count].iter().filter(|flow| !flow.answered).count();
            if left == 0 || cycles() > end {
                return left;
            }
            // The gateway's control thread shares our core, and may have tables to hand out.
            thread::sleep(REST);
        }
    }

    /// Sends a packet of every flow that has no answer yet.
    fn open_once(&mut self, flows: u32, end: u64) {
        let patience = self.cycles(PATIENCE);
        let mut unanswered = 0..flows;
        let mut waiting = 0;
        let mut last = cycles();
        loop {
            let now = cycles();
            if waiting + BURST <= WINDOW && !unanswered.is_empty() {
                waiting += self.send_first(&mut unanswered, now);
            }
            let answers = self.take_answers();
            if answers > 0 {
                waiting = waiting.saturating_sub(answers);
                last = now;
            }
            let done = unanswered.is_empty() && waiting == 0;
            if done || now.saturating_sub(last) > patience || now > end {
                return;
            }
        }
    }

    /// A burst of the next flows without answer. Returns how many were sent.
    fn send_first(&mut self, unanswered: &mut Range<u32>, now: u64) -> usize {
        if !self.source.fill(&mut self.outbox, BURST) {
            return 0;
        }
        let known = &self.known;
        let mut flows = unanswered.filter(|&flow| !known[flow as usize].answered);
        let mut count = 0;
        for (frame, flow) in self.outbox.iter_mut().zip(&mut flows) {
            // Every buffer has room for a frame.
            let _ = frame.set_len(LEN);
            self.template.write(frame.bytes_mut(), Ends::forward(flow), flow, 0, now);
            count += 1;
        }
        self.outbox.truncate(count);
        self.nic.transmit(&mut self.outbox);
        let refused = self.outbox.len();
        self.nic.recycle(&mut self.outbox);
        count - refused
    }

    /// Plays the backends and the clients: answers first packets, takes answers. Returns how many of the latter came.
    fn take_answers(&mut self) -> usize {
        let mut answers = 0;
        self.nic.receive(&mut self.inbox);
        for mut frame in std::mem::take(&mut self.inbox) {
            let bytes = frame.bytes_mut();
            let tagged = Tag::read(bytes).zip(frames::verify(bytes));
            let Some((tag, ends)) = tagged else { continue };
            let Some(flow) = self.known.get_mut(tag.flow as usize) else { continue };
            if let Some(backend) = ends.to_backend()
                && ends == Ends::forwarded(tag.flow, backend)
            {
                flow.backend = Some(backend);
                frames::turn(bytes, self.mac);
                self.outbox.push(frame);
            } else if ends == Ends::forward(tag.flow).reversed() && !flow.answered {
                flow.answered = true;
                answers += 1;
            }
        }
        if !self.outbox.is_empty() {
            self.nic.transmit(&mut self.outbox);
            self.nic.recycle(&mut self.outbox);
        }
        answers
    }
}
