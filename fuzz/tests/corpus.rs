//! Each target over what is kept of its corpus, by the stable compiler and without a fuzzer:
//! `make fuzz-corpus`.

#![cfg(fuzzing)]

use std::fs;
use std::path::Path;

#[test]
fn no_target_panics_on_its_corpus() {
    for (name, target) in portmap_fuzz::TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files = 0;
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
            files += 1;
        }
        assert!(files > 0, "no corpus in {}", dir.display());
    }
}
