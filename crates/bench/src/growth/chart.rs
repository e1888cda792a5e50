//! The drawing of a series: cost above, latency below, both over a logarithmic axis.

use std::path::Path;

use anyhow::anyhow;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::Point;
use super::series::Series;

const SIZE: (u32, u32) = (720, 480);
const TITLE_HEIGHT: u32 = 32;
const FONT: &str = "sans-serif";

/// A line of a panel.
struct Line<'a> {
    label: &'a str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Writes the chart of a series.
pub(super) fn draw(path: &Path, series: &Series, points: &[Point]) -> anyhow::Result<()> {
    // Errors of the library borrow from its surface.
    try_draw(path, series, points).map_err(|error| anyhow!("{error}"))
}

fn try_draw(
    path: &Path,
    series: &Series,
    points: &[Point],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(series.title, (FONT, 20))?;
    let (cost, latency) = root.split_vertically((SIZE.1 - TITLE_HEIGHT) / 2);
    let line = |label, colour, value: &dyn Fn(&Point) -> Option<f64>| Line {
        label,
        colour,
        points: points
            .iter()
            .filter_map(|point| Some((point.x as f64, value(point)?)))
            .collect(),
    };
    let drains = points.iter().any(|point| point.drain_cpu_us.is_some());
    let first = if drains {
        "filling"
    } else {
        "publish to acknowledgement"
    };
    panel(
        &cost,
        "µs of CPU a message, all nodes",
        series.axis,
        &[
            line(first, BLUE, &|point| Some(point.cpu_us)),
            line("draining", RED, &|point| point.drain_cpu_us),
        ],
    )?;
    if drains {
        panel(
            &latency,
            "MiB resident, a node",
            series.axis,
            &[line("memory when full", BLACK, &|point| {
                Some(point.rss_mib)
            })],
        )?;
    } else {
        panel(
            &latency,
            "ms from publish to confirm",
            series.axis,
            &[
                line("median", BLUE, &|point| point.confirm_p50_ms),
                line("99 %", RED, &|point| point.confirm_p99_ms),
            ],
        )?;
    }
    root.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    y_axis: &str,
    x_axis: &str,
    lines: &[Line<'_>],
) -> Result<(), Box<dyn std::error::Error>> {
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let low = all().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
    let high = all().map(|(x, _)| *x).fold(0.0, f64::max);
    let top = all().map(|(_, y)| *y).fold(0.0, f64::max);
    if !low.is_finite() {
        return Ok(());
    }
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(
            (low.max(1.0)..high.max(low + 1.0)).log_scale(),
            RangedCoordf64::from(0.0..(top * 1.15).max(0.1)),
        )?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(x_axis)
        .y_desc(y_axis)
        .x_label_formatter(&|x| crate::output::thousands(*x))
        .draw()?;
    for line in lines.iter().filter(|line| !line.points.is_empty()) {
        let colour = line.colour;
        chart
            .draw_series(LineSeries::new(
                line.points.iter().copied(),
                colour.stroke_width(2),
            ))?
            .label(line.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(
            line.points
                .iter()
                .map(|point| Circle::new(*point, 3, colour.filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::growth::series::SERIES;

    #[test]
    fn a_chart_holds_its_lines() {
        let path = std::env::temp_dir().join(format!("warren-chart-{}.svg", std::process::id()));
        let points: Vec<_> = [1, 10, 100]
            .map(|x| Point {
                x,
                cpu_us: 5.0 + x as f64,
                confirm_p50_ms: Some(0.5),
                confirm_p99_ms: Some(2.0),
                ..Point::default()
            })
            .into();
        draw(&path, &SERIES[1], &points).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(svg.contains("Durable queues"), "{svg}");
        assert!(svg.matches("<polyline").count() >= 3, "{svg}");
    }
}
