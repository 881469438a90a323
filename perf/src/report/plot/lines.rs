//! Values over a quantity: a line a series, whiskers for spread, a cross where the target is.

use plotters::chart::ChartContext;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::style::{
    DrawError, GRID, TARGET, TARGET_NAME, TEXT, colour, grey, ground, legend, place, small,
    small_at, width,
};
use super::{Chart, Line};
use crate::report::number::tick;

const SIZE: (u32, u32) = (1000, 560);
/// From this ratio of the greatest to the least on, values are drawn on a logarithmic scale.
const WIDE: f64 = 30.0;

/// The picture as SVG. Ticks stand at equal distances, whatever they are.
pub(super) fn draw(
    chart: &Chart,
    over: &str,
    ticks: &[String],
    series: &[Line],
    caption: &str,
) -> Result<String, DrawError> {
    let values = || series.iter().flat_map(|line| &line.points).map(|(_, value)| value);
    let ends = || values().flat_map(|v| [Some(v.low), Some(v.high), v.target]).flatten();
    let (least, greatest) = (ends().fold(f64::INFINITY, f64::min), ends().fold(0.0, f64::max));
    let mut svg = String::new();
    {
        let ground = ground(&mut svg, SIZE, &chart.title, caption)?;
        let names = series.iter().map(|line| line.name.as_str());
        let beside = names.chain([TARGET_NAME]).map(width).max().unwrap_or(0) + 56;
        let (main, side) = ground.split_horizontally(SIZE.0 - 20 - beside);
        let mut builder = ChartBuilder::on(&main);
        builder.x_label_area_size(54).y_label_area_size(84).margin(8);
        let x = -0.4..place(ticks.len()) - 0.6;
        let plot = Plot { over, values: &chart.values, ticks, series };
        if least > 0.0 && greatest / least >= WIDE {
            let y = (least * 0.8..greatest * 1.3).log_scale();
            plot.fill(builder.build_cartesian_2d(x, y)?)?;
        } else {
            plot.fill(builder.build_cartesian_2d(x, 0.0..greatest.max(f64::MIN_POSITIVE) * 1.08)?)?;
        }
        let lines = coloured(series).map(|(line, colour)| (line.name.as_str(), colour));
        let target = values().any(|value| value.target.is_some()).then_some((TARGET_NAME, TARGET));
        legend(&side, lines.chain(target))?;
        ground.present()?;
    }
    Ok(svg)
}

/// What is drawn between the axes, whichever scale they have.
struct Plot<'a> {
    over: &'a str,
    values: &'a str,
    ticks: &'a [String],
    series: &'a [Line],
}

type Context<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;

impl Plot<'_> {
    fn fill<'b, Y>(&self, mut context: Context<'_, 'b, Y>) -> Result<(), DrawError>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        context
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .max_light_lines(1)
            .axis_style(TEXT)
            .label_style(small())
            .axis_desc_style(small())
            .x_desc(self.over)
            .y_desc(self.values)
            .x_labels(0)
            .y_label_formatter(&|y| tick(*y))
            .draw()?;
        let bottom = context.y_range().start;
        let below = small_at(HPos::Center);
        for (index, name) in self.ticks.iter().enumerate() {
            let label = Text::new(name.clone(), (0, 14), below.clone());
            context.plotting_area().draw(&(EmptyElement::at((place(index), bottom)) + label))?;
        }
        for (Line { points, .. }, colour) in coloured(self.series) {
            let medians = points.iter().map(|(x, value)| (place(*x), value.median));
            context.draw_series(LineSeries::new(medians, colour.stroke_width(2)))?;
            context.draw_series(points.iter().map(|(x, v)| {
                ErrorBar::new_vertical(place(*x), v.low, v.median, v.high, colour.filled(), 10)
            }))?;
            let targets = points.iter().filter_map(|(x, value)| Some((place(*x), value.target?)));
            context.draw_series(targets.map(|at| Cross::new(at, 7, TARGET.stroke_width(2))))?;
        }
        Ok(())
    }
}

/// Lines with their colours: greys for what others are held against.
fn coloured(series: &[Line]) -> impl Iterator<Item = (&Line, RGBColor)> {
    let [mut colours, mut greys] = [0, 0];
    series.iter().map(move |line| {
        let (next, palette): (_, fn(usize) -> RGBColor) =
            if line.reference { (&mut greys, grey) } else { (&mut colours, colour) };
        *next += 1;
        (line, palette(*next - 1))
    })
}
