//! How pictures look: light ground, colours that the colour-blind can tell apart, text large enough to read, and the
//! legend beside the picture, where it covers nothing.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type DrawError =
    DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;

/// Width of a character of the small text, in pixels, as browsers draw it.
const CHARACTER: f64 = 6.6;
pub(super) const TEXT: RGBColor = RGBColor(30, 30, 30);
pub(super) const GRID: RGBColor = RGBColor(225, 225, 225);
pub(super) const TARGET: RGBColor = RGBColor(200, 30, 30);
pub(super) const TARGET_NAME: &str = "target";

/// Okabe and Ito's colours, the yellow left out; then they repeat.
pub(super) fn colour(index: usize) -> RGBColor {
    const COLOURS: [(u8, u8, u8); 6] = [
        (0, 114, 178),
        (230, 159, 0),
        (0, 158, 115),
        (204, 121, 167),
        (86, 180, 233),
        (213, 94, 0),
    ];
    let (red, green, blue) = COLOURS[index % COLOURS.len()];
    RGBColor(red, green, blue)
}

/// From middle to dark and light; then they repeat.
pub(super) fn grey(index: usize) -> RGBColor {
    let level = [125, 60, 175][index % 3];
    RGBColor(level, level, level)
}

pub(super) fn small() -> TextStyle<'static> {
    ("sans-serif", 15).into_font().color(&TEXT)
}

pub(super) fn small_at(horizontal: HPos) -> TextStyle<'static> {
    small().pos(Pos::new(horizontal, VPos::Center))
}

/// Pixels that a small text takes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the length of a label"
)]
pub(super) fn width(text: &str) -> u32 {
    (text.chars().count() as f64 * CHARACTER) as u32
}

/// Where a tick or bar is on its axis.
#[expect(clippy::cast_precision_loss, reason = "a number of ticks or bars")]
pub(super) fn place(index: usize) -> f64 {
    index as f64
}

/// Puts title and caption on a new ground; what is between them is left.
pub(super) fn ground<'a>(
    svg: &'a mut String,
    size: (u32, u32),
    title: &str,
    caption: &str,
) -> Result<Area<'a>, DrawError> {
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let large = ("sans-serif", 22).into_font().style(FontStyle::Bold).color(&TEXT);
    let middle = i32::try_from(size.0 / 2).unwrap_or(0);
    let centre = Pos::new(HPos::Center, VPos::Center);
    root.draw(&Text::new(title.to_owned(), (middle, 22), large.pos(centre)))?;
    let bottom = i32::try_from(size.1).unwrap_or(0) - 14;
    let tiny = ("sans-serif", 13).into_font().color(&TEXT).pos(Pos::new(HPos::Left, VPos::Center));
    root.draw(&Text::new(caption.to_owned(), (12, bottom), tiny))?;
    Ok(root.margin(40, 30, 10, 10))
}

/// Names and colours, one below the other.
pub(super) fn legend<'n>(
    area: &Area<'_>,
    entries: impl Iterator<Item = (&'n str, RGBColor)>,
) -> Result<(), DrawError> {
    for ((name, colour), y) in entries.zip((20..).step_by(24)) {
        area.draw(&Rectangle::new([(8, y - 5), (28, y + 5)], colour.filled()))?;
        area.draw(&Text::new(name.to_owned(), (36, y), small_at(HPos::Left)))?;
    }
    Ok(())
}
