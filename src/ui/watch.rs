//! A live view: what is active, again and again, with rates.

mod rates;
mod screen;

use std::fmt::Display;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use nix::errno::Errno;

use super::counted::counted;
use super::escape::visible;
use super::remark::Remark;
use super::status::{document, remarks, runs, table};
use super::wrap::wrapped;
use super::{Format, Ui, json};
use crate::engine::{Event, Observer, Status};

pub use rates::Rates;
use screen::{Key, Screen, Signals};

/// Whether somebody still looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Look,
    End,
}

/// Nothing may be printed between the frames.
pub struct Silent;

impl Observer for Silent {
    fn timed(&self, _: &str, work: &mut dyn FnMut()) {
        work();
    }

    fn event(&self, _: Event<'_>) {}
}

pub struct Watch<'u> {
    ui: &'u Ui,
    interval: Duration,
    signals: Signals,
    /// Where standard output is a terminal that can be drawn on, from the first frame on.
    screen: Option<Screen>,
    is_first: bool,
    rates: Rates,
    /// The last frame, to be drawn again when the terminal has another size.
    frame: Frame,
    due: Instant,
}

/// A view before it is fitted to a terminal.
#[derive(Default)]
struct Frame {
    title: String,
    table: Option<super::Table>,
    sentences: Vec<String>,
    /// What lives with a command.
    runs: Option<super::Table>,
}

impl Ui {
    /// From here on, signals that mean "stop" end the view, and not the process.
    pub fn watch(&self, interval: Duration) -> Result<Watch<'_>> {
        Ok(Watch {
            ui: self,
            interval,
            signals: Signals::catch().context("wait for signals")?,
            screen: None,
            is_first: true,
            rates: Rates::default(),
            frame: Frame::default(),
            due: Instant::now(),
        })
    }
}

impl Watch<'_> {
    /// Shows what is active now, and waits until it is time for the next look.
    pub fn show(&mut self, status: &Status) -> Result<Next> {
        let counted = counted(status);
        self.rates.update(&counted, Instant::now());
        let shown = if self.ui.is_json() {
            let mut line = json::line(&document(status, &counted))?;
            line.push('\n');
            write(&line)
        } else {
            self.frame = Frame {
                title: title(self.interval),
                table: (!counted.is_empty()).then(|| table(&counted, Some(&self.rates))),
                sentences: remarks(status, counted.is_empty()).into_iter().map(sentence).collect(),
                runs: (!status.runs.is_empty()).then(|| runs::table(&status.runs)),
            };
            if self.is_first && self.ui.settings.format == Format::Text && screen::is_usable() {
                self.screen = Some(Screen::enter().context("draw on the terminal")?);
            }
            self.draw()
        };
        self.is_first = false;
        match shown {
            Err(e) if self.is_left_alone(&e) => return Ok(Next::End),
            shown => shown.context("print the result")?,
        }
        // After a look that took longer than the interval, no look is made up for.
        self.due = (self.due + self.interval).max(Instant::now());
        self.wait()
    }

    /// Whether a reader has gone away, and wants no more: of a pipe, or of a terminal that has hung
    /// up before its SIGHUP was heard.
    fn is_left_alone(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::BrokenPipe
            || self.screen.is_some() && error.raw_os_error() == Some(Errno::EIO as i32)
    }

    fn wait(&mut self) -> Result<Next> {
        loop {
            let left = self.due.saturating_duration_since(Instant::now());
            match self.signals.wait(left, self.screen.is_some()).context("wait for a key")? {
                Key::None => return Ok(Next::Look),
                Key::End => return Ok(Next::End),
                Key::Resized => self.draw().context("print the result")?,
                Key::Stop => {
                    if let Some(screen) = self.screen.take() {
                        drop(screen);
                        screen::stop();
                        self.screen = Some(Screen::enter().context("draw on the terminal")?);
                        self.draw().context("print the result")?;
                    } else {
                        screen::stop();
                    }
                }
            }
        }
    }

    fn draw(&self) -> io::Result<()> {
        match &self.screen {
            Some(_) => {
                let (columns, rows) = screen::size();
                write(&screen::drawn(&self.frame.lines(Some(columns)), rows))
            }
            None if self.ui.is_json() => Ok(()),
            None => {
                let gap = if self.is_first { "" } else { "\n" };
                write(&format!("{gap}{}\n", self.frame.lines(None).join("\n")))
            }
        }
    }
}

impl Frame {
    fn lines(&self, columns: Option<usize>) -> Vec<String> {
        let limit = columns.unwrap_or(usize::MAX);
        let fitted = |text: &String| -> Vec<String> {
            wrapped(text, limit).into_iter().map(str::to_owned).collect()
        };
        let mut lines = fitted(&self.title);
        lines.push(String::new());
        if let Some(table) = &self.table {
            lines.extend(table.fitting(columns).to_string().lines().map(str::to_owned));
            lines.push(String::new());
        }
        lines.extend(self.sentences.iter().flat_map(fitted));
        if let Some(runs) = &self.runs {
            lines.push(String::new());
            lines.extend(fitted(&runs::HEADING.to_owned()));
            lines.extend(runs.fitting(columns).to_string().lines().map(str::to_owned));
        }
        lines
    }
}

fn title(interval: Duration) -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    format!("portmap status at {now}, every {}", humantime::format_duration(interval))
}

fn sentence(remark: Remark) -> String {
    let labelled = |label: &str, text: &dyn Display| format!("{label}: {text}");
    visible(&match remark {
        Remark::Say(text) => text,
        Remark::Warning(text) => labelled("warning", &text),
        Remark::Note(text) => labelled("note", &text),
    })
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}
