//! Connection states, how packets move them, and how long each may be idle.
//!
//! The machine never blocks a legal sequence (RFC 5382 REQ-2) and never looks at sequence numbers: whether a segment
//! is acceptable is the endpoints' judgement. ICMP never gets here (I6).

use std::time::Duration;

use crate::wire::sctp_chunks;
use crate::wire::tcp_flags::{ACK, FIN, RST, SYN};

/// State of a connection; both directions carry the same. Numbers fit four bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// TCP: the client's SYN was seen. SCTP: its INIT.
    SynSent = 0,
    /// TCP, SCTP: the backend answered it.
    SynReceived = 1,
    /// TCP: open, or picked up in mid-stream and answered.
    Established = 2,
    /// TCP, SCTP: picked up in mid-stream, not answered yet (CTK-11).
    PickedUp = 3,
    /// TCP: the client has sent FIN.
    ClientFin = 4,
    /// TCP: the backend has sent FIN.
    BackendFin = 5,
    /// TCP: both have sent FIN. SCTP: one has begun to shut down.
    Closing = 6,
    /// TCP: somebody has sent RST. SCTP: ABORT. Kept for a while: the RST may be forged (RFC 7857 section 2.2).
    Reset = 7,
    /// UDP: no answer yet.
    Unreplied = 8,
    /// UDP: answered.
    UdpReplied = 9,
    /// SCTP: open, or picked up in mid-stream and answered.
    SctpEstablished = 10,
    /// TCP, SCTP: the client has repeated its SYN or INIT, and nothing has come back.
    Repeated = 11,
    /// TCP, SCTP: the client goes on as if it had an answer, or has repeated its SYN or INIT for the second time: answers
    /// take another way, or there are none.
    OneWay = 12,
}

/// Who goes first when room is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nobody has answered yet.
    HalfOpen,
    /// On its way out.
    Closing,
    /// Goes on, but can be found again: an answered UDP flow, or TCP that one side has closed.
    Answered,
    /// Open TCP or SCTP. Never evicted.
    Established,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::PickedUp,
        Self::ClientFin,
        Self::BackendFin,
        Self::Closing,
        Self::Reset,
        Self::Unreplied,
        Self::UdpReplied,
        Self::SctpEstablished,
        Self::Repeated,
        Self::OneWay,
    ];

    /// The state after a TCP segment with these flags.
    #[must_use]
    pub fn after_tcp(self, reply: bool, flags: u8) -> Self {
        if flags & RST != 0 {
            return Self::Reset;
        }
        if flags & FIN != 0 {
            return self.after_fin(reply, flags & ACK != 0);
        }
        match (self, reply) {
            // With or without ACK: a bare SYN from the backend is legal too (simultaneous open, RFC 9293 section 3.5).
            (Self::SynSent | Self::Repeated | Self::OneWay, true) if flags & SYN != 0 => {
                Self::SynReceived
            }
            (Self::OneWay, true) => Self::Established,
            (Self::SynSent, false) if flags & (SYN | ACK) == SYN => Self::Repeated,
            (Self::Repeated, false) if flags & (SYN | ACK) == SYN => Self::OneWay,
            // It acknowledges what has not come through here.
            (Self::SynSent | Self::Repeated, false) if flags & (SYN | ACK) == ACK => Self::OneWay,
            (Self::SynReceived, false) if flags & ACK != 0 && flags & SYN == 0 => Self::Established,
            (Self::PickedUp, true) => Self::Established,
            _ => self,
        }
    }

    /// The state after an SCTP packet that begins with a chunk of this type (RFC 9260 section 4).
    #[must_use]
    pub fn after_sctp(self, reply: bool, chunk: u8) -> Self {
        use sctp_chunks::{
            ABORT, COOKIE_ACK, COOKIE_ECHO, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK,
            SHUTDOWN_COMPLETE,
        };
        match (self, chunk, reply) {
            (_, ABORT, _) => Self::Reset,
            (Self::Reset | Self::Closing, ..) => self,
            (Self::SctpEstablished, SHUTDOWN | SHUTDOWN_ACK | SHUTDOWN_COMPLETE, _) => {
                Self::Closing
            }
            (Self::SynSent | Self::Repeated | Self::OneWay, INIT_ACK, true) => Self::SynReceived,
            (Self::OneWay, _, true) => Self::SctpEstablished,
            (Self::SynSent, INIT, false) => Self::Repeated,
            (Self::Repeated, INIT, false) => Self::OneWay,
            // The cookie came in an answer that did not come through here.
            (Self::SynSent | Self::Repeated, COOKIE_ECHO, false) => Self::OneWay,
            // The cookie is proof that the client heard the answer.
            (Self::SynReceived, COOKIE_ECHO, false) => Self::SctpEstablished,
            (Self::SynReceived, COOKIE_ACK, true) => Self::SctpEstablished,
            (Self::PickedUp, _, true) => Self::SctpEstablished,
            _ => self,
        }
    }

    /// A FIN of a connection that was never open closes nothing: else two forged packets would make an entry that
    /// looks established.
    fn after_fin(self, reply: bool, acknowledges: bool) -> Self {
        match (self, reply) {
            (Self::Reset | Self::Closing | Self::SynSent | Self::Repeated, _)
            | (Self::PickedUp | Self::OneWay, false) => self,
            (Self::SynReceived, false) if !acknowledges => self,
            (Self::BackendFin, false) | (Self::ClientFin, true) => Self::Closing,
            (_, false) => Self::ClientFin,
            (_, true) => Self::BackendFin,
        }
    }

    /// Whether a datagram, or a segment without SYN, FIN and RST, may change this state.
    #[must_use]
    pub const fn moves_by_any_packet(self, reply: bool) -> bool {
        match self {
            Self::SynSent | Self::Repeated | Self::SynReceived => !reply,
            Self::PickedUp | Self::OneWay | Self::Unreplied => reply,
            _ => false,
        }
    }

    /// Whether a client's SYN in this state opens a new connection on the same tuple.
    #[must_use]
    pub fn reopens(self) -> bool {
        matches!(self, Self::Closing | Self::Reset)
    }

    /// The eviction class.
    #[must_use]
    #[inline]
    pub fn class(self) -> Class {
        match self {
            Self::SynSent
            | Self::Repeated
            | Self::OneWay
            | Self::SynReceived
            | Self::PickedUp
            | Self::Unreplied => Class::HalfOpen,
            Self::Closing | Self::Reset => Class::Closing,
            Self::ClientFin | Self::BackendFin | Self::UdpReplied => Class::Answered,
            Self::Established | Self::SctpEstablished => Class::Established,
        }
    }
}

/// Idle times after which a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP established (RFC 5382 REQ-5: at least 2 h 4 min).
    pub tcp_established: Duration,
    /// TCP with one side closed: the other may still send for long.
    pub tcp_half_closed: Duration,
    /// TCP closing or reset (RFC 5382 REQ-5: at least 4 min).
    pub tcp_transitory: Duration,
    /// TCP not yet open (RFC 4987: short).
    pub tcp_half_open: Duration,
    /// UDP without an answer (RFC 4787 REQ-5: at least 2 min).
    pub udp_unreplied: Duration,
    /// UDP answered.
    pub udp_replied: Duration,
    /// SCTP open: heartbeats come every 30 s (RFC 9260 section 16).
    pub sctp_established: Duration,
}

impl Timeouts {
    /// The longest a timeout may be: the table's clock has 16 bits of seconds, and the sweep needs some of them.
    pub const MAX: Duration = Duration::from_secs(60_000);

    /// Idle seconds allowed in a state.
    #[must_use]
    pub fn secs(&self, state: State) -> u16 {
        let limit = match state {
            State::SynSent | State::Repeated | State::OneWay | State::SynReceived => {
                self.tcp_half_open
            }
            State::Established => self.tcp_established,
            State::PickedUp | State::Closing | State::Reset => self.tcp_transitory,
            State::ClientFin | State::BackendFin => self.tcp_half_closed,
            State::Unreplied => self.udp_unreplied,
            State::UdpReplied => self.udp_replied,
            State::SctpEstablished => self.sctp_established,
        };
        u16::try_from(limit.min(Self::MAX).as_secs()).unwrap_or(u16::MAX).max(1)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            tcp_established: secs(7440),
            tcp_half_closed: secs(3600),
            tcp_transitory: secs(240),
            tcp_half_open: secs(30),
            udp_unreplied: secs(120),
            udp_replied: secs(300),
            sctp_established: secs(210),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (direction, flags) from a fresh SYN on, and the state each leads to.
    #[test]
    fn ordinary_segments_change_no_state_that_does_not_say_so() {
        for state in State::ALL {
            for reply in [false, true] {
                let changes = (0..=255u8)
                    .filter(|flags| flags & (SYN | FIN | RST) == 0)
                    .any(|flags| state.after_tcp(reply, flags) != state);
                let datagram = state == State::Unreplied && reply;
                assert_eq!(
                    state.moves_by_any_packet(reply),
                    changes || datagram,
                    "{state:?} {reply}"
                );
            }
        }
    }

    #[test]
    fn legal_sequences_reach_their_states() {
        const CLIENT: bool = false;
        const BACKEND: bool = true;
        type Steps = &'static [(bool, u8, State)];
        let cases: &[(&str, State, Steps)] = &[
            (
                "open, close by client",
                State::SynSent,
                &[
                    (BACKEND, SYN | ACK, State::SynReceived),
                    (CLIENT, ACK, State::Established),
                    (CLIENT, FIN | ACK, State::ClientFin),
                    (BACKEND, ACK, State::ClientFin),
                    (BACKEND, FIN | ACK, State::Closing),
                    (CLIENT, ACK, State::Closing),
                ],
            ),
            (
                "close by backend, data after FIN, FIN again",
                State::Established,
                &[
                    (BACKEND, FIN | ACK, State::BackendFin),
                    (CLIENT, ACK, State::BackendFin),
                    (BACKEND, FIN | ACK, State::BackendFin),
                    (CLIENT, FIN | ACK, State::Closing),
                ],
            ),
            (
                "simultaneous open",
                State::SynSent,
                &[
                    (BACKEND, SYN, State::SynReceived),
                    (CLIENT, SYN | ACK, State::SynReceived),
                    (BACKEND, SYN | ACK, State::SynReceived),
                    (CLIENT, ACK, State::Established),
                ],
            ),
            (
                "picked up: answered, or refused",
                State::PickedUp,
                &[
                    (CLIENT, ACK, State::PickedUp),
                    (BACKEND, ACK, State::Established),
                    (BACKEND, RST, State::Reset),
                ],
            ),
            (
                "a forged RST leaves traffic possible",
                State::Established,
                &[
                    (CLIENT, RST, State::Reset),
                    (BACKEND, ACK, State::Reset),
                    (CLIENT, FIN | ACK, State::Reset),
                ],
            ),
            (
                "the SYN again and again: nobody answers, until somebody does",
                State::SynSent,
                &[
                    (CLIENT, SYN, State::Repeated),
                    (CLIENT, FIN | ACK, State::Repeated),
                    (CLIENT, SYN, State::OneWay),
                    (CLIENT, SYN, State::OneWay),
                    (BACKEND, SYN | ACK, State::SynReceived),
                    (CLIENT, ACK, State::Established),
                ],
            ),
            (
                "one answer later than one repetition",
                State::SynSent,
                &[(CLIENT, SYN, State::Repeated), (BACKEND, SYN | ACK, State::SynReceived)],
            ),
            (
                "answers take another way, and at last the one through here",
                State::SynSent,
                &[
                    (CLIENT, ACK, State::OneWay),
                    (CLIENT, FIN | ACK, State::OneWay),
                    (BACKEND, ACK, State::Established),
                ],
            ),
            (
                "a FIN does not open what is half open",
                State::SynSent,
                &[
                    (CLIENT, FIN, State::SynSent),
                    (CLIENT, FIN | ACK, State::SynSent),
                    (BACKEND, SYN | ACK, State::SynReceived),
                    (CLIENT, FIN, State::SynReceived),
                    (CLIENT, FIN | ACK, State::ClientFin),
                ],
            ),
            (
                "nor what was picked up, before the backend knows it",
                State::PickedUp,
                &[(CLIENT, FIN | ACK, State::PickedUp), (BACKEND, FIN | ACK, State::BackendFin)],
            ),
            (
                "a SYN in an open connection changes nothing",
                State::Established,
                &[(CLIENT, SYN, State::Established)],
            ),
        ];
        for (name, start, steps) in cases {
            let mut state = *start;
            for (i, (reply, flags, expected)) in steps.iter().enumerate() {
                state = state.after_tcp(*reply, *flags);
                assert_eq!(state, *expected, "{name}, step {i}");
            }
        }
    }

    #[test]
    fn sctp_associations_open_and_close() {
        use sctp_chunks::*;
        const CLIENT: bool = false;
        const BACKEND: bool = true;
        const DATA: u8 = 0;
        type Steps = &'static [(bool, u8, State)];
        let cases: &[(&str, State, Steps)] = &[
            (
                "open, shut down by backend",
                State::SynSent,
                &[
                    (BACKEND, INIT_ACK, State::SynReceived),
                    (CLIENT, COOKIE_ECHO, State::SctpEstablished),
                    (BACKEND, COOKIE_ACK, State::SctpEstablished),
                    (CLIENT, DATA, State::SctpEstablished),
                    (BACKEND, SHUTDOWN, State::Closing),
                    (CLIENT, SHUTDOWN_ACK, State::Closing),
                    (BACKEND, SHUTDOWN_COMPLETE, State::Closing),
                ],
            ),
            (
                "refused",
                State::SynSent,
                &[(BACKEND, ABORT, State::Reset), (CLIENT, DATA, State::Reset)],
            ),
            (
                "picked up",
                State::PickedUp,
                &[(CLIENT, DATA, State::PickedUp), (BACKEND, DATA, State::SctpEstablished)],
            ),
            (
                "what was never open does not look so",
                State::SynSent,
                &[
                    (CLIENT, SHUTDOWN, State::SynSent),
                    (CLIENT, COOKIE_ECHO, State::OneWay),
                    (CLIENT, SHUTDOWN, State::OneWay),
                    (BACKEND, COOKIE_ACK, State::SctpEstablished),
                ],
            ),
            (
                "the INIT again and again",
                State::SynSent,
                &[
                    (CLIENT, INIT, State::Repeated),
                    (CLIENT, INIT, State::OneWay),
                    (BACKEND, INIT_ACK, State::SynReceived),
                ],
            ),
        ];
        for (name, start, steps) in cases {
            let mut state = *start;
            for (i, (reply, chunk, expected)) in steps.iter().enumerate() {
                state = state.after_sctp(*reply, *chunk);
                assert_eq!(state, *expected, "{name}, step {i}");
            }
        }
    }

    #[test]
    fn defaults_keep_the_minimums_of_the_rfcs() {
        let timeouts = Timeouts::default();
        assert!(timeouts.secs(State::Established) >= 7440, "RFC 5382 REQ-5");
        assert!(timeouts.secs(State::Closing) >= 240, "RFC 5382 REQ-5");
        assert!(timeouts.secs(State::Unreplied) >= 120, "RFC 4787 REQ-5");
    }
}
