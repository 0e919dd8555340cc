//! The files in `rules/`: right, without warnings, and each the same as the scripts of its name in
//! `tests/golden`, which show what portmap makes of it. `BLESS=1` writes those anew.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Namespace;

/// The formats of `render`, which are also the endings of the golden files.
const FORMATS: [&str; 3] = ["nft", "iptables", "ip6tables"];

fn below(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)
}

/// A copy for this host, whose owner and mode root believes.
fn examples(host: &Namespace) -> Vec<(String, PathBuf)> {
    let files = fs::read_dir(below("rules")).unwrap().map(|entry| entry.unwrap().path());
    let mut examples: Vec<_> = files
        .map(|path| {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let copy = host.file(&format!("{stem}.yaml"), &fs::read_to_string(&path).unwrap());
            (stem, copy)
        })
        .collect();
    examples.sort();
    assert!(examples.len() >= 4, "{examples:?}");
    examples
}

#[test]
fn the_examples_are_without_mistakes() {
    let host = Namespace::new();
    for (_, file) in examples(&host) {
        let check = ["check".as_ref(), "--strict".as_ref(), file.as_os_str()];
        let outcome = host.portmap(check).run().succeeds();
        assert!(outcome.stdout.contains("no mistakes"), "{outcome}");
    }
}

#[test]
fn the_examples_become_the_golden_scripts() {
    let host = Namespace::new();
    for (name, file) in examples(&host) {
        for format in FORMATS {
            let render =
                ["render".as_ref(), "--format".as_ref(), format.as_ref(), file.as_os_str()];
            let script = host.portmap(render).run().succeeds().stdout;
            let golden = below("tests/golden").join(format!("{name}.{format}"));
            if std::env::var_os("BLESS").is_some() {
                fs::write(&golden, &script).unwrap();
            }
            let expected = fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(script, expected, "{}: BLESS=1 writes it anew", golden.display());
        }
    }
}

#[test]
fn nft_makes_of_the_golden_scripts_what_apply_makes_of_the_examples() {
    let (ours, theirs) = (Namespace::new(), Namespace::new());
    for (name, file) in examples(&ours) {
        ours.portmap(["apply".as_ref(), file.as_os_str()]).run().succeeds();
        let golden = below("tests/golden").join(format!("{name}.nft"));
        theirs.nft_script(&fs::read_to_string(golden).unwrap());
        assert_eq!(ours.blocks(), theirs.blocks(), "{name}");
    }
}
