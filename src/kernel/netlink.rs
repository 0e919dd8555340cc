//! Netlink, whatever it is about: [`wire`] frames messages and attributes and takes them apart,
//! [`socket`] moves them. nftables and connection tracking are asked through here.
//!
//! What comes from a socket is input: no length is trusted.

#[cfg(fuzzing)]
pub mod replay;
pub mod socket;
pub mod wire;

#[cfg(test)]
pub mod tests;
