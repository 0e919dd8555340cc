//! `NFT_MSG_TRACE` as a value. What arrives is input: every length is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc;
use nix::net::if_::if_indextoname;

use crate::firewall::Family;
use crate::kernel::netlink::wire::{Attrs, Malformed, Message, array, be_u32, be_u64, text};
use crate::kernel::nft::abi::*;
use crate::kernel::nft::query::nft_type;
use crate::mapping::Protocol;
use crate::story::{Event, Packet, Place, Ports, Said, TcpFlags, Transport, Unreachable, Verdict};

/// `NFT_MSG_TRACE`
const TRACE: i32 = 17;

/// `None` for a message about something else.
pub fn read(message: &Message) -> Result<Option<Event>, Malformed> {
    if message.kind != nft_type(TRACE) {
        return Ok(None);
    }
    let mut f = Fields::default();
    for attr in message.attrs()? {
        f.take(attr?)?;
    }
    let place = Place {
        family: message.family().and_then(Family::from_number).ok_or(Malformed)?.name(),
        table: f.table.ok_or(Malformed)?.to_owned(),
        chain: f.chain.ok_or(Malformed)?.to_owned(),
    };
    let said = match f.kind {
        NFT_TRACETYPE_RULE => match f.handle {
            Some(handle) => Said::Rule { handle, verdict: verdict(f.verdict.ok_or(Malformed)?)? },
            // Since Linux 5.17, the end of a chain is a rule of the kernel's own that says nothing.
            None => Said::End,
        },
        NFT_TRACETYPE_POLICY => Said::Policy(code(f.policy.ok_or(Malformed)? as i32, None)),
        NFT_TRACETYPE_RETURN => Said::End,
        _ => return Err(Malformed),
    };
    Ok(Some(Event {
        id: f.id.ok_or(Malformed)?,
        place,
        said,
        packet: f.network.map(|network| packet(network, f.transport.unwrap_or(&[]))).transpose()?,
        arriving: f.arriving.and_then(interface),
        leaving: f.leaving.and_then(interface),
    }))
}

#[derive(Default)]
struct Fields<'a> {
    id: Option<u32>,
    kind: u32,
    table: Option<&'a str>,
    chain: Option<&'a str>,
    handle: Option<u64>,
    verdict: Option<Attrs<'a>>,
    policy: Option<u32>,
    network: Option<&'a [u8]>,
    transport: Option<&'a [u8]>,
    arriving: Option<u32>,
    leaving: Option<u32>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, (attribute, value): (u16, &'a [u8])) -> Result<(), Malformed> {
        match attribute {
            NFTA_TRACE_ID => self.id = Some(be_u32(value)?),
            NFTA_TRACE_TYPE => self.kind = be_u32(value)?,
            NFTA_TRACE_TABLE => self.table = Some(text(value)?),
            NFTA_TRACE_CHAIN => self.chain = Some(text(value)?),
            NFTA_TRACE_RULE_HANDLE => self.handle = Some(be_u64(value)?),
            NFTA_TRACE_VERDICT => self.verdict = Some(Attrs(value)),
            NFTA_TRACE_POLICY => self.policy = Some(be_u32(value)?),
            NFTA_TRACE_NETWORK_HEADER => self.network = Some(value),
            NFTA_TRACE_TRANSPORT_HEADER => self.transport = Some(value),
            NFTA_TRACE_IIF => self.arriving = Some(be_u32(value)?),
            NFTA_TRACE_OIF => self.leaving = Some(be_u32(value)?),
            _ => {}
        }
        Ok(())
    }
}

fn interface(index: u32) -> Option<String> {
    let name = if_indextoname(index).ok()?;
    Some(name.to_string_lossy().into_owned())
}

fn verdict(nest: Attrs<'_>) -> Result<Verdict, Malformed> {
    let number = be_u32(nest.find(NFTA_VERDICT_CODE)?.ok_or(Malformed)?)? as i32;
    Ok(code(number, nest.find(NFTA_VERDICT_CHAIN)?.map(text).transpose()?))
}

/// Verdicts of netfilter have more in the upper half: the number of a queue, an error number.
fn code(number: i32, chain: Option<&str>) -> Verdict {
    let chain = || chain.unwrap_or("?").to_owned();
    match number {
        libc::NFT_CONTINUE => Verdict::Continue,
        libc::NFT_RETURN => Verdict::Return,
        libc::NFT_JUMP => Verdict::Jump(chain()),
        libc::NFT_GOTO => Verdict::Goto(chain()),
        number if number < 0 => Verdict::Other(number),
        number => match number & 0xff {
            libc::NF_DROP => Verdict::Drop,
            libc::NF_ACCEPT => Verdict::Accept,
            libc::NF_STOLEN => Verdict::Stolen,
            libc::NF_QUEUE => Verdict::Queue,
            _ => Verdict::Other(number),
        },
    }
}

/// The kernel sends up to 40 bytes of the IP header and 20 of what follows it.
fn packet(network: &[u8], transport: &[u8]) -> Result<Packet, Malformed> {
    let part = |from: usize, to: usize| network.get(from..to).ok_or(Malformed);
    let (source, destination, next, is_ipv6): (IpAddr, IpAddr, u8, bool) =
        match network.first().ok_or(Malformed)? >> 4 {
            4 => {
                let address = |at| Ok(Ipv4Addr::from(array::<4>(part(at, at + 4)?)?).into());
                (address(12)?, address(16)?, part(9, 10)?[0], false)
            }
            6 => {
                let address = |at| Ok(Ipv6Addr::from(array::<16>(part(at, at + 16)?)?).into());
                (address(8)?, address(24)?, part(6, 7)?[0], true)
            }
            _ => return Err(Malformed),
        };
    Ok(Packet { source, destination, transport: layer_4(next, transport, is_ipv6) })
}

/// What is too short to have ports, such as a fragment, has none.
fn layer_4(protocol: u8, header: &[u8], is_ipv6: bool) -> Transport {
    const ICMP: (u8, u8) = (libc::IPPROTO_ICMP as u8, 3);
    const ICMPV6: (u8, u8) = (libc::IPPROTO_ICMPV6 as u8, 1);
    if let (Some(protocol), [s0, s1, d0, d1, ..]) = (Protocol::from_number(protocol), header) {
        let flags = match (protocol, header.get(13)) {
            (Protocol::Tcp, Some(flags)) => TcpFlags(*flags),
            _ => TcpFlags::default(),
        };
        let source = u16::from_be_bytes([*s0, *s1]);
        let destination = u16::from_be_bytes([*d0, *d1]);
        return Transport::Ports(Ports { protocol, source, destination, flags });
    }
    match header {
        [kind, code, ..] if [ICMP, ICMPV6][usize::from(is_ipv6)] == (protocol, *kind) => {
            Transport::Unreachable(Unreachable::from_code(*code, is_ipv6))
        }
        _ => Transport::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::wire::{Messages, Writer};

    const SYN: [u8; 20] = [0xc0, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];

    fn ipv4(protocol: u8) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0];
        header.extend([192, 0, 2, 2, 192, 0, 2, 1]);
        header
    }

    /// A message with these attributes.
    fn message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::default();
        let open = writer.begin(nft_type(TRACE), 0, 0, libc::NFPROTO_INET as u8, 0);
        for (attribute, value) in attributes {
            writer.attr(*attribute, value);
        }
        writer.end(open);
        writer.bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<Option<Event>, Malformed> {
        read(&Messages(bytes).next().unwrap()?)
    }

    #[test]
    fn a_policy_and_its_packet_are_read() {
        let header = ipv4(6);
        let attributes: [(u16, &[u8]); 7] = [
            (NFTA_TRACE_ID, &[0, 0, 0, 7]),
            (NFTA_TRACE_TYPE, &[0, 0, 0, 1]),
            (NFTA_TRACE_TABLE, b"fw\0"),
            (NFTA_TRACE_CHAIN, b"input\0"),
            (NFTA_TRACE_POLICY, &[0, 0, 0, 0]),
            (NFTA_TRACE_NETWORK_HEADER, &header),
            (NFTA_TRACE_TRANSPORT_HEADER, &SYN),
        ];
        let event = read_bytes(&message(&attributes)).unwrap().unwrap();
        assert_eq!(event.said, Said::Policy(Verdict::Drop));
        assert_eq!(event.place.to_string(), "table inet fw, chain input");
        let packet = event.packet.unwrap();
        let (protocol, source, destination) = packet.ends().unwrap();
        assert_eq!(protocol, Protocol::Tcp);
        assert_eq!(source.to_string(), "192.0.2.2:49152");
        assert_eq!(destination.to_string(), "192.0.2.1:80");

        // Whatever is left out or cut off, it is an error and no panic.
        for missing in 0..attributes.len() - 2 {
            let mut fewer = attributes.to_vec();
            fewer.remove(missing);
            assert_eq!(read_bytes(&message(&fewer)), Err(Malformed), "{missing}");
        }
        for (at, (_, value)) in attributes.iter().enumerate().take(6) {
            let mut shorter = attributes.to_vec();
            shorter[at].1 = &value[..value.len() - 1];
            let read = read_bytes(&message(&shorter));
            // A text may or may not bring its closing zero.
            assert_eq!(read.is_err(), ![2, 3].contains(&at), "{at}: {read:?}");
        }
    }

    #[test]
    fn a_header_of_any_length_is_read_or_refused() {
        for protocol in [1, 6, 17, 58, 132] {
            let header = ipv4(protocol);
            for len in 0..=header.len() {
                for transport in 0..=SYN.len() {
                    let packet = packet(&header[..len], &SYN[..transport]);
                    assert_eq!(packet.is_ok(), len == header.len());
                }
            }
        }
        assert_eq!(packet(&[0x75; 40], &SYN), Err(Malformed));
    }

    #[test]
    fn icmp_errors_are_told_by_their_code() {
        let unreachable = |protocol, header: &[u8], is_ipv6| layer_4(protocol, header, is_ipv6);
        let port = Transport::Unreachable(Unreachable::Port);
        let prohibited = Transport::Unreachable(Unreachable::Prohibited);
        assert_eq!(unreachable(1, &[3, 3, 0, 0], false), port);
        assert_eq!(unreachable(1, &[3, 13, 0, 0], false), prohibited);
        assert_eq!(unreachable(58, &[1, 4, 0, 0], true), port);
        assert_eq!(unreachable(58, &[1, 1, 0, 0], true), prohibited);
        assert_eq!(unreachable(1, &[8, 0, 0, 0], false), Transport::Other);
        assert_eq!(unreachable(58, &[1], true), Transport::Other);
    }

    #[test]
    fn verdicts_are_those_of_the_kernel() {
        assert_eq!(code(0x0002_0003, None), Verdict::Queue);
        // `NF_DROP_ERR(1)` has the error in the upper half.
        assert_eq!(code(1 << 16, None), Verdict::Drop);
        assert_eq!(code(-3, Some("web")), Verdict::Jump("web".into()));
        assert_eq!(code(-9, None), Verdict::Other(-9));
    }
}
