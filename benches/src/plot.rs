//! Curves as SVG: a line for each series over a logarithmic axis.

use std::fmt::Write;

/// A line.
#[derive(Debug, Clone)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// Its points, the first number along the bottom.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 60.0;
const COLOURS: [&str; 4] = ["#0b6e99", "#c2510a", "#5b8c2a", "#7a4fa3"];

/// Draws them. The axis at the bottom is logarithmic, the other begins at zero.
pub fn svg(title: &str, bottom: &str, left: &str, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|line| line.points.iter().copied());
    let least = points().map(|(x, _)| x).fold(f64::INFINITY, f64::min);
    let most = points().map(|(x, _)| x).fold(least, f64::max);
    let highest = points()
        .map(|(_, y)| y)
        .fold(0.0, f64::max)
        .max(f64::MIN_POSITIVE);
    let span = (most / least).ln().max(f64::MIN_POSITIVE);
    let across = |x: f64| MARGIN + (x / least).ln() / span * (WIDTH - 2.0 * MARGIN);
    let up = |y: f64| HEIGHT - MARGIN - y / highest * (HEIGHT - 2.0 * MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\
         <text x=\"{MARGIN}\" y=\"20\" font-size=\"14\">{title}</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{bottom}</text>\
         <text x=\"8\" y=\"{}\">{left}</text>",
        WIDTH / 2.0,
        HEIGHT - 12.0,
        MARGIN - 12.0,
    );
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let y = up(highest * share);
        put(
            &mut text,
            format_args!(
                "<line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - MARGIN,
                MARGIN - 6.0,
                y + 4.0,
                short(highest * share),
            ),
        );
    }
    let mut marks: Vec<f64> = points().map(|(x, _)| x).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    for x in marks {
        put(
            &mut text,
            format_args!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                across(x),
                HEIGHT - MARGIN + 18.0,
                short(x),
            ),
        );
    }
    for (line, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let place = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", across(*x), up(*y));
        let path: Vec<_> = line.points.iter().map(place).collect();
        put(
            &mut text,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" "),
            ),
        );
        if let Some((x, y)) = line.points.last() {
            put(
                &mut text,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\" text-anchor=\"end\">{}</text>",
                    across(*x),
                    up(*y) - 6.0,
                    line.name,
                ),
            );
        }
    }
    text.push_str("</svg>\n");
    text
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    _ = text.write_fmt(what);
}

fn short(number: f64) -> String {
    if number >= 1e6 {
        format!("{}M", (number / 1e5).round() / 10.0)
    } else if number >= 1e3 {
        format!("{}k", (number / 1e2).round() / 10.0)
    } else {
        format!("{}", (number * 100.0).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_within_the_frame() {
        let points = vec![(100.0, 5.0), (1e6, 10.0)];
        let name = "a".to_owned();
        let drawn = svg("t", "x", "y", &[Series { name, points }]);
        assert!(
            drawn.contains("points=\"60.0,180.0 580.0,60.0\""),
            "{drawn}"
        );
        assert!(drawn.contains(">1M<") && drawn.contains(">100<"));
    }
}
