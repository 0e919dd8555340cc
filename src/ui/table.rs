//! Tables: rows of cells in aligned columns; no lines, no trailing blanks.

use std::fmt::{self, Display, Formatter};

use super::wrap::wrapped;
use unicode_width::UnicodeWidthStr;

/// Blanks between two columns.
const GAP: usize = 2;

/// A column is not made narrower than this as long as others can be.
const COMFORT: usize = 12;

#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right_aligned: Vec<bool>,
}

/// A table on so many columns of a terminal; `None` for as many as it needs.
pub struct Fitting<'t> {
    table: &'t Table,
    limit: Option<usize>,
}

impl Table {
    /// A heading that begins with `>` has its column aligned to the right.
    pub fn new(headings: &[&str]) -> Self {
        let right_aligned = headings.iter().map(|h| h.starts_with('>')).collect();
        let headings = headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![headings], right_aligned }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table with cells that do not fit continued below, each in its column; where the columns
    /// would be too narrow to be read, a line for each cell.
    pub fn fitting(&self, limit: Option<usize>) -> Fitting<'_> {
        Fitting { table: self, limit }
    }

    fn widest(&self, column: usize, width: impl Fn(&str) -> usize) -> usize {
        self.rows.iter().map(|row| width(&row[column])).max().unwrap_or_default()
    }

    fn is_empty(&self, column: usize) -> bool {
        self.rows.iter().skip(1).all(|row| row[column].is_empty())
    }

    /// The columns that are shown and how wide each is; `None` if they cannot be read then.
    fn columns(&self, limit: Option<usize>) -> Option<Vec<(usize, usize)>> {
        let all: Vec<_> = (0..self.right_aligned.len()).collect();
        let natural = |column: &usize| self.widest(*column, UnicodeWidthStr::width);
        let mut widths: Vec<_> = all.iter().map(natural).collect();
        let Some(limit) = limit else { return Some(all.into_iter().zip(widths).collect()) };
        let left = |columns: &[usize]| limit.saturating_sub(GAP * columns.len().saturating_sub(1));
        if widths.iter().sum::<usize>() <= left(&all) {
            return Some(all.into_iter().zip(widths).collect());
        }
        // First goes what says nothing.
        let filled: Vec<_> = all.into_iter().filter(|column| !self.is_empty(*column)).collect();
        widths = filled.iter().map(natural).collect();
        let least: Vec<_> = filled.iter().map(|c| self.widest(*c, part_width)).collect();
        fit(&mut widths, &least, left(&filled)).then(|| filled.into_iter().zip(widths).collect())
    }

    /// One row as lines: as many as its longest cell needs.
    fn write_row(
        &self,
        row: &[String],
        columns: &[(usize, usize)],
        f: &mut Formatter<'_>,
    ) -> fmt::Result {
        let cells: Vec<_> = columns.iter().map(|(column, w)| wrapped(&row[*column], *w)).collect();
        let lines = cells.iter().map(Vec::len).max().unwrap_or_default();
        for at in 0..lines {
            let mut line = String::new();
            for ((column, width), cell) in columns.iter().zip(&cells) {
                let part = cell.get(at).copied().unwrap_or_default();
                let blanks = " ".repeat(width.saturating_sub(part.width()));
                let (left, right) =
                    if self.right_aligned[*column] { (&*blanks, "") } else { ("", &*blanks) };
                line.extend([left, part, right, &" ".repeat(GAP)]);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Each cell after its heading, those after the first of a row indented.
    fn write_records(&self, limit: usize, f: &mut Formatter<'_>) -> fmt::Result {
        let Some((headings, rows)) = self.rows.split_first() else { return Ok(()) };
        let labels: Vec<_> = headings
            .iter()
            .enumerate()
            .map(|(column, heading)| format!("{}{heading}", if column == 0 { "" } else { "  " }))
            .collect();
        let width = labels.iter().map(|label| label.width()).max().unwrap_or_default() + GAP;
        for row in rows {
            for (label, cell) in labels.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
                let mut label = &**label;
                for line in wrapped(cell, limit.saturating_sub(width).max(1)) {
                    writeln!(f, "{label}{}{line}", " ".repeat(width - label.width()))?;
                    label = "";
                }
            }
        }
        Ok(())
    }
}

impl Display for Fitting<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.table.columns(self.limit), self.limit) {
            (None, Some(limit)) => self.table.write_records(limit, f),
            (columns, _) => {
                let columns = columns.unwrap_or_default();
                self.table.rows.iter().try_for_each(|row| self.table.write_row(row, &columns, f))
            }
        }
    }
}

/// How wide the longest part of a text is that is not to be broken: a word, a number. What is
/// longer than a comfortable column is broken all the same.
fn part_width(text: &str) -> usize {
    let parts = text.split_inclusive([' ', '-', '/', ',']).map(|part| part.trim_end().width());
    parts.max().unwrap_or_default().min(COMFORT)
}

/// Makes the widest columns narrower until all of them take `limit` together, but none narrower
/// than its `least`. Whether they do.
fn fit(widths: &mut [usize], least: &[usize], limit: usize) -> bool {
    for floor in [COMFORT, 0] {
        while widths.iter().sum::<usize>() > limit {
            let wide = widths.iter_mut().zip(least).filter(|(w, least)| **w > floor.max(**least));
            match wide.rev().max_by_key(|(width, _)| **width) {
                Some((widest, _)) => *widest -= 1,
                None => break,
            }
        }
    }
    widths.iter().sum::<usize>() <= limit
}

#[cfg(test)]
mod tests {
    use super::Table;

    fn table(headings: &[&str], rows: &[&[&str]], limit: Option<usize>) -> String {
        let mut table = Table::new(headings);
        for row in rows {
            table.row(row.iter().map(|cell| (*cell).to_owned()).collect());
        }
        table.fitting(limit).to_string()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows: &[&[&str]] = &[&["80/tcp", "7", "web"], &["8/udp", "1234567", ""]];
        let expected = "\
PORT          N  COMMENT
80/tcp        7  web
8/udp   1234567
";
        assert_eq!(table(&["PORT", ">N", "COMMENT"], rows, None), expected);
        assert_eq!(table(&["PORT", ">N", "COMMENT"], rows, Some(24)), expected);
    }

    #[test]
    fn width_is_what_a_terminal_shows() {
        let rows: &[&[&str]] = &[&["日本", "x"], &["é", "x"], &["abcd", "x"]];
        let expected = "A     B\n日本  x\né     x\nabcd  x\n";
        assert_eq!(table(&["A", "B"], rows, None), expected);
    }

    #[test]
    fn headings_stand_alone_where_there_are_no_rows() {
        assert_eq!(table(&["PORT", ">TO"], &[], None), "PORT  TO\n");
    }

    #[test]
    fn a_long_cell_continues_below_in_its_column() {
        let rows: &[&[&str]] = &[
            &["80/tcp", "external, ipv4, on eth0 wg0", "7", "the shop"],
            &["443/tcp", "everyone", "1234", ""],
        ];
        let expected = "\
PORT     FOR             N  COMMENT
80/tcp   external,       7  the shop
         ipv4, on
         eth0 wg0
443/tcp  everyone     1234
";
        let shown = table(&["PORT", "FOR", ">N", "COMMENT"], rows, Some(36));
        assert_eq!(shown, expected);
    }

    #[test]
    fn where_columns_would_be_unreadable_each_cell_has_a_line() {
        let rows: &[&[&str]] = &[
            &["80/tcp", "3000", "node (pid 812, www-data)", "1234567", "7.0", ""],
            &["443/tcp", "8443", "nobody", "0", "0.0", "the shop"],
        ];
        let headings = ["PORT", "TO", "LISTENER", ">CONNECTIONS", ">PER SECOND", "COMMENT"];
        let expected = "\
PORT           80/tcp
  TO           3000
  LISTENER     node (pid 812, www-data)
  CONNECTIONS  1234567
  PER SECOND   7.0
PORT           443/tcp
  TO           8443
  LISTENER     nobody
  CONNECTIONS  0
  PER SECOND   0.0
  COMMENT      the shop
";
        assert_eq!(table(&headings, rows, Some(46)), expected);
        let narrow = table(&headings, rows, Some(30));
        assert!(narrow.contains("\n  LISTENER     node (pid 812,\n               www-data)\n"));
        // A column without content goes first.
        let expected = "\
PORT    TO    LISTENER       CONNECTIONS
80/tcp  3000  node (pid          1234567
              812,
              www-data)
";
        let headings = ["PORT", "TO", "LISTENER", ">CONNECTIONS", "COMMENT"];
        let rows: &[&[&str]] = &[&["80/tcp", "3000", "node (pid 812, www-data)", "1234567", ""]];
        assert_eq!(table(&headings, rows, Some(40)), expected);
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_however_narrow() {
        let rows: &[&[&str]] =
            &[&["6000-6063/tcp", "16000-16063", "from 2001:db8:1234:5678::/64", "42", "日本日本"]];
        let headings = ["PORT", "TO", "FOR", ">CONNECTIONS", "COMMENT"];
        for limit in 18..100 {
            let shown = table(&headings, rows, Some(limit));
            for line in shown.lines() {
                let width = unicode_width::UnicodeWidthStr::width(line);
                assert!(width <= limit, "{width} > {limit}:\n{shown}");
            }
            for character in "日42tcp".chars() {
                assert!(shown.contains(character), "{character} at {limit}:\n{shown}");
            }
        }
    }
}
