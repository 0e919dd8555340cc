//! A flow as connection tracking reports it, and what names it for deletion. What arrives is input:
//! every length is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::abi::*;
use crate::flows::{Flow, Tuple};
use crate::kernel::netlink::wire::{
    Attrs, FAMILY_HEADER, Malformed, NESTED, Writer, array, be_u16, be_u32,
};
use crate::mapping::Protocol;

/// Names one flow for deletion.
#[derive(Debug, PartialEq, Eq)]
pub struct Handle {
    pub family: u8,
    /// `CTA_TUPLE_ORIG` (with a zone of its own, perhaps), `CTA_ZONE` and `CTA_ID` as the kernel
    /// gave them. The tuple is always among them: without one, CT_DELETE empties the table.
    pub id: Vec<u8>,
}

/// A flow, what conntrack says of it, and its handle.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub flow: Flow,
    /// Of the original direction.
    pub zone: u16,
    /// `IPS_*`
    pub status: u32,
    /// Of a TCP or SCTP connection.
    state: Option<u8>,
    pub handle: Handle,
}

impl Entry {
    /// Reads what follows the message's header. `None` for a flow that has no ports, or whose
    /// protocol is none of ours.
    pub fn parse(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let (&[family, ..], attributes) =
            payload.split_first_chunk::<FAMILY_HEADER>().ok_or(Malformed)?;
        let (mut original, mut reply, mut identified) = (None, None, false);
        let (mut zone, mut status, mut state) = (0, 0, None);
        let mut id = Writer::default();
        for attribute in Attrs(attributes) {
            let (kind, value) = attribute?;
            match kind {
                CTA_TUPLE_ORIG => {
                    original = parse_tuple(value)?;
                    if let Some(of_tuple) = Attrs(value).find(CTA_TUPLE_ZONE)? {
                        zone = be_u16(of_tuple)?;
                    }
                    id.attr(kind | NESTED, value);
                }
                CTA_TUPLE_REPLY => reply = parse_tuple(value)?,
                CTA_ID => {
                    identified = true;
                    id.attr(kind, value);
                }
                // In both directions.
                CTA_ZONE => {
                    zone = be_u16(value)?;
                    id.attr(kind, value);
                }
                CTA_STATUS => status = be_u32(value)?,
                CTA_PROTOINFO => state = parse_state(value)?,
                _ => {}
            }
        }
        let (Some((protocol, original)), Some((_, reply)), true) = (original, reply, identified)
        else {
            return Ok(None);
        };
        let flow = Flow { protocol, original, reply };
        Ok(Some(Entry { flow, zone, status, state, handle: Handle { family, id: id.bytes } }))
    }

    /// Whether there is still a connection whose packets would miss their translation.
    pub fn is_open(&self) -> bool {
        match (self.flow.protocol, self.state) {
            (Protocol::Tcp, Some(state)) => !matches!(state, TCP_TIME_WAIT | TCP_CLOSE),
            (Protocol::Sctp, Some(state)) => state != SCTP_CLOSED,
            _ => true,
        }
    }
}

/// The state of a connection in `CTA_PROTOINFO`: `CTA_PROTOINFO_TCP_STATE` and its siblings, which
/// have the same number.
fn parse_state(payload: &[u8]) -> Result<Option<u8>, Malformed> {
    for kind in [CTA_PROTOINFO_TCP, CTA_PROTOINFO_SCTP] {
        if let Some(info) = Attrs(payload).find(kind)? {
            let state = Attrs(info).find(CTA_PROTOINFO_STATE)?;
            return state.map(|state| array(state).map(u8::from_be_bytes)).transpose();
        }
    }
    Ok(None)
}

pub(super) fn parse_tuple(payload: &[u8]) -> Result<Option<(Protocol, Tuple)>, Malformed> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut source_port, mut destination_port) = (None, None, None);
    let attributes = Attrs(payload);
    for attribute in Attrs(attributes.find(CTA_TUPLE_IP)?.unwrap_or_default()) {
        match attribute? {
            (CTA_IP_V4_SRC, value) => source = Some(Ipv4Addr::from(array(value)?).into()),
            (CTA_IP_V4_DST, value) => destination = Some(Ipv4Addr::from(array(value)?).into()),
            (CTA_IP_V6_SRC, value) => source = Some(Ipv6Addr::from(array(value)?).into()),
            (CTA_IP_V6_DST, value) => destination = Some(Ipv6Addr::from(array(value)?).into()),
            _ => {}
        }
    }
    for attribute in Attrs(attributes.find(CTA_TUPLE_PROTO)?.unwrap_or_default()) {
        match attribute? {
            (CTA_PROTO_NUM, value) => {
                protocol = Protocol::from_number(u8::from_be_bytes(array(value)?));
            }
            (CTA_PROTO_SRC_PORT, value) => source_port = Some(be_u16(value)?),
            (CTA_PROTO_DST_PORT, value) => destination_port = Some(be_u16(value)?),
            _ => {}
        }
    }
    let endpoint = |address: Option<IpAddr>, port| Some(SocketAddr::new(address?, port?));
    Ok(endpoint(source, source_port)
        .zip(endpoint(destination, destination_port))
        .zip(protocol)
        .map(|((source, destination), protocol)| (protocol, Tuple { source, destination })))
}
