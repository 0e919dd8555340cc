use std::fmt::{self, Display, Formatter};

use unicode_width::UnicodeWidthStr;

/// Rows of cells in aligned columns; no lines, no trailing blanks.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right_aligned: Vec<bool>,
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
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let columns = self.right_aligned.len();
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].width()).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let blanks = " ".repeat(widths[column] - cell.width());
                if self.right_aligned[column] {
                    line.push_str(&blanks);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&blanks);
                }
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    fn table(headings: &[&str], rows: &[&[&str]]) -> String {
        let mut table = Table::new(headings);
        for row in rows {
            table.row(row.iter().map(|cell| (*cell).to_owned()).collect());
        }
        table.to_string()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows: &[&[&str]] = &[&["80/tcp", "7", "web"], &["8/udp", "1234567", ""]];
        let expected = "\
PORT          N  COMMENT
80/tcp        7  web
8/udp   1234567
";
        assert_eq!(table(&["PORT", ">N", "COMMENT"], rows), expected);
    }

    #[test]
    fn width_is_what_a_terminal_shows() {
        let rows: &[&[&str]] = &[&["日本", "x"], &["é", "x"], &["abcd", "x"]];
        let expected = "A     B\n日本  x\né     x\nabcd  x\n";
        assert_eq!(table(&["A", "B"], rows), expected);
    }

    #[test]
    fn headings_stand_alone_where_there_are_no_rows() {
        assert_eq!(table(&["PORT", ">TO"], &[]), "PORT  TO\n");
    }
}
