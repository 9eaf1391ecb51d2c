//! Drawing: a plot as SVG, on white whatever the page around it looks like.
//!
//! Text is left to who shows it (`sans-serif`), so its width is only estimated here, generously.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ticks::Ticks;
use super::{Line, Marks, Plot, Scale};
use crate::figure::grouped;

const WIDTH: i32 = 760;
/// Of a plot of lines, without the legend.
const HEIGHT: i32 = 400;
/// The thickness of a bar, and the gap between two groups.
const BAR: i32 = 15;
const GAP: i32 = 12;
const TITLE: i32 = 17;
const TEXT: i32 = 13;
const MARGIN: i32 = 12;
/// How wide a letter is at most, on average, at the size of the text.
const LETTER: f64 = 0.56 * TEXT as f64;

const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
const GOAL: RGBColor = RGBColor(120, 120, 120);
/// Told apart by everybody, colour-blind or not (the palette of Okabe and Ito, without its yellow), the main one first.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The plot as an SVG document.
pub(crate) fn svg(plot: &Plot) -> Result<String> {
    let mut text = String::new();
    let legend = Legend::of(plot);
    let height = legend.bottom
        + match &plot.marks {
            Marks::Lines { .. } => HEIGHT,
            Marks::Bars { series, groups } => {
                let group = BAR * i32::try_from(series.len())? + GAP;
                group * i32::try_from(groups.len())? + 4 * TEXT
            }
        };
    let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = root
            .fill(&WHITE)
            .map_err(|error| anyhow!("{error}"))
            .and_then(|()| {
                legend.draw(&root, plot)?;
                let (_, below) = root.split_vertically(legend.bottom);
                match &plot.marks {
                    Marks::Lines {
                        along,
                        scale,
                        lines,
                    } => draw_lines(&below, plot, along, *scale, lines),
                    Marks::Bars { series, groups } => draw_bars(&below, plot, series, groups),
                }
            })
            .and_then(|()| root.present().map_err(|error| anyhow!("{error}")));
        drawn.map_err(|error| error.context(format!("cannot draw {}", plot.name)))?;
    }
    Ok(text)
}

/// Title and names, above what is drawn: nothing lies over the lines.
struct Legend {
    /// Left end, height and series of each name.
    names: Vec<(i32, i32, String)>,
    bottom: i32,
}

impl Legend {
    fn of(plot: &Plot) -> Self {
        let series: Vec<&String> = match &plot.marks {
            Marks::Lines { lines, .. } => lines.iter().map(|line| &line.name).collect(),
            Marks::Bars { series, .. } => series.iter().collect(),
        };
        let top = MARGIN + TITLE + 12;
        // A single one is what the title says.
        if series.len() < 2 {
            return Legend {
                names: Vec::new(),
                bottom: top,
            };
        }
        let (mut x, mut y) = (MARGIN, top);
        let mut names = Vec::new();
        for name in series {
            let width = 24 + text_width(name) + 18;
            if x > MARGIN && x + width > WIDTH {
                (x, y) = (MARGIN, y + TEXT + 7);
            }
            names.push((x, y, name.clone()));
            x += width;
        }
        Legend {
            names,
            bottom: y + TEXT + 10,
        }
    }

    fn draw(&self, root: &Area<'_>, plot: &Plot) -> Result<()> {
        let title = ("sans-serif", TITLE, FontStyle::Bold)
            .into_font()
            .color(&INK);
        root.draw_text(&plot.title, &title, (MARGIN, MARGIN))?;
        for (number, (x, y, name)) in self.names.iter().enumerate() {
            let middle = y + TEXT / 2;
            root.draw(&Rectangle::new(
                [(*x, middle - 3), (x + 18, middle + 3)],
                color(number).filled(),
            ))?;
            root.draw_text(name, &text(), (x + 24, *y))?;
        }
        Ok(())
    }
}

fn draw_lines(
    area: &Area<'_>,
    plot: &Plot,
    along: &str,
    scale: Scale,
    lines: &[Line],
) -> Result<()> {
    let place = |x: f64| match scale {
        Scale::Linear => x,
        Scale::Log => x.log10(),
    };
    // The ticks are where something was measured, and nowhere else.
    let mut ticks: Vec<f64> = lines
        .iter()
        .flat_map(|line| line.points.iter().map(|(x, _)| *x))
        .collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else {
        return Ok(());
    };
    let margin = (place(*last) - place(*first)) * 0.03;
    let range = place(*first) - margin..place(*last) + margin;
    let axis = ticks
        .iter()
        .map(|tick| (place(*tick), number(*tick)))
        .collect();

    let top = nice_top(plot);
    let mut chart = ChartBuilder::on(area)
        .margin_right(MARGIN + 16)
        .margin_left(MARGIN)
        .margin_top(4)
        .margin_bottom(MARGIN)
        .x_label_area_size(44)
        .y_label_area_size(i32::max(56, text_width(&number(top)) + 34))
        .build_cartesian_2d(Ticks::new(range.clone(), axis), plot.from..top)?;
    chart
        .configure_mesh()
        .x_desc(along)
        .y_desc(&plot.values)
        .label_style(text())
        .axis_desc_style(text())
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .y_labels(7)
        .y_label_formatter(&|value| number(*value))
        .draw()?;
    if let Some((goal, name)) = &plot.goal {
        let line = [(range.start, *goal), (range.end, *goal)];
        chart.draw_series(DashedLineSeries::new(line, 5, 4, GOAL.into()))?;
        let style = text().color(&GOAL).pos(Pos::new(HPos::Right, VPos::Bottom));
        let above = EmptyElement::at((range.end, *goal)) + Text::new(name.clone(), (0, -3), style);
        chart.draw_series([above])?;
    }
    for (number, line) in lines.iter().enumerate() {
        let color = color(number);
        let points = || line.points.iter().map(|(x, y)| (place(*x), *y));
        chart.draw_series(LineSeries::new(points(), color.stroke_width(2)))?;
        chart.draw_series(points().map(|point| Circle::new(point, 3, color.filled())))?;
    }
    Ok(())
}

fn draw_bars(
    area: &Area<'_>,
    plot: &Plot,
    series: &[String],
    groups: &[(String, Vec<f64>)],
) -> Result<()> {
    let width = groups.iter().map(|(name, _)| text_width(name)).max();
    let count = groups.len() as f64;
    let top = nice_top(plot);
    // A group is one high, the first one at the top.
    let middle = |group: usize| count - group as f64 - 0.5;
    let names = groups.iter().enumerate();
    let names = names.map(|(group, (name, _))| (middle(group), name.clone()));
    let mut chart = ChartBuilder::on(area)
        .margin_left(MARGIN)
        // The longest bar has its value beside it.
        .margin_right(MARGIN + 50)
        .margin_bottom(MARGIN)
        .x_label_area_size(40)
        .y_label_area_size(width.unwrap_or(0) + 8)
        .build_cartesian_2d(
            plot.from..top,
            Ticks::new(0.0..count, names.collect()),
        )?;
    chart
        .configure_mesh()
        .x_desc(&plot.values)
        .label_style(text())
        .axis_desc_style(text())
        .axis_style(INK)
        .disable_y_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_labels(6)
        .x_label_formatter(&|value| number(*value))
        .draw()?;
    let group_height = f64::from(BAR * i32::try_from(series.len())? + GAP);
    let bar = f64::from(BAR) / group_height;
    for (group, (_, values)) in groups.iter().enumerate() {
        let first = middle(group) + bar * series.len() as f64 / 2.0;
        for (number, value) in values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            let upper = first - bar * number as f64;
            let corners = [(plot.from, upper), (*value, upper - bar * 0.88)];
            chart.draw_series([Rectangle::new(corners, color(number).filled())])?;
            let style = text().pos(Pos::new(HPos::Left, VPos::Center));
            let beside = EmptyElement::at((*value, upper - bar * 0.44))
                + Text::new(self::number(*value), (5, 0), style);
            chart.draw_series([beside])?;
        }
    }
    if let Some((goal, _)) = &plot.goal {
        let line = [(*goal, 0.0), (*goal, count)];
        chart.draw_series(DashedLineSeries::new(line, 5, 4, GOAL.into()))?;
    }
    Ok(())
}

fn text() -> TextStyle<'static> {
    ("sans-serif", TEXT).into_font().color(&INK)
}

fn color(series: usize) -> RGBColor {
    COLORS[series % COLORS.len()]
}

fn text_width(text: &str) -> i32 {
    (text.chars().count() as f64 * LETTER).ceil() as i32
}

/// Where the axis of values ends: a little above the largest.
fn nice_top(plot: &Plot) -> f64 {
    let largest = plot.largest();
    if largest > plot.from {
        plot.from + (largest - plot.from) * 1.08
    } else {
        plot.from + 1.0
    }
}

/// As few digits as tell it apart from its neighbours on an axis.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if digits == 0 {
        return grouped(value);
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(1_000_000.0), "1,000,000");
        assert_eq!(number(0.25), "0.25");
        assert_eq!(number(2.0), "2");
        assert_eq!(number(12.34), "12.3");
    }

    #[test]
    fn a_plot_says_all_that_it_was_given() {
        let lines = Plot::lines("lines", "Over entries", "entries", Scale::Log, "µs")
            .line("few", vec![(1_000.0, 0.2), (10_000.0, 0.3)])
            .line("all", vec![(1_000.0, 0.2), (10_000.0, 0.9)])
            .goal(0.5, "the goal");
        let bars = Plot::bars("bars", "Peers", ["1 client", "4 clients"], "per second")
            .group("a <floor>", vec![17_605.0, 117_948.0])
            .group("not measured", vec![f64::NAN, 5.0]);
        for (plot, said) in [
            (lines, ["Over entries", "10,000", "µs", "few", "the goal"]),
            (
                bars,
                [
                    "Peers",
                    "117,948",
                    "a &lt;floor&gt;",
                    "4 clients",
                    "not measured",
                ],
            ),
        ] {
            let drawn = svg(&plot);
            let Ok(drawn) = drawn else {
                unreachable!("{drawn:?}")
            };
            for text in said {
                assert!(drawn.contains(text), "{text} is missing in {drawn}");
            }
            assert!(!drawn.contains("NaN"));
            if let Some(folder) = std::env::var_os("PLOTS") {
                std::fs::write(std::path::Path::new(&folder).join(plot.name), drawn).unwrap();
            }
        }
    }
}
