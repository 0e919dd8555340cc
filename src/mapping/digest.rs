//! Whether two inputs are the same, in 16 bytes.

use std::fmt;
use std::str::FromStr;

/// Bytes of a digest: two inputs that share one take some 2^64 trials to find, even on purpose.
const LENGTH: usize = 16;

/// BLAKE2b (RFC 7693) with 16 bytes of output. Equal digests mean equal inputs, even if someone
/// tries to make two that differ.
///
/// Text form: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; LENGTH]);

impl Digest {
    /// The digest of a list of parts. Where one part ends matters: `["ab", ""]` is not `["a", "b"]`.
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut state = blake2b_simd::Params::new().hash_length(LENGTH).to_state();
        for part in parts {
            state.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let mut bytes = [0; LENGTH];
        bytes.copy_from_slice(state.finalize().as_bytes());
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ();

    /// Takes what [`fmt::Display`] writes and nothing else: 32 digits in lower case.
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 2 * LENGTH || !text.bytes().all(is_digit) {
            return Err(());
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&str]) -> Digest {
        Digest::of(parts.iter().map(|part| part.as_bytes()))
    }

    #[test]
    fn only_the_same_parts_have_the_same_digest() {
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        for other in [&["ab", ""][..], &["", "ab"], &["ab"], &["a"], &["b", "a"], &["a", "b", ""]] {
            assert_ne!(of(&["a", "b"]), of(other), "{other:?}");
        }
    }

    #[test]
    fn the_text_form_reads_back_and_nothing_else_does() {
        let digest = of(&["a"]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let text = "00112233445566778899aabbccddeeff";
        assert_eq!(text.parse::<Digest>().map(|d| d.to_string()).as_deref(), Ok(text));
        for wrong in ["", "0", "1f00c2d3e4f5a6b7", "+0112233445566778899aabbccddeeff"] {
            assert_eq!(wrong.parse::<Digest>(), Err(()), "{wrong}");
        }
        assert_eq!(text.to_uppercase().parse::<Digest>(), Err(()));
    }
}
