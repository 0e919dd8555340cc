//! Slips of who types.

/// The one of `known` that `text` was probably meant to be.
pub fn closest<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    const LONGEST: usize = 24;
    if text.len() > LONGEST {
        return None;
    }
    let text = text.to_lowercase();
    let distance = |known: &&str| strsim::osa_distance(&text, known);
    let near = |known: &&&str| distance(known) <= known.len().min(6) / 3;
    known.iter().filter(near).min_by_key(|known| distance(known)).copied()
}
