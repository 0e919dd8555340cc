//! From an answer of the kernel back to the step, and the element of it, that it refused.

use super::abi::{NFTA_LIST_ELEM, NFTA_SET_ELEM_LIST_ELEMENTS};
use super::batch::{Batch, Origin};
use crate::kernel::netlink::wire::{Attrs, FAMILY_HEADER, HEADER};
use crate::plan::Step;

/// The step to which the message of this position belongs, and what it was about to do; `offset` is
/// the place in the message that the kernel names.
pub fn explain<'a>(
    batch: &Batch,
    steps: &'a [Step],
    index: usize,
    offset: Option<usize>,
) -> (Option<&'a Step>, String) {
    let origin = batch.origins.get(index);
    let step = origin.and_then(|origin| steps.get(origin.step));
    let (Some(origin), Some(step)) = (origin, step) else {
        return (None, "open the transaction".to_owned());
    };
    let (here, count) = elements(batch, *origin, offset);
    let first = origin.first_element;
    let part = |elements| step.part(elements).within(batch.place.name);
    let tried = match here {
        Some(index) => part(first + index..first + index + 1).to_string(),
        // Kernels of the age of 5.10 name no place within the message.
        None if count > 1 => {
            let all = part(first..first + count);
            format!("{all} (the kernel refuses one of them, and does not say which)")
        }
        None => part(first..first + count).to_string(),
    };
    (Some(step), tried)
}

/// Which element of the message the offset lies in, and how many there are.
fn elements(batch: &Batch, origin: Origin, offset: Option<usize>) -> (Option<usize>, usize) {
    let from_origin = batch.writer.bytes.get(origin.start..).unwrap_or(&[]);
    let len = from_origin.first_chunk().map_or(0, |l| u32::from_ne_bytes(*l) as usize);
    let Some(message) = from_origin.get(..len) else { return (None, 0) };
    let Some(attrs) = message.get(HEADER + FAMILY_HEADER..) else { return (None, 0) };
    let Ok(Some(list)) = Attrs(attrs).find(NFTA_SET_ELEM_LIST_ELEMENTS) else { return (None, 0) };
    let mut walk = Attrs(list);
    let (mut here, mut count) = (None, 0);
    // The list is the last attribute of the message.
    let mut end = message.len() - list.len();
    while let Some(Ok((NFTA_LIST_ELEM, _))) = walk.next() {
        let start = end;
        end = message.len() - walk.0.len();
        if offset.is_some_and(|offset| (start..end).contains(&offset)) {
            here = Some(count);
        }
        count += 1;
    }
    (here, count)
}
