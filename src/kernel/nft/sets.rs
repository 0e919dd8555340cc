//! Maps, the gate, anonymous sets and their elements: written and read side by side, without
//! libnftnl, which takes an allocation per element and attribute.

use std::time::Duration;

use super::abi::*;
use super::expr::{GOTO, decode_counter, decode_verdict};
use super::interval::Element;
use super::rule::{AnonymousSet, Field, nfproto};
use super::userdata;
use crate::kernel::netlink::wire::{Attrs, Malformed, Writer, be_u32, be_u64, text};
use crate::mapping::{Comment, Port, Protocol, Service, Target, Uid, User, UserName};
use crate::ruleset::{Answer, ChainName, Counter, Layer, MapName, MapShape, PortData};

/// What of a set's definition the kernel reports and we care about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    pub name: String,
    pub flags: u32,
    pub key: (u32, u32),
    pub data: (u32, u32),
    pub size: u32,
    pub counted: bool,
    /// Properties that no set of ours has: a default timeout, other expressions, a comment.
    pub foreign: bool,
}

/// A concatenation takes whole 32-bit words for each part.
const KEY_LEN: u32 = 8;

impl Definition {
    pub fn read(attrs: Attrs) -> Result<Self, Malformed> {
        let mut set = Self::default();
        for attr in attrs {
            let (kind, value) = attr?;
            match kind {
                NFTA_SET_NAME => set.name = text(value)?.to_owned(),
                NFTA_SET_FLAGS => set.flags = be_u32(value)?,
                NFTA_SET_KEY_TYPE => set.key.0 = be_u32(value)?,
                NFTA_SET_KEY_LEN => set.key.1 = be_u32(value)?,
                NFTA_SET_DATA_TYPE => set.data.0 = be_u32(value)?,
                NFTA_SET_DATA_LEN => set.data.1 = be_u32(value)?,
                NFTA_SET_DESC => {
                    if let Some(size) = Attrs(value).find(NFTA_SET_DESC_SIZE)? {
                        set.size = be_u32(size)?;
                    }
                }
                NFTA_SET_EXPR => match decode_counter(value) {
                    Ok(_) => set.counted = true,
                    Err(Malformed) => set.foreign = true,
                },
                NFTA_SET_USERDATA => set.foreign |= userdata::is_commented(value),
                NFTA_SET_TIMEOUT | NFTA_SET_GC_INTERVAL | NFTA_SET_OBJ_TYPE
                | NFTA_SET_EXPRESSIONS => set.foreign = true,
                _ => {}
            }
        }
        Ok(set)
    }

    /// The shape if it is the map of this name as we make it.
    pub fn shape(&self, name: MapName) -> Option<MapShape> {
        let (data_type, data_len) = data_of(name);
        // The kernel reports verdicts with a length of its own.
        let data = self.data.0 == data_type && (data_len == 0 || self.data.1 == data_len);
        let key = self.key == key_of(name);
        let ours = self.flags == flags_of(name) && key && data && !self.foreign;
        ours.then_some(MapShape { size: self.size, counted: self.counted })
    }

    pub fn is_gate(&self) -> bool {
        self.flags == SET_TIMEOUT
            && self.key == (TYPE_NF_PROTO, 1)
            && !self.foreign
            && !self.counted
            && self.size == 0
    }

    pub fn is_anonymous(&self) -> bool {
        self.flags & SET_ANONYMOUS != 0
    }

    /// Whether it is a set as we make them for rules: values or intervals, nothing else.
    pub fn is_plain_anonymous(&self) -> bool {
        self.is_anonymous()
            && self.flags & !(SET_CONSTANT | SET_INTERVAL) == SET_ANONYMOUS
            && !self.counted
            && !self.foreign
    }
}

const fn flags_of(name: MapName) -> u32 {
    match name {
        MapName::Ports(..) | MapName::Selected(_) => SET_MAP,
        MapName::Zoned | MapName::Served(_) | MapName::Guarded(_) | MapName::Hidden(_) => 0,
    }
}

/// Type and length of a key.
fn key_of(name: MapName) -> (u32, u32) {
    match name {
        MapName::Ports(..) | MapName::Selected(_) | MapName::Zoned | MapName::Hidden(_) => {
            (TYPE_SERVICE_KEY, KEY_LEN)
        }
        MapName::Guarded(_) => (TYPE_ANSWER_KEY, 12),
        MapName::Served(_) => (TYPE_USER_KEY, 16),
    }
}

/// Type and length; zeroes for a set, which has no data.
fn data_of(name: MapName) -> (u32, u32) {
    match name {
        MapName::Ports(..) => (TYPE_INET_SERVICE, 2),
        MapName::Selected(_) => (TYPE_VERDICT, 0),
        MapName::Zoned | MapName::Served(_) | MapName::Guarded(_) | MapName::Hidden(_) => (0, 0),
    }
}

impl Field {
    fn key(self) -> (u32, u32) {
        match self {
            Field::L4Proto => (TYPE_INET_PROTOCOL, 1),
            Field::Interface => (TYPE_IFNAME, 16),
            Field::Address { ipv6: false, .. } => (TYPE_IPADDR, 4),
            Field::Address { ipv6: true, .. } => (TYPE_IP6ADDR, 16),
        }
    }
}

fn write_head(writer: &mut Writer, name: &str, flags: u32, key: (u32, u32)) {
    writer.attr_str(NFTA_SET_NAME, name);
    writer.attr_u32(NFTA_SET_FLAGS, flags);
    writer.attr_u32(NFTA_SET_KEY_TYPE, key.0);
    writer.attr_u32(NFTA_SET_KEY_LEN, key.1);
}

fn write_tail(writer: &mut Writer, id: u32, size: u32, userdata: &[u8]) {
    writer.attr_u32(NFTA_SET_ID, id);
    if size != 0 {
        let desc = writer.nest(NFTA_SET_DESC);
        writer.attr_u32(NFTA_SET_DESC_SIZE, size);
        writer.close(desc);
    }
    writer.attr(NFTA_SET_USERDATA, userdata);
}

/// The attributes of a map to be made.
pub fn write_map(writer: &mut Writer, id: u32, name: MapName, shape: MapShape) {
    let flags = flags_of(name);
    write_head(writer, &name.to_string(), flags, key_of(name));
    if flags & SET_MAP != 0 {
        let (data_type, data_len) = data_of(name);
        writer.attr_u32(NFTA_SET_DATA_TYPE, data_type);
        writer.attr_u32(NFTA_SET_DATA_LEN, data_len);
    }
    write_tail(writer, id, shape.size, &userdata::of_map(name));
    if shape.counted {
        write_counter(writer, NFTA_SET_EXPR, Counter::default());
    }
}

pub fn write_gate(writer: &mut Writer, id: u32, name: &str) {
    write_head(writer, name, SET_TIMEOUT, (TYPE_NF_PROTO, 1));
    write_tail(writer, id, 0, &userdata::of_gate());
}

pub fn write_anonymous(writer: &mut Writer, name: &str, set: &AnonymousSet) {
    let interval = set.elements.interval;
    let flags = SET_ANONYMOUS | SET_CONSTANT | if interval { SET_INTERVAL } else { 0 };
    write_head(writer, name, flags, set.field.key());
    write_tail(writer, set.id, set.elements.size, &userdata::of_field(set.field, interval));
}

fn write_counter(writer: &mut Writer, attribute: u16, counter: Counter) {
    let expr = writer.nest(attribute);
    writer.attr_str(NFTA_EXPR_NAME, "counter");
    let data = writer.nest(NFTA_EXPR_DATA);
    if counter != Counter::default() {
        writer.attr_u64(NFTA_COUNTER_PACKETS, counter.packets);
        writer.attr_u64(NFTA_COUNTER_BYTES, counter.bytes);
    }
    writer.close(data);
    writer.close(expr);
}

fn write_value(writer: &mut Writer, attribute: u16, value: &[u8]) {
    let nest = writer.nest(attribute);
    writer.attr(NFTA_DATA_VALUE, value);
    writer.close(nest);
}

fn service_key(service: Service) -> [u8; KEY_LEN as usize] {
    let [high, low] = service.port.get().to_be_bytes();
    [service.protocol.number(), 0, 0, 0, high, low, 0, 0]
}

pub fn write_service(writer: &mut Writer, service: Service, counter: Option<Counter>) {
    let element = writer.nest(NFTA_LIST_ELEM);
    write_value(writer, NFTA_SET_ELEM_KEY, &service_key(service));
    write_count(writer, counter);
    writer.close(element);
}

pub fn write_answer(writer: &mut Writer, answer: &Answer, counter: Option<Counter>) {
    let element = writer.nest(NFTA_LIST_ELEM);
    let mut key = service_key(answer.service).to_vec();
    key.extend(answer.to.port().get().to_be_bytes());
    key.extend([0; 2]);
    key.extend(answer.user.iter().flat_map(|user| user.uid.get().to_ne_bytes()));
    write_value(writer, NFTA_SET_ELEM_KEY, &key);
    let name = answer.user.as_ref().and_then(|user| user.name.as_deref());
    if let Some(name) = name {
        writer.attr(NFTA_SET_ELEM_USERDATA, &userdata::comment(name));
    }
    write_count(writer, counter);
    writer.close(element);
}

pub fn write_port(
    writer: &mut Writer,
    service: Service,
    target: &PortData,
    counter: Option<Counter>,
) {
    let element = writer.nest(NFTA_LIST_ELEM);
    write_value(writer, NFTA_SET_ELEM_KEY, &service_key(service));
    write_value(writer, NFTA_SET_ELEM_DATA, &target.to.port().get().to_be_bytes());
    if let Some(comment) = &target.comment {
        writer.attr(NFTA_SET_ELEM_USERDATA, &userdata::comment(comment));
    }
    write_count(writer, counter);
    writer.close(element);
}

/// What an element starts with. Without one the kernel makes it itself, if the map counts.
fn write_count(writer: &mut Writer, counter: Option<Counter>) {
    if let Some(counter) = counter.filter(|c| *c != Counter::default()) {
        write_counter(writer, NFTA_SET_ELEM_EXPR, counter);
    }
}

pub fn write_selected(writer: &mut Writer, layer: Layer, service: Service) {
    let element = writer.nest(NFTA_LIST_ELEM);
    write_value(writer, NFTA_SET_ELEM_KEY, &service_key(service));
    let data = writer.nest(NFTA_SET_ELEM_DATA);
    let verdict = writer.nest(NFTA_DATA_VERDICT);
    writer.attr_u32(NFTA_VERDICT_CODE, GOTO as u32);
    writer.attr_str(NFTA_VERDICT_CHAIN, &ChainName::Service(layer, service).to_string());
    writer.close(verdict);
    writer.close(data);
    writer.close(element);
}

/// The keys of the gate, in nft's order.
pub const GATE_KEYS: [u8; 2] = [nfproto(false), nfproto(true)];

pub fn write_gate_element(writer: &mut Writer, key: u8, timeout: Duration) {
    let element = writer.nest(NFTA_LIST_ELEM);
    writer.attr_u64(NFTA_SET_ELEM_TIMEOUT, timeout.as_millis() as u64);
    write_value(writer, NFTA_SET_ELEM_KEY, &[key]);
    writer.close(element);
}

pub fn write_element(writer: &mut Writer, element: &Element) {
    let nest = writer.nest(NFTA_LIST_ELEM);
    if element.end {
        writer.attr_u32(NFTA_SET_ELEM_FLAGS, ELEM_INTERVAL_END);
    }
    write_value(writer, NFTA_SET_ELEM_KEY, &element.key);
    if element.open {
        writer.attr(NFTA_SET_ELEM_USERDATA, &userdata::of_open_element());
    }
    writer.close(nest);
}

/// The service that a key begins with, and the rest of the key.
fn split_service(key: &[u8]) -> Result<(Service, &[u8]), Malformed> {
    let [protocol, 0, 0, 0, high, low, 0, 0, rest @ ..] = key else { return Err(Malformed) };
    let service = Service {
        protocol: Protocol::from_number(*protocol).ok_or(Malformed)?,
        port: Port::new(u16::from_be_bytes([*high, *low])).ok_or(Malformed)?,
    };
    Ok((service, rest))
}

/// One element as it was read. Absent attributes are absent or zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found<'a> {
    pub key: &'a [u8],
    data: Option<&'a [u8]>,
    flags: u32,
    timeout: Option<u64>,
    expiration: u64,
    userdata: Option<&'a [u8]>,
    counter: Counter,
    foreign: bool,
}

impl<'a> Found<'a> {
    pub fn read(element: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        for attr in Attrs(element) {
            let (kind, value) = attr?;
            match kind {
                NFTA_SET_ELEM_KEY => {
                    found.key = Attrs(value).find(NFTA_DATA_VALUE)?.ok_or(Malformed)?;
                }
                NFTA_SET_ELEM_DATA => found.data = Some(value),
                NFTA_SET_ELEM_FLAGS => found.flags = be_u32(value)?,
                NFTA_SET_ELEM_TIMEOUT => found.timeout = Some(be_u64(value)?),
                NFTA_SET_ELEM_EXPIRATION => found.expiration = be_u64(value)?,
                NFTA_SET_ELEM_USERDATA => found.userdata = Some(value),
                NFTA_SET_ELEM_EXPR => match decode_counter(value) {
                    Ok(counter) => found.counter = counter,
                    Err(Malformed) => found.foreign = true,
                },
                NFTA_SET_ELEM_PAD => {}
                _ => found.foreign = true,
            }
        }
        Ok(found)
    }

    fn service(&self) -> Result<Service, Malformed> {
        let (service, rest) = split_service(self.key)?;
        if rest.is_empty() { Ok(service) } else { Err(Malformed) }
    }

    /// An element of the set of served answers, or of the guarded ones, which have no user; and
    /// what it has counted.
    pub fn answer(&self) -> Result<(Answer, Counter), Malformed> {
        self.lasting()?;
        let (service, rest) = split_service(self.key)?;
        let (high, low, user) = match *rest {
            [high, low, 0, 0] => (high, low, None),
            [high, low, 0, 0, a, b, c, d] => (high, low, Some([a, b, c, d])),
            _ => return Err(Malformed),
        };
        let to = Target::new(Port::new(u16::from_be_bytes([high, low])).ok_or(Malformed)?);
        let comment = self.userdata.map(userdata::read_comment).transpose()?.flatten();
        let name = comment.map(|name| UserName::new(name).ok_or(Malformed)).transpose()?;
        let user = match user {
            Some(uid) => {
                let uid = Uid::new(u32::from_ne_bytes(uid)).ok_or(Malformed)?;
                Some(User { uid, name })
            }
            None if self.data.is_none() && name.is_none() => None,
            None => return Err(Malformed),
        };
        Ok((Answer { service, to, user }, self.counter))
    }

    fn lasting(&self) -> Result<(), Malformed> {
        let ordinary = self.flags == 0 && self.timeout.is_none() && !self.foreign;
        if ordinary { Ok(()) } else { Err(Malformed) }
    }

    pub fn port(&self) -> Result<(Service, PortData, Counter), Malformed> {
        self.lasting()?;
        let data = Attrs(self.data.ok_or(Malformed)?).find(NFTA_DATA_VALUE)?;
        let data = data.and_then(|d| d.try_into().ok()).ok_or(Malformed)?;
        let to = Target::new(Port::new(u16::from_be_bytes(data)).ok_or(Malformed)?);
        let comment = self.userdata.map(userdata::read_comment).transpose()?.flatten();
        let comment = comment.map(Comment::new).transpose().map_err(|_| Malformed)?;
        Ok((self.service()?, PortData { to, comment }, self.counter))
    }

    /// The service that is in a set, and what it has counted.
    pub fn member(&self) -> Result<(Service, Counter), Malformed> {
        self.lasting()?;
        let ours = self.data.is_none() && self.userdata.is_none();
        if ours { Ok((self.service()?, self.counter)) } else { Err(Malformed) }
    }

    /// The service if the verdict is to go to its chain.
    pub fn selected(&self, layer: Layer) -> Result<Service, Malformed> {
        self.lasting()?;
        let service = self.service()?;
        let (code, chain) = decode_verdict(Attrs(self.data.ok_or(Malformed)?))?;
        let wanted = ChainName::Service(layer, service).to_string();
        let ours = code == GOTO && chain == Some(&wanted) && self.userdata.is_none();
        if ours { Ok(service) } else { Err(Malformed) }
    }

    /// Key, timeout and what is left of it.
    pub fn gate(&self) -> Result<(u8, Duration, Duration), Malformed> {
        let timeout = self.timeout.filter(|_| self.flags == 0 && !self.foreign).ok_or(Malformed)?;
        match *self.key {
            [key] if GATE_KEYS.contains(&key) && self.userdata.is_none() => {
                let left = Duration::from_millis(self.expiration);
                Ok((key, Duration::from_millis(timeout), left))
            }
            _ => Err(Malformed),
        }
    }

    pub fn anonymous(&self) -> Result<Element, Malformed> {
        let ours = self.timeout.is_none() && !self.foreign && self.data.is_none();
        match self.flags {
            0 | ELEM_INTERVAL_END if ours => Ok(Element {
                key: self.key.to_vec(),
                end: self.flags == ELEM_INTERVAL_END,
                open: false,
            }),
            _ => Err(Malformed),
        }
    }

    /// The key for people, as far as it can be read.
    pub fn describe(&self) -> String {
        match self.service() {
            Ok(service) => service.to_string(),
            Err(Malformed) => self.key.iter().map(|b| format!("{b:02x}")).collect(),
        }
    }
}
