//! The tracing table, as the messages that make it: the chains are those of
//! [`Stage`].
//!
//! A packet is marked if it begins a connection to a watched service of this host: a TCP packet
//! with SYN alone, or any packet of another protocol, whose mark is taken off again where
//! connection tracking knows its flow to be answered. The marking rule remembers the client for
//! some seconds, and the first packets that are sent back to it are marked as well. Both are
//! limited, so that a flood does not become one of messages.
//!
//! The expressions are written as attributes. libnftnl is used for our own table, where what is
//! written has to be read back; here nothing is.

use nix::libc;

use crate::kernel::netlink::wire::Writer;
use crate::kernel::nft::abi::*;
use crate::kernel::nft::batch::Batch;
use crate::kernel::nft::{sets, userdata};
use crate::mapping::Service;
use crate::ruleset::{Lifetime, TraceId, TraceTable};
use crate::story::Stage;

/// Ahead of -450, the first thing that the kernel or iptables does.
const FIRST: i32 = -500;
/// Just after connection tracking, at -200 (`NF_IP_PRI_CONNTRACK`).
const AFTER_TRACKING: i32 = -199;
/// Behind everybody.
const LAST: i32 = i32::MAX - 1;

/// Packets marked in a second.
const RATE: u64 = 100;
const BURST: u32 = 100;
/// How long a client is remembered, in milliseconds, and how many are.
const MEMORY: u64 = 10_000;
const CLIENTS_MAX: u32 = 4096;

const SERVICES: &str = "services";
const CLIENTS: [&str; 2] = ["clients4", "clients6"];

/// `ARPHRD_LOOPBACK` of `linux/if_arp.h`.
const LOOPBACK: u32 = 772;
/// `IP_CT_DIR_ORIGINAL`, and `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`.
const ORIGINAL: u8 = 0;
const ESTABLISHED: u32 = 2;
/// Flags of a TCP header.
const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;
const SYN_RST: u8 = 0x06;
const TCP: u8 = libc::IPPROTO_TCP as u8;

/// The second and the third 32-bit word after an address in register 1.
const REG32_02: u32 = 10;
const REG32_04: u32 = 12;
const REG32_05: u32 = 13;

/// Makes the table, or fails if there is one of this name.
pub fn create(trace: &TraceTable, services: &[Service]) -> Batch {
    let name = &trace.id.to_string();
    let mut table = Table { name, batch: Batch::open(None, services.len()) };
    table.add(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, |w| {
        w.attr_str(NFTA_TABLE_NAME, name);
        let is_owned = trace.lifetime == Lifetime::Socket;
        w.attr_u32(NFTA_TABLE_FLAGS, if is_owned { TABLE_OWNER } else { 0 });
        if let Some(comment) = trace.comment() {
            w.attr(NFTA_TABLE_USERDATA, &userdata::comment(&comment));
        }
    });
    table.sets(services);
    let has_others = services.iter().any(|service| service.protocol.number() != TCP);
    table.chains(has_others);
    table.begin();
    table.answers();
    if has_others {
        table.forget();
    }
    table.batch.close();
    table.batch
}

pub fn delete(id: TraceId) -> Batch {
    let name = &id.to_string();
    let mut table = Table { name, batch: Batch::open(None, 0) };
    table.add(libc::NFT_MSG_DELTABLE, 0, |w| w.attr_str(NFTA_TABLE_NAME, name));
    table.batch.close();
    table.batch
}

struct Table<'n> {
    name: &'n str,
    batch: Batch,
}

impl Table<'_> {
    fn add(&mut self, kind: i32, flags: i32, write: impl FnOnce(&mut Writer)) {
        let message = self.batch.begin(kind, flags, 0);
        write(&mut self.batch.writer);
        self.batch.writer.end(message);
    }

    fn sets(&mut self, services: &[Service]) {
        let service = (TYPE_SERVICE_KEY, 8);
        self.set(SERVICES, service, 0, |w| {
            let desc = w.nest(NFTA_SET_DESC);
            w.attr_u32(NFTA_SET_DESC_SIZE, services.len() as u32);
            w.close(desc);
        });
        for (at, name) in CLIENTS.into_iter().enumerate() {
            let (address, len) = [(TYPE_IPADDR, 4), (TYPE_IP6ADDR, 16)][at];
            let key = (address << 12 | TYPE_SERVICE_KEY, len + 8);
            self.set(name, key, SET_TIMEOUT | SET_EVAL, |w| {
                w.attr_u64(NFTA_SET_TIMEOUT, MEMORY);
                let desc = w.nest(NFTA_SET_DESC);
                w.attr_u32(NFTA_SET_DESC_SIZE, CLIENTS_MAX);
                w.close(desc);
            });
        }
        // An element is 24 bytes, and the length of a list has 16 bits.
        for part in services.chunks(2000) {
            let name = self.name;
            self.add(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, |w| {
                w.attr_str(NFTA_SET_ELEM_LIST_TABLE, name);
                w.attr_str(NFTA_SET_ELEM_LIST_SET, SERVICES);
                let list = w.nest(NFTA_SET_ELEM_LIST_ELEMENTS);
                part.iter().for_each(|service| sets::write_service(w, *service, None));
                w.close(list);
            });
        }
    }

    fn set(&mut self, set: &str, key: (u32, u32), flags: u32, more: impl FnOnce(&mut Writer)) {
        self.batch.next_set += 1;
        let (name, id) = (self.name, self.batch.next_set);
        self.add(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, |w| {
            w.attr_str(NFTA_SET_TABLE, name);
            w.attr_str(NFTA_SET_NAME, set);
            w.attr_u32(NFTA_SET_FLAGS, flags);
            w.attr_u32(NFTA_SET_KEY_TYPE, key.0);
            w.attr_u32(NFTA_SET_KEY_LEN, key.1);
            w.attr_u32(NFTA_SET_ID, id);
            more(w);
        });
    }

    /// Those that others jump to first: a rule needs the chain that it names.
    fn chains(&mut self, has_others: bool) {
        use libc::{
            NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING,
            NF_INET_PRE_ROUTING,
        };
        for stage in [Stage::Begin, Stage::Answer] {
            self.chain(stage, None);
        }
        self.chain(Stage::Arrive, Some((NF_INET_PRE_ROUTING, FIRST)));
        self.chain(Stage::Depart, Some((NF_INET_LOCAL_OUT, FIRST)));
        self.chain(Stage::Answers, Some((NF_INET_LOCAL_OUT, FIRST)));
        if has_others {
            self.chain(Stage::Forget, None);
            self.chain(Stage::KnownOutside, Some((NF_INET_PRE_ROUTING, AFTER_TRACKING)));
            self.chain(Stage::KnownHere, Some((NF_INET_LOCAL_OUT, AFTER_TRACKING)));
        }
        self.chain(Stage::Delivered, Some((NF_INET_LOCAL_IN, LAST)));
        self.chain(Stage::Forwarded, Some((NF_INET_FORWARD, LAST)));
        self.chain(Stage::Left, Some((NF_INET_POST_ROUTING, LAST)));
    }

    fn chain(&mut self, stage: Stage, base: Option<(i32, i32)>) {
        let name = self.name;
        self.add(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, |w| {
            w.attr_str(NFTA_CHAIN_TABLE, name);
            w.attr_str(NFTA_CHAIN_NAME, stage.name());
            if let Some((hook, priority)) = base {
                let nest = w.nest(NFTA_CHAIN_HOOK);
                w.attr_u32(NFTA_HOOK_HOOKNUM, hook as u32);
                w.attr_u32(NFTA_HOOK_PRIORITY, priority as u32);
                w.close(nest);
                w.attr_str(NFTA_CHAIN_TYPE, "filter");
            }
        });
    }

    fn rule(&mut self, chain: Stage, write: impl FnOnce(&mut Rule<'_>)) {
        let name = self.name;
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        self.add(libc::NFT_MSG_NEWRULE, flags, |w| {
            w.attr_str(NFTA_RULE_TABLE, name);
            w.attr_str(NFTA_RULE_CHAIN, chain.name());
            let list = w.nest(NFTA_RULE_EXPRESSIONS);
            write(&mut Rule(w));
            w.close(list);
        });
    }

    /// Which packets are marked: those to a watched service of this host. What arrives over the
    /// loopback interface has been sent from here, and is marked already.
    fn begin(&mut self) {
        for chain in [Stage::Arrive, Stage::Depart] {
            self.rule(chain, |rule| {
                if chain == Stage::Arrive {
                    rule.meta(META_IIFTYPE, REG_1);
                    rule.compare(CMP_NEQ, &(LOOPBACK as u16).to_ne_bytes());
                }
                rule.local_destination();
                rule.meta(META_L4PROTO, REG_1);
                rule.load(PAYLOAD_TRANSPORT, 2, 2, REG32_01);
                rule.lookup(SERVICES);
                rule.verdict(libc::NFT_JUMP, Some(Stage::Begin));
            });
        }
        self.rule(Stage::Begin, |rule| {
            rule.protocol(CMP_EQ, TCP);
            rule.tcp_flags(FIN_SYN_RST_ACK, CMP_NEQ, SYN);
            rule.verdict(libc::NFT_RETURN, None);
        });
        self.rule(Stage::Begin, |rule| rule.stop_at_limit());
        for is_ipv6 in [false, true] {
            self.rule(Stage::Begin, |rule| {
                rule.client(is_ipv6, Direction::From);
                rule.remember(CLIENTS[usize::from(is_ipv6)]);
            });
        }
        self.rule(Stage::Begin, |rule| rule.mark(true));
    }

    /// Which answers are marked: what is sent to a remembered client, and ICMP errors about what
    /// it has sent. Of TCP what decides about the connection, and no data.
    fn answers(&mut self) {
        for is_ipv6 in [false, true] {
            for direction in [Direction::To, Direction::Error] {
                self.rule(Stage::Answers, |rule| {
                    rule.client(is_ipv6, direction);
                    rule.lookup(CLIENTS[usize::from(is_ipv6)]);
                    rule.verdict(libc::NFT_JUMP, Some(Stage::Answer));
                });
            }
        }
        self.rule(Stage::Answer, |rule| {
            rule.protocol(CMP_EQ, TCP);
            rule.tcp_flags(SYN_RST, CMP_EQ, 0);
            rule.verdict(libc::NFT_RETURN, None);
        });
        self.rule(Stage::Answer, |rule| rule.stop_at_limit());
        self.rule(Stage::Answer, |rule| rule.mark(true));
    }

    fn forget(&mut self) {
        self.rule(Stage::Forget, |rule| rule.mark(false));
        for chain in [Stage::KnownOutside, Stage::KnownHere] {
            self.rule(chain, |rule| {
                rule.protocol(CMP_NEQ, TCP);
                rule.ct(CT_DIRECTION);
                rule.compare(CMP_EQ, &[ORIGINAL]);
                rule.ct(CT_STATE);
                rule.mask(&ESTABLISHED.to_ne_bytes());
                rule.compare(CMP_NEQ, &[0; 4]);
                rule.verdict(libc::NFT_JUMP, Some(Stage::Forget));
            });
        }
    }
}

/// In which part of a packet a client is named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    From,
    To,
    /// To it, about a packet from it.
    Error,
}

/// The expressions of a rule, one after another.
struct Rule<'w>(&'w mut Writer);

impl Rule<'_> {
    fn expr(&mut self, name: &str, write: impl FnOnce(&mut Writer)) {
        let element = self.0.nest(NFTA_LIST_ELEM);
        self.0.attr_str(NFTA_EXPR_NAME, name);
        let data = self.0.nest(NFTA_EXPR_DATA);
        write(self.0);
        self.0.close(data);
        self.0.close(element);
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.expr("meta", |w| {
            w.attr_u32(NFTA_META_KEY, key);
            w.attr_u32(NFTA_META_DREG, register);
        });
    }

    fn ct(&mut self, key: u32) {
        self.expr("ct", |w| {
            w.attr_u32(NFTA_CT_DREG, REG_1);
            w.attr_u32(NFTA_CT_KEY, key);
        });
    }

    fn load(&mut self, base: u32, offset: u32, len: u32, register: u32) {
        self.expr("payload", |w| {
            w.attr_u32(NFTA_PAYLOAD_DREG, register);
            w.attr_u32(NFTA_PAYLOAD_BASE, base);
            w.attr_u32(NFTA_PAYLOAD_OFFSET, offset);
            w.attr_u32(NFTA_PAYLOAD_LEN, len);
        });
    }

    fn compare(&mut self, op: u32, data: &[u8]) {
        self.expr("cmp", |w| {
            w.attr_u32(NFTA_CMP_SREG, REG_1);
            w.attr_u32(NFTA_CMP_OP, op);
            value(w, NFTA_CMP_DATA, data);
        });
    }

    fn mask(&mut self, mask: &[u8]) {
        self.expr("bitwise", |w| {
            w.attr_u32(NFTA_BITWISE_SREG, REG_1);
            w.attr_u32(NFTA_BITWISE_DREG, REG_1);
            w.attr_u32(NFTA_BITWISE_LEN, mask.len() as u32);
            value(w, NFTA_BITWISE_MASK, mask);
            value(w, NFTA_BITWISE_XOR, &vec![0; mask.len()]);
        });
    }

    fn lookup(&mut self, set: &str) {
        self.expr("lookup", |w| {
            w.attr_str(NFTA_LOOKUP_SET, set);
            w.attr_u32(NFTA_LOOKUP_SREG, REG_1);
        });
    }

    fn remember(&mut self, set: &str) {
        self.expr("dynset", |w| {
            w.attr_str(NFTA_DYNSET_SET_NAME, set);
            w.attr_u32(NFTA_DYNSET_OP, DYNSET_UPDATE);
            w.attr_u32(NFTA_DYNSET_SREG_KEY, REG_1);
        });
    }

    fn verdict(&mut self, code: i32, chain: Option<Stage>) {
        self.expr("immediate", |w| {
            w.attr_u32(NFTA_IMMEDIATE_DREG, REG_VERDICT);
            let data = w.nest(NFTA_IMMEDIATE_DATA);
            let verdict = w.nest(NFTA_DATA_VERDICT);
            w.attr_u32(NFTA_VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                w.attr_str(NFTA_VERDICT_CHAIN, chain.name());
            }
            w.close(verdict);
            w.close(data);
        });
    }

    fn mark(&mut self, is_traced: bool) {
        self.expr("immediate", |w| {
            w.attr_u32(NFTA_IMMEDIATE_DREG, REG_1);
            value(w, NFTA_IMMEDIATE_DATA, &[u8::from(is_traced)]);
        });
        self.expr("meta", |w| {
            w.attr_u32(NFTA_META_KEY, META_NFTRACE);
            w.attr_u32(NFTA_META_SREG, REG_1);
        });
    }

    fn local_destination(&mut self) {
        self.expr("fib", |w| {
            w.attr_u32(NFTA_FIB_DREG, REG_1);
            w.attr_u32(NFTA_FIB_RESULT, FIB_RESULT_ADDRTYPE);
            w.attr_u32(NFTA_FIB_FLAGS, FIB_DADDR);
        });
        self.compare(CMP_EQ, &RTN_LOCAL.to_ne_bytes());
    }

    fn protocol(&mut self, op: u32, protocol: u8) {
        self.meta(META_L4PROTO, REG_1);
        self.compare(op, &[protocol]);
    }

    fn tcp_flags(&mut self, mask: u8, op: u32, flags: u8) {
        self.load(PAYLOAD_TRANSPORT, 13, 1, REG_1);
        self.mask(&[mask]);
        self.compare(op, &[flags]);
    }

    fn stop_at_limit(&mut self) {
        self.expr("limit", |w| {
            w.attr_u64(NFTA_LIMIT_RATE, RATE);
            w.attr_u64(NFTA_LIMIT_UNIT, 1);
            w.attr_u32(NFTA_LIMIT_BURST, BURST);
            w.attr_u32(NFTA_LIMIT_FLAGS, LIMIT_INVERT);
        });
        self.verdict(libc::NFT_RETURN, None);
    }

    /// The key of a client: address, protocol, port. In an ICMP error they are those of the packet
    /// that it is about, which follows a header of 8 bytes (RFC 792, RFC 4443). IPv4 options and
    /// IPv6 extension headers are not expected there.
    fn client(&mut self, is_ipv6: bool, direction: Direction) {
        let (nfproto, address, len) = match is_ipv6 {
            false => (libc::NFPROTO_IPV4, 12, 4),
            true => (libc::NFPROTO_IPV6, 8, 16),
        };
        self.meta(META_NFPROTO, REG_1);
        self.compare(CMP_EQ, &[nfproto as u8]);
        if direction == Direction::Error {
            let (icmp, unreachable) = match is_ipv6 {
                false => (libc::IPPROTO_ICMP as u8, 3),
                true => (libc::IPPROTO_ICMPV6 as u8, 1),
            };
            self.protocol(CMP_EQ, icmp);
            self.load(PAYLOAD_TRANSPORT, 0, 1, REG_1);
            self.compare(CMP_EQ, &[unreachable]);
        }
        let offset = if direction == Direction::From { address } else { address + len };
        self.load(PAYLOAD_NETWORK, offset, len, REG_1);
        let (protocol, port) = if is_ipv6 { (REG32_04, REG32_05) } else { (REG32_01, REG32_02) };
        match direction {
            Direction::From | Direction::To => {
                self.meta(META_L4PROTO, protocol);
                let offset = if direction == Direction::From { 0 } else { 2 };
                self.load(PAYLOAD_TRANSPORT, offset, 2, port);
            }
            Direction::Error => {
                let (inner_protocol, inner_len) = if is_ipv6 { (6, 40) } else { (9, 20) };
                self.load(PAYLOAD_TRANSPORT, 8 + inner_protocol, 1, protocol);
                self.load(PAYLOAD_TRANSPORT, 8 + inner_len, 2, port);
            }
        }
    }
}

fn value(writer: &mut Writer, attribute: u16, data: &[u8]) {
    let nest = writer.nest(attribute);
    writer.attr(NFTA_DATA_VALUE, data);
    writer.close(nest);
}
