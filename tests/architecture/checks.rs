//! The checks themselves, on sources made up for them.

use super::*;

fn made_up(files: &[(&str, &str)]) -> Crate {
    let files: BTreeMap<String, String> =
        files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    Crate::load("portmap", &|name| files.get(name).cloned())
}

const LIB: (&str, &str) =
    ("lib.rs", "pub mod kernel; pub mod history; pub mod mapping; pub mod ui;");

/// Room `kernel` has this text; `history::Journal`, `ui::Ui` and `mapping::Port` exist.
fn kernel(text: &str) -> Vec<String> {
    let files = [
        LIB,
        ("kernel.rs", text),
        ("history.rs", "pub struct Journal;"),
        ("mapping.rs", "pub struct Port; pub use deep::Deep; mod deep { pub struct Deep; }"),
        ("ui.rs", "pub mod table; pub struct Ui;"),
        ("ui/table.rs", "pub struct Table;"),
    ];
    rooms(&made_up(&files), &[])
}

#[test]
fn every_way_to_refer_to_a_room_above_is_found() {
    let ui = ["src/kernel.rs:1: `kernel` may not use `ui`"];
    for text in [
        "use crate::ui::Ui;",
        "use crate::{mapping::Port, ui::{self as screen, table::Table}};",
        "use crate::ui;",
        "pub use crate::ui::*;",
        "use super::ui::Ui;",
        "use crate as all; fn f(ui: all::ui::Ui) {}",
        "fn f(ui: &crate::ui::Ui) {}",
        "fn f() -> Vec<crate::ui::Ui> { Vec::new() }",
        "fn f() { let _ = crate::ui::Ui; }",
        "impl From<crate::ui::Ui> for u8 {}",
        "fn f() { assert!(matches!(x, crate::ui::Ui)); }",
        "fn f() { bail!(\"{}\", [super::ui::table::Table]); }",
        "mod inner { use super::super::ui::Ui; }",
        "fn f() { use crate::ui::Ui; }",
        "#[cfg(not(test))] use crate::ui::Ui;",
    ] {
        assert_eq!(kernel(text), ui, "{text}");
    }
    assert_eq!(
        kernel("use crate::history::Journal;"),
        ["src/kernel.rs:1: `kernel` may not use `history`"]
    );
}

#[test]
fn what_is_no_use_is_not_found() {
    for text in [
        "use crate::mapping::{Port, Deep};",
        "// use crate::ui::Ui;",
        "/* crate::ui::Ui */",
        "/// [`crate::ui::Ui`]\nstruct A;",
        "//! See [`crate::ui`].",
        "const A: &str = \"crate::ui::Ui\";",
        "fn f() { println!(\"crate::ui::Ui\"); }",
        "#[cfg(test)] mod tests { use crate::ui::Ui; }",
        "#[cfg(test)] mod tests;",
        "#[cfg(all(test, unix))] use crate::ui::Ui;",
        "struct A; impl A { #[cfg(test)] fn f() { crate::ui::f() } }",
        "fn f(ui: u8) -> u8 { ui }",
    ] {
        assert_eq!(kernel(text), [""; 0], "{text}");
    }
}

#[test]
fn a_use_is_found_through_another_rooms_import() {
    let files = [
        ("lib.rs", "pub mod kernel; pub mod plan; pub mod flows;"),
        ("kernel.rs", "pub use crate::plan::Step;"),
        ("plan.rs", "pub struct Step;"),
        ("flows.rs", "use crate::kernel::Step;"),
    ];
    assert_eq!(rooms(&made_up(&files), &[]), ["src/flows.rs:1: `flows` may not use `plan`"]);
}

#[test]
fn exceptions_and_rooms_are_kept_in_step() {
    let files = [
        ("lib.rs", "pub mod cli; pub mod commands; pub mod attic;"),
        ("cli.rs", "use crate::commands;"),
        ("commands.rs", "use crate::cli;"),
        ("attic.rs", ""),
        ("main.rs", "use portmap::cli; fn main() {}"),
    ];
    let attic = "src/attic.rs: room `attic` is not in the table of rooms";
    assert_eq!(rooms(&made_up(&files), &[("cli.rs", "commands", "")]), [attic]);
    let wrong = rooms(&made_up(&files), &[("cli.rs", "main", "")]);
    assert_eq!(
        wrong,
        [
            attic,
            "src/cli.rs:1: `cli` may not use `commands`",
            "the exception for src/cli.rs and `main` is not needed"
        ]
    );
}

#[test]
fn crates_and_printing_are_found() {
    let files = [
        LIB,
        ("kernel.rs", "use nftnl_sys::x; use std::{fs, io}; fn f() { println!(); }"),
        ("history.rs", "fn f() { nftnl::f(); }"),
        ("mapping.rs", "use std::fs::File; fn f() { eprintln!(\"{}\", std::fmt::X); }"),
        ("ui.rs", "fn f() { println!(); std::process::exit(1); dbg!(1); }"),
    ];
    assert_eq!(
        outside(&made_up(&files)),
        [
            "src/history.rs:1: `history` may not use `nftnl::f`",
            "src/kernel.rs:1: `kernel` may not use `println!`",
            "src/mapping.rs:1: `mapping` may not use `eprintln!`",
            "src/mapping.rs:1: `mapping` may not use `std::fs::File`",
            "src/ui.rs:1: `ui` may not use `dbg!`",
            "src/ui.rs:1: `ui` may not use `std::process::exit`",
        ]
    );
}

#[test]
fn a_verb_that_uses_a_verb_is_found() {
    let files = [
        ("lib.rs", "pub mod commands;"),
        ("commands.rs", "mod apply; mod plan; mod input; fn run() { apply::run() }"),
        ("commands/apply.rs", "use crate::commands::input; pub fn run() { input::read() }"),
        ("commands/plan.rs", "pub fn run() {\n super::apply::run() }"),
        ("commands/input.rs", "use super::plan;"),
    ];
    assert_eq!(
        verbs(&made_up(&files), &["input", "gone"]),
        [
            "commands/gone is listed as shared by verbs, and not there",
            "src/commands/input.rs:1: uses the verb `plan`",
            "src/commands/plan.rs:2: uses the verb `apply`",
        ]
    );
}

#[test]
fn circles_are_found() {
    let files = [
        ("lib.rs", "pub mod ui; pub mod plan;"),
        ("ui.rs", "mod a; mod b; mod c; pub use a::A; pub use c::C;"),
        ("ui/a.rs", "use super::b::B; pub struct A;"),
        ("ui/b.rs", "use super::A; pub struct B;"),
        // By way of its parent, which passes the name on: no circle with the parent.
        ("ui/c.rs", "use super::A; pub struct C;"),
        // A module within another may use what is beside it in the other.
        ("plan.rs", "mod step; fn f() { step::f() } pub struct Plan;"),
        ("plan/step.rs", "fn f(plan: super::Plan) {}"),
    ];
    assert_eq!(
        circles(&made_up(&files)),
        ["a circle of ui/a.rs, ui/b.rs\
             \n    src/ui/a.rs:1 uses ui/b.rs\n    src/ui/b.rs:1 uses ui/a.rs",]
    );
}

#[test]
fn length_and_unsafe_are_found() {
    let body = "1;\n".repeat(FUNCTION_LINES);
    let long = format!("impl A {{ fn long() {{\n{body}}} }}\nfn short() {{}}\n");
    let files = [
        LIB,
        ("kernel.rs", long.as_str()),
        ("history.rs", "#![forbid(unsafe_code)]"),
        ("mapping.rs", "#![deny(unsafe_code)]"),
        ("ui.rs", &"#![forbid(unsafe_code)]\n".repeat(FILE_LINES + 1)),
    ];
    let source = made_up(&files);
    assert_eq!(unsafe_rooms(&source), ["src/mapping.rs: lacks #![forbid(unsafe_code)]"]);
    let mut found = lengths(&source, &[("ui.rs", "f", "")]);
    found.sort();
    assert_eq!(
        found,
        [
            "src/kernel.rs:1: fn long: 62 lines",
            "src/ui.rs: 501 lines",
            "the exception for fn f in src/ui.rs is not needed",
        ]
    );
    let allowed = lengths(&source, &[("kernel.rs", "long", "")]);
    assert_eq!(allowed, ["src/ui.rs: 501 lines"]);
}
