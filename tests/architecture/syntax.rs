//! What the oldest compiler that Cargo.toml names can read. Today's compilers accept newer syntax
//! without a word; of newer library functions clippy warns.

use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, Expr, ExprBinary};

use super::holds;

/// The lines where a `let` is one of several conditions, which takes Rust 1.88, or the guard of an
/// arm, which takes 1.95.
#[derive(Default)]
struct LetChains(Vec<usize>);

impl<'ast> Visit<'ast> for LetChains {
    fn visit_expr_binary(&mut self, node: &'ast ExprBinary) {
        if [&node.left, &node.right].into_iter().any(|side| matches!(**side, Expr::Let(_))) {
            self.0.push(node.span().start().line);
        }
        visit::visit_expr_binary(self, node);
    }

    fn visit_arm(&mut self, node: &'ast Arm) {
        if node.guard.iter().any(|(_, guard)| matches!(**guard, Expr::Let(_))) {
            self.0.push(node.span().start().line);
        }
        visit::visit_arm(self, node);
    }
}

fn let_chains(text: &str) -> Vec<usize> {
    let mut found = LetChains::default();
    found.visit_file(&syn::parse_file(text).expect("it compiles"));
    found.0
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let below = dirs.iter().flat_map(|dir| sources(dir));
    files.into_iter().filter(is_rust).chain(below).collect()
}

#[test]
fn the_oldest_compiler_can_read_it() {
    let oldest = env!("CARGO_PKG_RUST_VERSION").split('.').nth(1).unwrap().parse::<u32>().unwrap();
    if oldest >= 88 {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for file in
        ["src", "tests", "benches", "examples"].iter().flat_map(|dir| sources(&root.join(dir)))
    {
        let name = file.strip_prefix(root).unwrap().display();
        for line in let_chains(&fs::read_to_string(&file).unwrap()) {
            found.push(format!("{name}:{line}: `let` beside another condition, or as a guard, takes Rust 1.88 or later"));
        }
    }
    holds(found);
}

#[test]
fn let_chains_are_found() {
    let text = "fn f() {
        if let Some(a) = b && c {}
        if a && let Some(b) = c {}
        if let Some(a) = b { if c && d {} }
        while let Some(a) = b && c && d {}
        match a { Some(b) if c && d => {} _ => {} }
        match a { b if let Some(c) = b => {} _ => {} }
    }";
    assert_eq!(let_chains(text), [2, 3, 5, 7]);
}
