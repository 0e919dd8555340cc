//! The doors for a fuzzer, which are there for nobody else: what is read where the kernel's
//! answers are any bytes.

use super::netlink::socket::Socket;
use super::netlink::wire::Messages;
use super::{Error, firewall, nft, sockets, trace};
use crate::firewall::Table;
use crate::host::listeners::Listening;
use crate::mapping::Protocol;
use crate::ruleset::Observed;
use crate::story::Event;

pub use super::events::told;
pub use super::netlink::replay::{record, replay};
pub use super::nft::read::Extent;

/// Our table, as the answers tell it.
pub fn table(extent: Extent) -> Result<Option<Observed>, Error> {
    Ok(nft::read::tables(&mut Socket::open()?, extent)?.0)
}

/// Everybody's tables.
pub fn tables() -> Result<Vec<Table>, Error> {
    firewall::tables(&mut Socket::open()?)
}

/// Who listens.
pub fn listening() -> Listening {
    sockets::listening(&[Protocol::Tcp, Protocol::Udp])
}

/// The sequence number and the error number of each answer to a batch.
pub fn answers() -> Result<Vec<(u32, i32)>, Error> {
    let answers = Socket::open()?.transact(&[])?;
    Ok(answers.into_iter().map(|answer| (answer.sequence, answer.errno)).collect())
}

/// What a datagram tells of traced packets.
pub fn events(datagram: &[u8]) -> Vec<Event> {
    let messages = Messages(datagram).map_while(Result::ok);
    messages.filter_map(|message| trace::event::read(&message).ok().flatten()).collect()
}
