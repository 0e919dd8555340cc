//! Words of the command line as values.

use std::time::Duration;

use crate::mapping::Point;
use crate::ui;
use clap::ValueEnum;

pub fn parse_time(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text)
        .map_err(|_| "not a valid duration; write it as 90s, 5m or 1h".to_owned())
}

/// The longest trial.
const TRIAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub fn parse_trial_time(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time < Duration::from_secs(1) || time > TRIAL_MAX {
        return Err("a trial lasts from 1s to 24h".to_owned());
    }
    Ok(time)
}

pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time < Duration::from_millis(100) || time > Duration::from_secs(60 * 60) {
        return Err("an interval lasts from 100ms to 1h".to_owned());
    }
    Ok(time)
}

pub fn parse_generation(text: &str) -> Result<Point, String> {
    text.parse()
        .map_err(|_| "not the number of a generation; `portmap history` lists them".to_owned())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
    Prometheus,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl From<Format> for ui::Format {
    fn from(format: Format) -> Self {
        match format {
            // Only one command prints it, and asks.
            Format::Text | Format::Prometheus => ui::Format::Text,
            Format::Json => ui::Format::Json,
        }
    }
}

impl From<Color> for ui::Color {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => ui::Color::Auto,
            Color::Always => ui::Color::Always,
            Color::Never => ui::Color::Never,
        }
    }
}
