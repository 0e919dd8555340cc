//! Numbers of connection tracking's messages.

use nix::libc;

// linux/socket.h
pub const AF_INET: u8 = libc::AF_INET as u8;
pub const AF_INET6: u8 = libc::AF_INET6 as u8;

// linux/netfilter/nfnetlink.h
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_CTNETLINK as u16;

// linux/netfilter/nfnetlink_conntrack.h
pub const CT_NEW: u16 = SUBSYSTEM << 8;
pub const CT_GET: u16 = SUBSYSTEM << 8 | 1;
pub const CT_DELETE: u16 = SUBSYSTEM << 8 | 2;
pub const CTA_TUPLE_ORIG: u16 = 1;
pub const CTA_TUPLE_REPLY: u16 = 2;
pub const CTA_STATUS: u16 = 3;
pub const CTA_PROTOINFO: u16 = 4;
pub const CTA_ID: u16 = 12;
pub const CTA_ZONE: u16 = 18;
pub const CTA_FILTER: u16 = 25;
pub const CTA_TUPLE_IP: u16 = 1;
pub const CTA_TUPLE_PROTO: u16 = 2;
pub const CTA_TUPLE_ZONE: u16 = 3;
pub const CTA_IP_V4_SRC: u16 = 1;
pub const CTA_IP_V4_DST: u16 = 2;
pub const CTA_IP_V6_SRC: u16 = 3;
pub const CTA_IP_V6_DST: u16 = 4;
pub const CTA_PROTO_NUM: u16 = 1;
pub const CTA_PROTO_SRC_PORT: u16 = 2;
pub const CTA_PROTO_DST_PORT: u16 = 3;
pub const CTA_FILTER_ORIG_FLAGS: u16 = 1;
pub const CTA_PROTOINFO_TCP: u16 = 1;
pub const CTA_PROTOINFO_SCTP: u16 = 3;
/// `CTA_PROTOINFO_TCP_STATE`, `CTA_PROTOINFO_SCTP_STATE`
pub const CTA_PROTOINFO_STATE: u16 = 1;

// linux/netfilter/nf_conntrack_common.h, nf_conntrack_tcp.h, nf_conntrack_sctp.h
pub const IPS_DST_NAT: u32 = 1 << 5;
pub const TCP_TIME_WAIT: u8 = 7;
pub const TCP_CLOSE: u8 = 8;
pub const SCTP_CLOSED: u8 = 1;

// net/netfilter/nf_internals.h in the kernel: the meaning of the flags has no public header.
pub const FILTER_PROTO_NUM: u32 = 1 << 3;
pub const FILTER_PROTO_DST_PORT: u32 = 1 << 5;
