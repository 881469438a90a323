//! How the server misbehaves.

#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Every request is refused with this status, and every watch ends.
    pub(crate) refuse: Option<u16>,
    /// Lists of this resource hang.
    pub(crate) hold_lists: Option<&'static str>,
    /// Objects per page, whatever the client asks.
    pub(crate) page: Option<usize>,
    /// Every page but the first fails with this status.
    pub(crate) later_pages: Option<u16>,
    /// Every watch is refused with this status.
    pub(crate) refuse_watches: Option<u16>,
    /// Watches say nothing.
    pub(crate) mute: bool,
    /// Watches end in the middle of their next line.
    pub(crate) tear: bool,
}
