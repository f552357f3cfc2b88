//! Throughput over the faults, as a picture.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::began;
use crate::checker::Facts;
use crate::clock::Micros;
use crate::nemesis::{Deed, Fault};

const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 40.0;
const SECOND: Micros = 1_000_000;

/// Tasks accepted and runs ended in each second, with what was done to the system behind them.
pub fn plot(facts: &Facts) -> String {
    let began = began(facts);
    let end = facts.healed_at + facts.drained_in.map_or(0, crate::clock::micros) + SECOND;
    let seconds = usize::try_from(end.saturating_sub(began) / SECOND).unwrap_or(0) + 1;
    let mut accepted = vec![0_u32; seconds];
    let mut ended = vec![0_u32; seconds];
    let count = |counts: &mut Vec<u32>, at: Micros| {
        let second = usize::try_from(at.saturating_sub(began) / SECOND).unwrap_or(usize::MAX);
        if let Some(count) = counts.get_mut(second) {
            *count += 1;
        }
    };
    for event in &facts.events {
        if event.accepted().is_some() {
            count(&mut accepted, event.answered_at);
        }
    }
    for entry in facts.ledger.iter().filter(|entry| entry.end.is_some()) {
        count(&mut ended, entry.at);
    }
    let most = accepted
        .iter()
        .chain(&ended)
        .copied()
        .max()
        .unwrap_or(1)
        .max(1);
    let scale = Scale {
        began,
        across: (WIDTH - LEFT) / seconds as f64,
        up: (HEIGHT - TOP - BOTTOM) / f64::from(most),
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    let mut colours = BTreeMap::new();
    for deed in &facts.deeds {
        svg.push_str(&scale.band(deed));
        colours.insert(kind(deed).0, kind(deed).1);
    }
    svg.push_str(&scale.line(&accepted, "#7a7a7a"));
    svg.push_str(&scale.line(&ended, "#1b5e20"));
    svg.push_str(&axes(seconds, most, &scale));
    svg.push_str(&legend(&colours));
    svg.push_str("</svg>\n");
    svg
}

struct Scale {
    began: Micros,
    across: f64,
    up: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds * self.across
    }

    fn line(&self, counts: &[u32], colour: &str) -> String {
        let mut points = String::new();
        for (second, count) in counts.iter().enumerate() {
            let (x, y) = (
                self.x(second as f64 + 0.5),
                HEIGHT - BOTTOM - f64::from(*count) * self.up,
            );
            // Writing into a String does not fail.
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
        let points = points.trim_end();
        format!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n"
        )
    }

    fn band(&self, deed: &Deed) -> String {
        let from = deed.from.saturating_sub(self.began) as f64 / SECOND as f64;
        let lasts = deed
            .to
            .map_or(0.0, |to| (to - deed.from) as f64 / SECOND as f64);
        let (x, width) = (self.x(from), (lasts * self.across).max(1.0));
        let height = HEIGHT - TOP - BOTTOM;
        let colour = kind(deed).1;
        let title = format!("{:?} {} {}", deed.fault, deed.target, deed.note);
        format!(
            "<rect x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\" fill-opacity=\"0.3\"><title>{title}</title></rect>\n"
        )
    }
}

/// A group of deeds, and its colour.
fn kind(deed: &Deed) -> (&'static str, &'static str) {
    match deed.fault {
        Fault::Wipe | Fault::DiskFull => ("wiped, disk full", "#6a1b9a"),
        Fault::TableLock => ("table lock", "#5d4037"),
        _ if deed.target.starts_with("nats") => ("broker", "#c62828"),
        _ if deed.target.starts_with("postgres") => ("store", "#5d4037"),
        Fault::Cut | Fault::Partition | Fault::Dark | Fault::Deaf | Fault::Slow => {
            ("network", "#1565c0")
        }
        Fault::Pause => ("paused", "#f9a825"),
        _ if deed.target.starts_with("gateway") => ("gateway killed", "#ef6c00"),
        _ => ("worker killed", "#ad1457"),
    }
}

fn axes(seconds: usize, most: u32, scale: &Scale) -> String {
    let ground = HEIGHT - BOTTOM;
    let mut text = format!(
        "<path d=\"M{LEFT},{TOP} V{ground} H{WIDTH}\" fill=\"none\" stroke=\"#000000\"/>\n\
         <text x=\"4\" y=\"{:.0}\">{most}/s</text>\n<text x=\"4\" y=\"{ground}\">0</text>\n",
        TOP + 8.0
    );
    let step = (seconds / 10).max(1);
    for second in (0..=seconds).step_by(step) {
        let x = scale.x(second as f64);
        // Writing into a String does not fail.
        let _ = writeln!(
            text,
            "<text x=\"{x:.1}\" y=\"{:.0}\">{second} s</text>",
            ground + 13.0
        );
    }
    text
}

fn legend(colours: &BTreeMap<&str, &str>) -> String {
    let mut entries = vec![("accepted", "#7a7a7a"), ("runs ended", "#1b5e20")];
    entries.extend(colours.iter().map(|(name, colour)| (*name, *colour)));
    let mut text = String::new();
    for (at, (name, colour)) in entries.into_iter().enumerate() {
        let x = LEFT + at as f64 * 115.0;
        let y = HEIGHT - 10.0;
        // Writing into a String does not fail.
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{:.0}\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\">{name}</text>",
            y - 9.0,
            x + 14.0
        );
    }
    text
}
