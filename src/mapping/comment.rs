//! The comment of a mapping.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The longest comment, in bytes: `NFTNL_UDATA_COMMENT_MAXLEN` of `libnftnl/udata.h`.
pub const COMMENT_MAX: usize = 128;

/// A remark on a mapping, shown by `status` and in the kernel's listing: 1 to [`COMMENT_MAX`]
/// bytes, without control characters, and without a double quote, for which nft's grammar has no
/// escape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comment(Arc<str>);

/// Why a text is not a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidComment {
    #[error("the comment is empty")]
    Empty,
    #[error("the comment has {0} bytes, more than {COMMENT_MAX}")]
    TooLong(usize),
    #[error("the comment has a double quote, which nft cannot show")]
    Quote,
    #[error("the comment has a line break or another control character")]
    Control,
}

impl Comment {
    pub fn new(text: &str) -> Result<Self, InvalidComment> {
        if text.len() > COMMENT_MAX {
            Err(InvalidComment::TooLong(text.len()))
        } else if text.contains('"') {
            Err(InvalidComment::Quote)
        } else if text.contains(char::is_control) {
            Err(InvalidComment::Control)
        } else if text.is_empty() {
            Err(InvalidComment::Empty)
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The beginning of a text that is too long. `None` where it cannot be a comment for another
    /// reason.
    pub fn shortened(text: &str) -> Option<Self> {
        const CUT: &str = "…";
        if text.len() <= COMMENT_MAX {
            return Self::new(text).ok();
        }
        let fits = |&end: &usize| text.is_char_boundary(end);
        let end = (0..=COMMENT_MAX - CUT.len()).rev().find(fits).unwrap_or(0);
        Self::new(&format!("{}{CUT}", &text[..end])).ok()
    }
}

impl Deref for Comment {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
