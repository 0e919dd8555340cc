//! A sentence about the whole: said, or shown as a part of a live view.

use anyhow::Result;

use super::Ui;

pub enum Remark {
    Say(String),
    Warning(String),
    Note(String),
}

impl Ui {
    pub fn remark(&self, remark: Remark) -> Result<()> {
        match remark {
            Remark::Say(text) => self.say(text)?,
            Remark::Warning(text) => self.warn(text),
            Remark::Note(text) => self.note(text),
        }
        Ok(())
    }
}
