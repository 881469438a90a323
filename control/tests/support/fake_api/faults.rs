//! How the server misbehaves.

#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Every request is refused with this status, and every watch ends.
    pub(crate) refuse: Option<u16>,
    /// Every watch is refused with this status.
    pub(crate) refuse_watches: Option<u16>,
    /// There is no such resource.
    pub(crate) unknown: Option<&'static str>,
    /// Lists of this resource hang.
    pub(crate) hold_lists: Option<&'static str>,
    /// Objects per page, whatever the client asks.
    pub(crate) page: Option<usize>,
    /// Every page but the first fails with this status.
    pub(crate) later_pages: Option<u16>,
    /// What watches do instead of telling what happened.
    pub(crate) watches: Option<BadWatch>,
}

/// A watch that goes wrong after it was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BadWatch {
    /// It says nothing, for ever.
    Mute,
    /// It ends at once.
    Ends,
    /// It ends in the middle of its next event.
    Torn,
    /// It says an ERROR with this code, and stays open.
    Error(u16),
    /// It says what is no JSON.
    Garbage,
}
