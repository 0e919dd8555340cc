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

    /// The table with cells that do not fit continued below, each in its column.
    pub fn fitting(&self, limit: Option<usize>) -> Fitting<'_> {
        Fitting { table: self, limit }
    }

    fn natural_widths(&self) -> Vec<usize> {
        let widest = |column: usize| self.rows.iter().map(|row| row[column].width()).max();
        (0..self.right_aligned.len()).map(|column| widest(column).unwrap_or_default()).collect()
    }

    /// One row as lines: as many as its longest cell needs.
    fn write_row(&self, row: &[String], widths: &[usize], f: &mut Formatter<'_>) -> fmt::Result {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, w)| wrapped(cell, *w)).collect();
        let lines = cells.iter().map(Vec::len).max().unwrap_or_default();
        for at in 0..lines {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                let part = cell.get(at).copied().unwrap_or_default();
                let blanks = " ".repeat(widths[column].saturating_sub(part.width()));
                let (left, right) =
                    if self.right_aligned[column] { (&*blanks, "") } else { ("", &*blanks) };
                line.extend([left, part, right, &" ".repeat(GAP)]);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Display for Fitting<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut widths = self.table.natural_widths();
        if let Some(limit) = self.limit {
            let gaps = GAP * widths.len().saturating_sub(1);
            fit(&mut widths, limit.saturating_sub(gaps));
        }
        self.table.rows.iter().try_for_each(|row| self.table.write_row(row, &widths, f))
    }
}

/// Makes the widest columns narrower until all of them take `limit` together, or each is a
/// single character wide.
fn fit(widths: &mut [usize], limit: usize) {
    for least in [COMFORT, 1] {
        while widths.iter().sum::<usize>() > limit {
            match widths.iter_mut().rev().max_by_key(|width| **width) {
                Some(widest) if *widest > least => *widest -= 1,
                _ => break,
            }
        }
    }
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
