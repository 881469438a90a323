//! Values side by side: a bar a case with its name and figure, whiskers for spread, a stroke where the target is.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::style::{
    DrawError, GRID, TARGET, TARGET_NAME, TEXT, colour, ground, legend, place, small, small_at,
    width,
};
use super::{Bar, Chart};
use crate::report::number::{show, tick};

const WIDTH: u32 = 1000;
/// Height of a bar with its distance to the next.
const ROW: u32 = 34;
/// Where figures end, to the right of all bars, as a share of the longest.
const FIGURE: f64 = 1.18;

/// The picture as SVG, as high as it has bars.
pub(super) fn draw(chart: &Chart, bars: &[Bar], caption: &str) -> Result<String, DrawError> {
    let rows = u32::try_from(bars.len()).unwrap_or(u32::MAX);
    let longest = bars.iter().flat_map(|bar| [bar.value.high, bar.value.target.unwrap_or(0.0)]);
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    let has_target = bars.iter().any(|bar| bar.value.target.is_some());
    let mut svg = String::new();
    {
        let ground = ground(&mut svg, (WIDTH, rows * ROW + 150), &chart.title, caption)?;
        let beside = if has_target { width(TARGET_NAME) + 56 } else { 10 };
        let (main, side) = ground.split_horizontally(WIDTH - 20 - beside);
        let names = bars.iter().map(|bar| width(&bar.name)).max().unwrap_or(0) + 24;
        let mut context = ChartBuilder::on(&main)
            .x_label_area_size(54)
            .y_label_area_size(names)
            .margin(8)
            .build_cartesian_2d(0.0..longest * FIGURE, place(bars.len()) - 0.5..-0.5)?;
        context
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(GRID)
            .max_light_lines(1)
            .axis_style(TEXT)
            .label_style(small())
            .axis_desc_style(small())
            .x_desc(chart.values.as_str())
            .x_label_formatter(&|x| tick(*x))
            .draw()?;
        for (index, Bar { name, value }) in bars.iter().enumerate() {
            let at = place(index);
            let bar = [(0.0, at - 0.32), (value.median, at + 0.32)];
            context.draw_series([Rectangle::new(bar, colour(0).mix(0.75).filled())])?;
            context.draw_series([ErrorBar::new_horizontal(
                at,
                value.low,
                value.median,
                value.high,
                TEXT.filled(),
                10,
            )])?;
            if let Some(target) = value.target {
                let stroke = [(target, at - 0.45), (target, at + 0.45)];
                context.draw_series([PathElement::new(stroke, TARGET.stroke_width(3))])?;
            }
            let area = context.plotting_area();
            area.draw(
                &(EmptyElement::at((longest * FIGURE, at))
                    + Text::new(show(value.median), (-4, 0), small_at(HPos::Right))),
            )?;
            area.draw(
                &(EmptyElement::at((0.0, at))
                    + Text::new(name.clone(), (-8, 0), small_at(HPos::Right))),
            )?;
        }
        legend(&side, has_target.then_some((TARGET_NAME, TARGET)).into_iter())?;
        ground.present()?;
    }
    Ok(svg)
}
