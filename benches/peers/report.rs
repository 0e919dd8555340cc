//! What goes to the terminal and to docs/bench.md: tables that read well on a terminal and are
//! Markdown, and plots.

use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

use crate::limits::Check;

#[derive(Default)]
pub struct Report {
    pub text: String,
    pub checks: Vec<Check>,
    pub plots: Vec<(&'static str, String)>,
    /// With another portmap.
    compared: Vec<Vec<String>>,
}

impl Report {
    pub fn section(&mut self, title: &str, text: &str, table: &Table) {
        println!("{title}\n\n{table}");
        let _ = write!(self.text, "\n## {title}\n\n{text}\n\n{table}");
    }

    pub fn plot(&mut self, file: &'static str, alt: &str, svg: String) {
        let _ = write!(self.text, "\n![{alt}]({file})\n");
        self.plots.push((file, svg));
    }

    pub fn compare(&mut self, what: &str, before: Duration, now: Duration, ratio: f64) {
        self.compared.push(vec![what.to_string(), time(before), time(now), format!("{ratio:.2}")]);
    }

    pub fn comparison(&self) -> Option<Table> {
        let head = vec!["of the two portmaps", "before", "now", "now, of before"];
        (!self.compared.is_empty()).then(|| Table { head, rows: self.compared.clone() })
    }
}

pub struct Table {
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let mut widths: Vec<usize> = self.head.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        // The first column to the left, figures to the right.
        let line = |f: &mut Formatter, cells: &mut dyn Iterator<Item = &str>| {
            for (index, (cell, &width)) in cells.zip(&widths).enumerate() {
                match index {
                    0 => write!(f, "| {cell:<width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)
        };
        line(f, &mut self.head.iter().copied())?;
        for (index, width) in widths.iter().enumerate() {
            match index {
                0 => write!(f, "|{:-<1$}|", "", width + 2)?,
                _ => write!(f, "{:-<1$}:|", "", width + 1)?,
            }
        }
        writeln!(f)?;
        self.rows.iter().try_for_each(|row| line(f, &mut row.iter().map(String::as_str)))
    }
}

/// `3.21 s`, `44.1 ms`, `43.0 µs`
pub fn time(time: Duration) -> String {
    let (value, unit) = match time.as_secs_f64() {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    match value {
        v if v >= 100.0 => format!("{v:.0} {unit}"),
        v if v >= 10.0 => format!("{v:.1} {unit}"),
        v => format!("{v:.2} {unit}"),
    }
}

pub fn memory(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

pub struct Bar {
    pub label: &'static str,
    pub value: Duration,
    /// The part of it that is shown apart, in another colour.
    pub part: Option<Duration>,
}

/// Horizontal bars on a panel of its own, so that it can be read on any page.
pub fn plot(title: &str, legend: Option<(&str, &str)>, bars: &[Bar]) -> String {
    const LEFT: f64 = 310.0;
    const ROOM: f64 = 400.0;
    const STEP: f64 = 28.0;
    let top = if legend.is_some() { 76.0 } else { 52.0 };
    let height = top + bars.len() as f64 * STEP + 12.0;
    let longest = bars.iter().map(|bar| bar.value.as_secs_f64()).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = String::new();
    let out = &mut svg;
    let _ = writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 {height}" width="820" height="{height}" role="img" aria-label="{title}">
<style>
  .panel {{ fill: #ffffff; stroke: #d0d7de }}
  text {{ fill: #1f2328; font: 13px system-ui, sans-serif }}
  .title {{ font-size: 15px; font-weight: 600 }}
  .ours {{ fill: #0969da }} .ours.part {{ fill: #7fb6f0 }}
  .peer {{ fill: #818b98 }} .peer.part {{ fill: #c0c6cd }}
  @media (prefers-color-scheme: dark) {{
    .panel {{ fill: #0d1117; stroke: #3d444d }}
    text {{ fill: #f0f6fc }}
    .ours {{ fill: #4493f8 }} .ours.part {{ fill: #1f4f8f }}
    .peer {{ fill: #9198a1 }} .peer.part {{ fill: #535a63 }}
  }}
</style>
<rect class="panel" x="0.5" y="0.5" width="819" height="{}" rx="6"/>
<text class="title" x="16" y="30">{title}</text>"##,
        height - 1.0,
    );
    if let Some((whole, part)) = legend {
        let _ = writeln!(
            out,
            r##"<rect class="peer part" x="{LEFT}" y="46" width="12" height="12"/><text x="{}" y="57">{part}</text>
<rect class="peer" x="{}" y="46" width="12" height="12"/><text x="{}" y="57">{whole}</text>"##,
            LEFT + 18.0,
            LEFT + 180.0,
            LEFT + 198.0,
        );
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = top + index as f64 * STEP;
        let scale = |time: Duration| ROOM * time.as_secs_f64() / longest;
        let width = scale(bar.value).max(1.0);
        let part = bar.part.map_or(0.0, scale).min(width);
        let class = if bar.label.starts_with("portmap") { "ours" } else { "peer" };
        let _ = writeln!(
            out,
            r##"<text x="{}" y="{}" text-anchor="end">{}</text>"##,
            LEFT - 10.0,
            y + 14.5,
            bar.label,
        );
        if part > 0.0 {
            let _ = writeln!(
                out,
                r##"<rect class="{class} part" x="{LEFT}" y="{y}" width="{part:.1}" height="20"/>"##
            );
        }
        let _ = writeln!(
            out,
            r##"<rect class="{class}" x="{:.1}" y="{y}" width="{:.1}" height="20"/><text x="{:.1}" y="{}">{}</text>"##,
            LEFT + part,
            width - part,
            LEFT + width + 8.0,
            y + 14.5,
            time(bar.value),
        );
    }
    svg.push_str("</svg>\n");
    svg
}
