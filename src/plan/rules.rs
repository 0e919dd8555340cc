//! The fewest edits between two lists of rules.

use crate::ruleset::Rule;

/// Positions are those in the old list.
#[derive(Debug, PartialEq)]
pub enum Edit<'a> {
    Delete(usize),
    /// Before a rule that stays; at the end if there is none.
    Insert {
        rule: &'a Rule,
        before: Option<usize>,
    },
}

/// What turns `have` into `want`, keeping a longest common subsequence, so that rules that stay
/// keep their counters. All deletions come first.
pub fn edits<'a>(
    want: &'a [Rule],
    have: &[Rule],
    same: &dyn Fn(&Rule, &Rule) -> bool,
) -> Vec<Edit<'a>> {
    let kept = common(want, have, same);
    let stays = |i: &usize| kept.iter().any(|(_, h)| h == i);
    let mut edits: Vec<_> = (0..have.len()).filter(|i| !stays(i)).map(Edit::Delete).collect();
    let mut next_kept = kept.iter().peekable();
    for (i, rule) in want.iter().enumerate() {
        match next_kept.peek() {
            Some((w, _)) if *w == i => _ = next_kept.next(),
            next => edits.push(Edit::Insert { rule, before: next.map(|(_, h)| *h) }),
        }
    }
    edits
}

/// Pairs of positions of a longest common subsequence. The ends that agree are taken as they are;
/// only what lies between is compared in full.
fn common(
    want: &[Rule],
    have: &[Rule],
    same: &dyn Fn(&Rule, &Rule) -> bool,
) -> Vec<(usize, usize)> {
    let shorter = want.len().min(have.len());
    let head = (0..shorter).take_while(|&i| same(&want[i], &have[i])).count();
    let (w_end, h_end) = (want.len(), have.len());
    let tail = (0..shorter - head)
        .take_while(|&i| same(&want[w_end - 1 - i], &have[h_end - 1 - i]))
        .count();
    let (w, h) = (&want[head..w_end - tail], &have[head..h_end - tail]);
    let mut longest = vec![vec![0_u32; h.len() + 1]; w.len() + 1];
    for i in (0..w.len()).rev() {
        for j in (0..h.len()).rev() {
            longest[i][j] = if same(&w[i], &h[j]) {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let mut pairs: Vec<_> = (0..head).map(|i| (i, i)).collect();
    let (mut i, mut j) = (0, 0);
    while i < w.len() && j < h.len() {
        if same(&w[i], &h[j]) {
            pairs.push((head + i, head + j));
            (i, j) = (i + 1, j + 1);
        } else if longest[i + 1][j] >= longest[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs.extend((0..tail).rev().map(|i| (w_end - 1 - i, h_end - 1 - i)));
    pairs
}
