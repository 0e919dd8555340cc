//! Questions to nftables, over the common socket.

use nix::libc;

use crate::kernel::Error;
use crate::kernel::netlink::socket::{Request, Socket};
use crate::kernel::netlink::wire::{Malformed, Message, Writer};

/// `NFNL_SUBSYS_NFTABLES << 8`, which the types of all nftables messages carry.
pub const fn nft_type(message: i32) -> u16 {
    ((libc::NFNL_SUBSYS_NFTABLES as u16) << 8) | message as u16
}

/// All of ours is of family inet.
pub const FAMILY: u8 = libc::NFPROTO_INET as u8;

/// Asks for one object; the attributes that name it are texts.
pub fn get(
    socket: &mut Socket,
    kind: i32,
    attrs: &[(u16, &str)],
    mut each: impl FnMut(Message) -> Result<(), Malformed>,
) -> Result<(), Error> {
    let request = Request { kind: nft_type(kind), family: FAMILY, dump: false };
    socket.ask(request, &|writer| write_texts(writer, attrs), &mut each)
}

/// Asks for all objects of a kind.
pub fn dump(
    socket: &mut Socket,
    kind: i32,
    attrs: &[(u16, &str)],
    mut each: impl FnMut(Message) -> Result<(), Malformed>,
) -> Result<(), Error> {
    let request = Request { kind: nft_type(kind), family: FAMILY, dump: true };
    socket.ask(request, &|writer| write_texts(writer, attrs), &mut each)
}

fn write_texts(writer: &mut Writer, attrs: &[(u16, &str)]) {
    for (attribute, value) in attrs {
        writer.attr_str(*attribute, value);
    }
}
