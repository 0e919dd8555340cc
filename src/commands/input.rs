//! From the files that the user names to the mapping that they say.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path;

use crate::cli;
use crate::commands::failure::{Failure, Result};
use crate::formats::diagnostic::{Diagnostic, Severity};
use crate::formats::rules::{self, Facts, Loaded, Names, Source};
use crate::host::files::{self, Gathered};
use crate::host::services::Services;
use crate::host::trust::Caller;
use crate::host::user;
use crate::kernel::held::given;
use crate::mapping::{Digest, MappingSet, Uid};
use crate::ruleset;
use crate::ui::Ui;

/// The files as they were read.
pub struct Texts {
    gathered: Gathered,
    facts: Facts,
    /// What they say, once that was asked.
    understood: OnceCell<Understood>,
}

struct Understood {
    loaded: Loaded,
    /// The users that they name, and their numbers.
    users: String,
}

/// What the files say.
pub struct Rules {
    pub mapping: MappingSet,
    /// The files, as messages name them.
    pub names: Vec<String>,
    /// Where it comes from, for the history: absolute paths, "standard input", "command line".
    pub origins: Vec<String>,
    /// How many there were. They have been shown, or wait for a document.
    pub warnings: usize,
    /// What is worth knowing when looking at the files, and is not shown otherwise.
    pub notes: Vec<Diagnostic>,
}

/// Reads the files. One that cannot be read is reported with all other problems, by
/// [`Texts::resolve`].
pub fn read(ui: &Ui, input: &cli::Input) -> Texts {
    let gathered =
        ui.timed("read files", || files::gather(&input.files, Caller::current(), &given));
    Texts { gathered, facts: files::facts(), understood: OnceCell::new() }
}

impl Texts {
    pub fn names(&self) -> Vec<String> {
        self.gathered.sources.iter().map(|source| source.title().to_owned()).collect()
    }

    fn origins(&self) -> Vec<String> {
        let origin = |source: &Source| match source.file_name() {
            None => "command line".to_owned(),
            Some(files::STDIN) => "standard input".to_owned(),
            // Where this directory cannot be told, the name as it was given says more than nothing.
            Some(name) => path::absolute(name)
                .map_or_else(|_| name.to_owned(), |path| path.to_string_lossy().into_owned()),
        };
        let mut origins: Vec<_> = self.gathered.sources.iter().map(origin).collect();
        origins.dedup();
        origins
    }

    /// A digest of all that decides what these files come to, and for the kernel and network
    /// namespace whose generations can be compared. `None` if some file could not be read.
    ///
    /// The latter because a stamp can be copied: a saved ruleset that is loaded after a boot, or
    /// into another namespace, may meet the same number of a generation by chance.
    pub fn digest(&self, strict: bool) -> Option<Digest> {
        let services = fs::read(Services::PATH).unwrap_or_default();
        let boot = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::read_link("/proc/self/ns/net").ok()?;
        let whole = self.gathered.diagnostics.is_empty();
        let made_of_it = [u8::from(strict), ruleset::LAYOUT];
        // Only the files say whose number is to be looked up, wherever users are kept.
        let users = if self.may_name_users() { &self.understood().users } else { "" };
        let namespace = namespace.as_os_str().as_bytes();
        let host = [&services[..], &boot, namespace, &made_of_it, users.as_bytes()];
        whole.then(|| rules::digest(&self.gathered.sources, &self.facts, &host))
    }

    /// Whether understanding the files takes so long that it is worth avoiding, even if their
    /// warnings are not repeated then.
    pub fn is_large(&self) -> bool {
        const LARGE: usize = 64 << 10;
        self.gathered.sources.iter().map(|source| source.text().len()).sum::<usize>() > LARGE
    }

    /// YAML may spell a key with escapes.
    fn may_name_users(&self) -> bool {
        let may = |text: &str| text.contains("user") || text.contains('\\');
        self.gathered.sources.iter().any(|source| may(source.text()))
    }

    fn understood(&self) -> &Understood {
        self.understood.get_or_init(|| {
            let services = Services::default();
            let found = RefCell::new(BTreeMap::new());
            let loaded = rules::load(
                &self.gathered.sources,
                &self.facts,
                Names {
                    services: &|name, protocol| services.lookup(name, protocol),
                    users: &|name| {
                        let user = user::find(name);
                        let number = user.as_ref().ok().copied().flatten().map(Uid::get);
                        found.borrow_mut().insert(name.to_owned(), number);
                        user
                    },
                },
            );
            Understood { loaded, users: format!("{:?}", found.into_inner()) }
        })
    }

    /// Understands the files. Warnings are shown; all errors of all files are one failure.
    pub fn resolve(self, ui: &Ui, strict: bool) -> Result<Rules> {
        let names = self.names();
        let origins = self.origins();
        ui.timed("understand files", || {
            self.understood();
        });
        let understood = self.understood.into_inner().expect("just understood");
        let Gathered { diagnostics, withheld, .. } = self.gathered;
        let loaded = understood.loaded.after(diagnostics);
        let loaded = if strict { loaded.strict() } else { loaded };
        let diagnostics = loaded.diagnostics.into_iter().map(|problem| without(&withheld, problem));
        let is_note = |diagnostic: &Diagnostic| diagnostic.severity == Severity::Note;
        let (notes, problems): (Vec<_>, Vec<_>) = diagnostics.partition(is_note);
        match loaded.mappings {
            None => Err(Failure::Files(problems)),
            Some(mapping) => {
                ui.warn_of(&problems);
                Ok(Rules { mapping, names, origins, warnings: problems.len(), notes })
            }
        }
    }
}

/// Without what the files of these names say: root would tell it to somebody who may not read them.
fn without(withheld: &[String], problem: Diagnostic) -> Diagnostic {
    let places = || problem.place.iter().chain(problem.related.iter().map(|(place, _)| place));
    let is_withheld = places().any(|place| withheld.iter().any(|name| **name == *place.file));
    if is_withheld { problem.withheld() } else { problem }
}

/// The kernel already does what the files of these names say.
pub fn say_unchanged(ui: &Ui, names: &[String]) -> anyhow::Result<()> {
    let say = if names.len() == 1 { "says" } else { "say" };
    ui.say(format_args!("nothing to do: the kernel already does what {} {say}", names.join(", ")))
}
