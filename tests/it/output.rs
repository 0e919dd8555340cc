//! What people see: changes, tables that fit their terminal, and what --verbose adds.

use unicode_width::UnicodeWidthStr;

use crate::support::Namespace;

/// The screen of a terminal with so many columns, as lines.
#[track_caller]
fn screen(host: &Namespace, columns: u16, arguments: &[&str]) -> Vec<String> {
    let (code, screen) = host.portmap(arguments).at_terminal_of(columns).ends();
    assert_eq!(code, Some(0), "{screen}");
    screen.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// What stands in each column of a table, from top to bottom, without blanks: a cell that is
/// continued below is whole again.
fn columns_of(table: &[&String]) -> Vec<String> {
    let heading: Vec<_> = format!("  {}", table[0]).chars().collect();
    let begins = |at: &usize| heading[*at..].starts_with(&[' ', ' ']) && heading[at + 2] != ' ';
    let starts: Vec<_> = (0..heading.len() - 2).filter(begins).collect();
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    let columns = starts.iter().zip(ends);
    let column = |(start, end): (&usize, usize)| {
        let characters = table.iter().flat_map(|l| l.chars().skip(*start).take(end - start));
        characters.filter(|c| !c.is_whitespace()).collect()
    };
    columns.map(column).collect()
}

/// The same of lines that have a heading each: what stands after it, from the first row on.
fn cells_of(records: &[&String]) -> Vec<String> {
    // The first heading, and blanks up to where all cells begin.
    let after = records[0].find(' ').expect("a cell");
    let start = after + records[0][after..].find(|c| c != ' ').expect("a cell");
    let mut cells = Vec::<String>::new();
    for line in records {
        let (label, part) = line.split_at(start);
        if !label.trim().is_empty() {
            cells.push(String::new());
        }
        cells.last_mut().unwrap().extend(part.chars().filter(|c| !c.is_whitespace()));
    }
    cells
}

const LONG: &str = "\
ports:
  - { port: 6000-6063, to: 16000-16063, comment: X terminals of the second floor }
  - port: 443
    to: 9443
    interfaces: [\"wg*\", eth0]
    sources: [203.0.113.0/24, \"2001:db8:1234:5678::/64\"]
    comment: ftps for the scanner
  - { port: 443, to: 8443 }
";

#[test]
fn tables_fit_the_terminal() {
    let host = Namespace::new();
    host.file("rules.yaml", LONG);
    let why = "moved to the new machine, as the old one is to be switched off";
    host.portmap(["apply", "--message", why, "rules.yaml"]).run().succeeds();
    for columns in [80, 46] {
        for command in ["status", "history"] {
            let lines = screen(&host, columns, &[command]);
            // The table ends at the blank line; what follows is sentences.
            let table: Vec<_> = lines.iter().take_while(|line| !line.is_empty()).collect();
            let shown = lines.join("\n");
            assert!(table.len() > 3, "{command} at {columns}:\n{shown}");
            for line in &table {
                assert!(line.width() <= usize::from(columns), "{command} at {columns}:\n{shown}");
            }
            // So many columns cannot be read on so few.
            let read = if columns == 46 { cells_of(&table) } else { columns_of(&table) };
            let all = if command == "status" {
                ["6000-6063/tcp", "16000-16063", "scanner"]
            } else {
                ["apply", "active", "machine"]
            };
            for part in all {
                let is_there = read.iter().any(|text| text.contains(part));
                assert!(is_there, "{part}: {command} at {columns}:\n{shown}");
            }
        }
    }
    // Not a terminal: programs want a line for each row.
    let status = host.portmap(["status"]).run().succeeds().stdout;
    assert!(
        status.contains("external, ipv6, on eth0 wg*, from 2001:db8:1234:5678::/64"),
        "{status}"
    );
    let history = host.portmap(["history"]).run().succeeds().stdout;
    assert_eq!(history.lines().count(), 2, "{history}");
}

#[test]
fn a_long_selector_continues_below_in_its_column() {
    let host = Namespace::new();
    host.file("rules.yaml", LONG);
    host.portmap(["apply", "rules.yaml"]).run().succeeds();
    let lines = screen(&host, 80, &["status"]);
    let shown = lines.join("\n");
    let column = lines[0].find("FOR").expect("a heading");
    let first = lines.iter().position(|line| line.contains("external")).expect(&shown);
    let indent = lines[first + 1].len() - lines[first + 1].trim_start().len();
    assert_eq!(indent, column, "{shown}");
}

#[test]
fn a_plan_shows_targets_as_targets_and_comments_as_comments() {
    let host = Namespace::new();
    host.apply(
        "ports:
           80: 3000
           990: { to: 2990, scope: external, comment: \"ftps -> 1 (was 2)\" }
           443: { to: 8443, comment: shop }",
    );
    host.file(
        "new.yaml",
        "ports:
           990: { to: 2991, scope: external, comment: \"ftps -> 1 (was 2)\" }
           443: { to: 8443, comment: the shop }
           25: { to: 2525, comment: mail }",
    );
    let plan = host.portmap(["plan", "-q", "new.yaml"]).run().succeeds().stdout;
    let expected = "\
+ 25/tcp -> 2525  # mail
- 80/tcp -> 3000
~ 443/tcp -> 8443, comment \"shop\" -> \"the shop\"
~ 990/tcp: 2990 -> 2991 (external)  # ftps -> 1 (was 2)
";
    assert_eq!(plan, expected);
    let apply = host.portmap(["apply", "new.yaml"]).run().succeeds().stdout;
    assert!(apply.starts_with(expected), "{apply}");
}

/// Sixty entries that do not fold into one line.
fn sixty() -> String {
    let entries: String = (1..=60).map(|n| format!("  {}: {}\n", 2 * n, 3000 + n)).collect();
    format!("ports:\n{entries}")
}

#[test]
fn many_changes_are_summarised_unless_verbose() {
    let host = Namespace::new();
    host.file("rules.yaml", &sixty());
    for line in [&["plan", "rules.yaml"][..], &["apply", "rules.yaml"]] {
        let short = host.portmap(line).run().succeeds().stdout;
        assert_eq!(short.lines().filter(|line| line.starts_with("+ ")).count(), 50, "{short}");
        assert!(short.contains("… and 10 more lines"), "{short}");
        assert!(short.contains("60 "), "how many in all: {short}");
        host.portmap(["clear"]).run().succeeds();
        let whole = host.portmap(line.iter().chain(&["-v"])).run().succeeds().stdout;
        assert_eq!(whole.lines().filter(|line| line.starts_with("+ ")).count(), 60, "{whole}");
        assert!(!whole.contains("more lines"), "{whole}");
    }
}

#[test]
fn verbose_says_what_is_done_to_the_kernel() {
    let host = Namespace::new();
    let rules = "ports: { 80: 3000 }";
    let plan = host.portmap(["plan", "-v", "-"]).stdin(rules).run().succeeds();
    assert!(plan.stderr.contains("to do: add table inet portmap\n"), "{plan}");
    assert!(plan.stderr.contains("to do: add element 80/tcp -> 3000 to map ports\n"), "{plan}");
    assert!(!plan.stderr.contains("\nkernel: "), "{plan}");
    let apply = host.portmap(["apply", "-v", "-"]).stdin(rules).run().succeeds();
    assert!(
        apply.stderr.contains("\nkernel: add element 80/tcp -> 3000 to map ports\n"),
        "{apply}"
    );
    assert!(apply.stderr.contains("commit: "), "and how long it takes: {apply}");

    let rules = "ports: { 80: 4000, 443: 8443 }";
    let apply = host.portmap(["apply", "-v", "-"]).stdin(rules).run().succeeds();
    assert!(!apply.stderr.contains("add table"), "{apply}");
    assert!(apply.stderr.contains("kernel: add 2 elements to map ports\n"), "{apply}");
    let again = host.portmap(["apply", "-v", "-"]).stdin(rules).run().succeeds();
    assert!(!again.stderr.contains("\nkernel: "), "nothing is done: {again}");
    let _app = host.serve("app", 5000);
    let quiet = host.portmap(["apply", "-"]).stdin("ports: { 80: 5000 }").run().succeeds();
    assert_eq!(quiet.stderr, "", "only with --verbose");
}
