//! Which module refers to which, as the compiler's grammar sees it: comments, strings and
//! whatever is compiled for tests only do not count.

use std::collections::BTreeMap;
use std::mem::take;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, UseTree};

/// A file of a crate, with the modules that are written out in it.
pub struct File {
    /// Below `src`: `kernel/nft.rs`.
    pub name: String,
    /// The module that the file is: `["kernel", "nft"]`.
    pub module: Vec<String>,
    pub lines: usize,
    pub forbids_unsafe: bool,
    pub functions: Vec<Function>,
    references: Vec<Reference>,
    macros: Vec<(String, usize)>,
}

pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// A path of at least two segments in an import, a type, an expression, a pattern or a macro.
struct Reference {
    /// The module in which it is written.
    from: Vec<String>,
    path: Vec<String>,
    line: usize,
    /// The name that an import gives it.
    name: Option<String>,
}

/// A reference that has been followed to its end.
pub struct Use<'a> {
    pub file: &'a File,
    pub line: usize,
    pub target: Target<'a>,
}

pub enum Target<'a> {
    File(&'a File),
    /// `std::fs::read`, `println!`; or something of this module's own, such as `Self::new`.
    Other(String),
}

/// A path, as seen from the crate's root.
enum Place {
    Inside(Vec<String>),
    /// It begins with another crate, or with a name that was imported.
    Outside(Vec<String>),
}

/// All files of a crate.
#[derive(Default)]
pub struct Crate {
    pub files: Vec<File>,
    /// Each module by its path, with the file where it is written.
    modules: BTreeMap<Vec<String>, usize>,
    /// What an import in a module gives a name to.
    imports: BTreeMap<(Vec<String>, String), Place>,
}

impl Crate {
    /// From `lib.rs` and, as a module of its own, `main.rs`, which calls the library `own`.
    /// `read` has the text of a file below `src`.
    pub fn load(own: &str, read: &dyn Fn(&str) -> Option<String>) -> Crate {
        let mut this = Crate::default();
        let mut waiting = vec![("lib.rs".to_owned(), Vec::new())];
        if read("main.rs").is_some() {
            waiting.push(("main.rs".to_owned(), vec!["main".to_owned()]));
        }
        while let Some((name, module)) = waiting.pop() {
            let text = read(&name).unwrap_or_else(|| panic!("src/{name}: cannot be read"));
            for child in this.add(own, name, module, &text) {
                let path = child.join("/");
                let candidates = [format!("{path}.rs"), format!("{path}/mod.rs")];
                let found = candidates.into_iter().find(|name| read(name).is_some());
                let found = found.unwrap_or_else(|| panic!("mod {path}: no such file"));
                waiting.push((found, child));
            }
        }
        for file in &this.files {
            for Reference { from, path, name, .. } in &file.references {
                if let Some(name) = name {
                    let place = this.place(from, path);
                    this.imports.insert((from.clone(), name.clone()), place);
                }
            }
        }
        this
    }

    /// Returns the modules that have files of their own.
    fn add(
        &mut self,
        own: &str,
        name: String,
        module: Vec<String>,
        text: &str,
    ) -> Vec<Vec<String>> {
        let file = syn::parse_file(text)
            .unwrap_or_else(|e| panic!("src/{name}:{}: {e}", e.span().start().line));
        let mut reader = Reader { own, module: module.clone(), ..Reader::default() };
        reader.visit_file(&file);
        reader.inline.push(module.clone());
        self.modules.extend(reader.inline.into_iter().map(|module| (module, self.files.len())));
        self.files.push(File {
            name,
            module,
            lines: text.lines().count(),
            forbids_unsafe: file.attrs.iter().any(forbids_unsafe),
            functions: reader.functions,
            references: reader.references,
            macros: reader.macros,
        });
        reader.children
    }

    /// Where everything that is referred to is really written: imports that pass it on are
    /// followed.
    pub fn uses(&self) -> Vec<Use<'_>> {
        let mut uses = Vec::new();
        for file in &self.files {
            for Reference { from, path, line, .. } in &file.references {
                uses.push(Use { file, line: *line, target: self.target(from, path) });
            }
            for (name, line) in &file.macros {
                uses.push(Use { file, line: *line, target: Target::Other(name.clone()) });
            }
        }
        uses
    }

    fn target(&self, from: &[String], path: &[String]) -> Target<'_> {
        let mut place = self.place(from, path);
        // More imports than this do not pass a name on, unless they do so in a circle.
        for _ in 0..16 {
            let path = match place {
                Place::Inside(path) => path,
                Place::Outside(path) => return Target::Other(path.join("::")),
            };
            let module = (0..=path.len()).rev().find(|&n| self.modules.contains_key(&path[..n]));
            let (module, rest) = path.split_at(module.unwrap_or(0));
            let passed_on = rest.first().map(|name| (module.to_vec(), name.clone()));
            place = match passed_on.and_then(|key| self.imports.get(&key)) {
                Some(Place::Inside(next)) => Place::Inside([next, &rest[1..]].concat()),
                Some(Place::Outside(next)) => Place::Outside([next, &rest[1..]].concat()),
                None => return Target::File(&self.files[self.modules[module]]),
            };
        }
        panic!("{}: imports in a circle", path.join("::"))
    }

    /// Whether `name` is that of a `use crate as name`.
    fn is_crate(&self, from: &[String], name: &str) -> bool {
        let import = self.imports.get(&(from.to_vec(), name.to_owned()));
        matches!(import, Some(Place::Inside(path)) if path.is_empty())
    }

    fn place(&self, from: &[String], path: &[String]) -> Place {
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        let inside = |base: &[String], rest: &[String]| Place::Inside([base, rest].concat());
        match path[0].as_str() {
            "crate" => inside(&[], &path[1..]),
            "self" => inside(from, &path[1..]),
            "super" => inside(&from[..from.len() - supers], &path[supers..]),
            child if self.modules.contains_key(&[from, &[child.to_owned()]].concat()) => {
                inside(from, path)
            }
            // What else an import has named was found where it was imported.
            all if self.is_crate(from, all) => inside(&[], &path[1..]),
            _ => Place::Outside(path.to_vec()),
        }
    }
}

/// Walks over a file and writes down what it sees.
#[derive(Default)]
struct Reader<'a> {
    own: &'a str,
    module: Vec<String>,
    /// Modules in files of their own.
    children: Vec<Vec<String>>,
    inline: Vec<Vec<String>>,
    functions: Vec<Function>,
    references: Vec<Reference>,
    macros: Vec<(String, usize)>,
}

impl Reader<'_> {
    fn refer(&mut self, mut path: Vec<String>, span: Span, name: Option<String>) {
        if path[0] == self.own {
            path[0] = "crate".to_owned();
        }
        if path.len() > 1 || name.is_some() {
            let (from, line) = (self.module.clone(), span.start().line);
            self.references.push(Reference { from, path, line, name });
        }
    }

    /// Each name of `use a::{b, c::d as e}`.
    fn import(&mut self, tree: &UseTree, mut prefix: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.import(&path.tree, prefix);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, prefix.clone()));
            }
            UseTree::Glob(glob) => self.refer(prefix, glob.span(), None),
            UseTree::Name(name) if name.ident == "self" => {
                let last = prefix.last().cloned();
                self.refer(prefix, name.span(), last);
            }
            UseTree::Name(name) => {
                let ident = name.ident.to_string();
                prefix.push(ident.clone());
                self.refer(prefix, name.span(), Some(ident));
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    prefix.push(rename.ident.to_string());
                }
                self.refer(prefix, rename.span(), Some(rename.rename.to_string()));
            }
        }
    }

    /// The paths among the tokens of a macro call, whose grammar is the macro's own.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        let mut start = Span::call_site();
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of_path(&mut path, start);
                        start = ident.span();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end_of_path(&mut path, start);
                    self.tokens(group.stream());
                    colons = 0;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.end_of_path(&mut path, start);
                    colons = 0;
                }
            }
        }
        self.end_of_path(&mut path, start);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>, start: Span) {
        if !path.is_empty() {
            self.refer(take(path), start, None);
        }
    }

    fn function(&mut self, name: &syn::Ident, start: Span, end: Span) {
        let line = start.start().line;
        let lines = end.end().line - line + 1;
        self.functions.push(Function { name: name.to_string(), line, lines });
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(only_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        match item.content {
            None => self.children.push(self.module.clone()),
            Some(_) => {
                self.inline.push(self.module.clone());
                visit::visit_item_mod(self, item);
            }
        }
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.refer(segments, path.span(), None);
        visit::visit_path(self, path);
    }

    /// Of attributes, only what derives and the like refer to: `#[serde(with = "…")]` is a string.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(last) = call.path.segments.last() {
            self.macros.push((format!("{}!", last.ident), call.path.span().start().line));
        }
        visit::visit_path(self, &call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, item.sig.span(), item.block.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !item.attrs.iter().any(only_for_tests) {
            self.function(&item.sig.ident, item.sig.span(), item.block.span());
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig.ident, item.sig.span(), block.span());
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#[test]`
fn only_for_tests(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    let Meta::List(list) = &attribute.meta else { return false };
    attribute.path().is_ident("cfg") && needs_test(&list.parse_args().expect("a cfg"))
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, syn::Token![,]>::parse_terminated)
            .is_ok_and(|all| all.iter().any(needs_test)),
        _ => false,
    }
}

fn forbids_unsafe(attribute: &Attribute) -> bool {
    let mut found = false;
    if attribute.path().is_ident("forbid") {
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident("unsafe_code");
            Ok(())
        });
    }
    found
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
