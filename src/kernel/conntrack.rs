//! The kernel's half: reads the flows of this network namespace and deletes some of them.
//!
//! Messages are those of `linux/netfilter/nfnetlink_conntrack.h`, over NETLINK_NETFILTER. What
//! arrives is input: every length is checked.

#![forbid(unsafe_code)]

mod abi;
mod entry;

use std::io;

use nix::errno::Errno;
use nix::libc;

use self::abi::*;
use self::entry::{Entry, Handle};
use super::netlink::socket::{ATTEMPTS, Request, Socket};
use super::netlink::wire::Writer;
use crate::flows::{Flow, LocalAddresses, contradicts, redirected, service_of};
use crate::host::network::interfaces;
use crate::mapping::changes::differing_services;
use crate::mapping::{MappingSet, Service};
use crate::ruleset::TRIAL_ZONE;

/// Deletes the flows that contradict `after`, which is in the kernel already, and says how many
/// there were. `before` is what it replaced.
///
/// If the two differ in nothing connectionless, the kernel is not asked at all.
pub fn clean(before: &MappingSet, after: &MappingSet) -> Result<usize, Error> {
    let mut services = differing_services(before, after);
    services.retain(|s| s.protocol.is_connectionless());
    if services.is_empty() {
        return Ok(0);
    }
    let local = local_addresses().map_err(Error::Addresses)?;
    let outdated = list(&services, |entry| {
        service_of(&entry.flow).is_some_and(|s| services.binary_search(&s).is_ok())
            && contradicts(&entry.flow, before, after, &local)
    })
    .map_err(Error::List)?;
    delete(&outdated)
}

/// Deletes the flows that an earlier build moved to another address with `before` in the kernel,
/// and says how many there were.
pub fn clean_redirected(before: &MappingSet) -> Result<usize, Error> {
    let mut services: Vec<_> = before.services().map(|group| group[0].service).collect();
    services.retain(|s| s.protocol.is_connectionless());
    if services.is_empty() {
        return Ok(0);
    }
    let local = local_addresses().map_err(Error::Addresses)?;
    let found = list(&services, |entry| redirected(&entry.flow, before, &local));
    delete(&found.map_err(Error::List)?)
}

/// How many connections go to a port of this host that a rule chose, and are not closed yet.
pub fn translated_connections() -> Result<usize, Error> {
    Ok(translated()?.len())
}

/// Makes connection tracking forget those connections, and says how many there were.
pub fn forget_translated_connections() -> Result<usize, Error> {
    delete(&translated()?)
}

fn translated() -> Result<Vec<Handle>, Error> {
    let local = local_addresses().map_err(Error::Addresses)?;
    let is_translated = |entry: &Entry| {
        let Flow { protocol, original, reply } = entry.flow;
        entry.status & IPS_DST_NAT != 0
            && entry.is_open()
            && !protocol.is_connectionless()
            && local.contains(original.destination.ip())
            && local.contains(reply.source.ip())
            && original.destination.port() != reply.source.port()
    };
    list(&[], is_translated).map_err(Error::List)
}

/// Deletes the flows of [`TRIAL_ZONE`], and says how many there were.
pub fn clear_trial_flows() -> Result<usize, Error> {
    delete(&list(&[], |entry| entry.zone == TRIAL_ZONE).map_err(Error::List)?)
}

/// Why flows could not be read, or outdated ones may still be there. The rules themselves are in
/// force all the same.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("look at tracked flows: read this host's addresses")]
    Addresses(#[source] io::Error),
    /// None was deleted.
    #[error("look at tracked flows: read the connection tracking table")]
    List(#[source] io::Error),
    /// Some flows could not be deleted; `deleted` others were.
    #[error("delete outdated UDP flows: {failed} of {} not deleted", deleted + failed)]
    Delete { deleted: usize, failed: usize, source: io::Error },
}

impl Error {
    /// What the user can do.
    pub fn help(&self) -> &'static str {
        let errno = match self {
            Error::Addresses(e) | Error::List(e) | Error::Delete { source: e, .. } => {
                e.raw_os_error().map(Errno::from_raw)
            }
        };
        match errno {
            Some(Errno::EPERM | Errno::EACCES) => "run as root, or with CAP_NET_ADMIN",
            // An unknown subsystem of nfnetlink is EINVAL, an unknown netlink protocol the other.
            Some(Errno::EINVAL | Errno::EPROTONOSUPPORT) => {
                "load the kernel module nf_conntrack_netlink (modprobe nf_conntrack_netlink); \
                 until then, UDP clients may reach the old port until they pause for two minutes"
            }
            _ => {
                "UDP clients may reach the old port until they pause for two minutes; \
                 `conntrack -D -p udp --orig-port-dst PORT` deletes their flows"
            }
        }
    }
}

fn local_addresses() -> io::Result<LocalAddresses> {
    let addresses = interfaces()?.into_iter().flat_map(|interface| interface.addresses);
    Ok(LocalAddresses::new(addresses))
}

/// Flows that `choose` wants, of those that concern one of `services` (sorted; none: all) and
/// possibly of others. Only they are kept in memory: a table of flows can be large.
fn list(services: &[Service], mut choose: impl FnMut(&Entry) -> bool) -> io::Result<Vec<Handle>> {
    let filter = filter_for(services);
    let mut chosen = Vec::new();
    // One family at a time: the kernel refuses a filter for both (EOPNOTSUPP).
    for family in [AF_INET, AF_INET6] {
        chosen.extend(list_family(family, &filter, &mut choose)?);
    }
    Ok(chosen)
}

fn list_family(
    family: u8,
    filter: &[u8],
    choose: &mut impl FnMut(&Entry) -> bool,
) -> io::Result<Vec<Handle>> {
    let mut filter = filter;
    let mut attempt = 1;
    loop {
        // A socket of its own for each attempt: nothing is left in it of the one before.
        let error = match dump(family, filter, choose) {
            Ok(handles) => return Ok(handles),
            Err(error) => error,
        };
        match error.errno().map(Errno::from_raw) {
            // A kernel that knows filters, but not this one; none is always right.
            Some(Errno::EINVAL | Errno::EOPNOTSUPP) if !filter.is_empty() => filter = &[],
            Some(Errno::EINTR | Errno::ENOBUFS) if attempt < ATTEMPTS => attempt += 1,
            _ => return Err(error.into()),
        }
    }
}

/// One reading of all flows of a family. `Interrupted` if the table changed its shape meanwhile.
fn dump(
    family: u8,
    filter: &[u8],
    choose: &mut impl FnMut(&Entry) -> bool,
) -> Result<Vec<Handle>, super::Error> {
    let mut chosen = Vec::new();
    let request = Request { kind: CT_GET, family, dump: true };
    Socket::open()?.ask(
        request,
        &|writer| writer.bytes.extend_from_slice(filter),
        &mut |message| {
            if message.kind == CT_NEW {
                let entry = Entry::parse(message.payload)?;
                chosen.extend(entry.filter(|e| choose(e)).map(|e| e.handle));
            }
            Ok(())
        },
    )?;
    Ok(chosen)
}

/// Deletions that go out in one datagram. Each is acknowledged, and all acknowledgements must find
/// room in the receive buffer (by default for about 270).
const BATCH: usize = 64;

fn delete(handles: &[Handle]) -> Result<usize, Error> {
    let mut tally = Tally::default();
    let sent = delete_all(handles, &mut tally);
    let Tally { deleted, gone, refused } = tally;
    match sent.err().or(refused) {
        None => Ok(deleted),
        Some(source) => {
            // More answers than questions are not the kernel's.
            let failed = handles.len().saturating_sub(deleted + gone);
            Err(Error::Delete { deleted, failed, source })
        }
    }
}

/// What has become of deletions.
#[derive(Default)]
struct Tally {
    deleted: usize,
    /// Timed out by themselves, or another flow has the tuple now: as wanted, but not our doing.
    gone: usize,
    /// The first refusal. The others are tried all the same.
    refused: Option<io::Error>,
}

fn delete_all(handles: &[Handle], tally: &mut Tally) -> io::Result<()> {
    if handles.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::open()?;
    for batch in handles.chunks(BATCH) {
        let mut requests = Writer::default();
        let first = socket.reserve_sequences(batch.len() as u32);
        for (sequence, Handle { family, id }) in (first..).zip(batch) {
            let message = requests.begin(CT_DELETE, libc::NLM_F_ACK as u16, sequence, *family, 0);
            requests.bytes.extend_from_slice(id);
            requests.end(message);
        }
        let answers = socket.transact(&requests.bytes)?;
        for answer in &answers {
            match answer.errno {
                0 => tally.deleted += 1,
                libc::ENOENT => tally.gone += 1,
                errno => {
                    tally.refused.get_or_insert(io::Error::from_raw_os_error(errno));
                }
            }
        }
        // Each is answered before the request is sent to its end.
        if answers.len() < batch.len() {
            return Err(Errno::ENOBUFS.into());
        }
    }
    Ok(())
}

/// Attributes by which the kernel itself passes over flows of another protocol or port, where one
/// protocol or port says it all. Kernels before 5.8 do not know them and give every flow.
fn filter_for(services: &[Service]) -> Vec<u8> {
    // Sorted by protocol: if the first and the last have the same, all have.
    let [Some(protocol), Some(last)] =
        [services.first(), services.last()].map(|s| s.map(|s| s.protocol))
    else {
        return Vec::new();
    };
    if protocol != last {
        return Vec::new();
    }
    let mut flags = FILTER_PROTO_NUM;
    let mut filter = Writer::default();
    let tuple = filter.nest(CTA_TUPLE_ORIG);
    let proto = filter.nest(CTA_TUPLE_PROTO);
    filter.attr(CTA_PROTO_NUM, &[protocol.number()]);
    if let [only] = services {
        flags |= FILTER_PROTO_DST_PORT;
        filter.attr(CTA_PROTO_DST_PORT, &only.port.get().to_be_bytes());
    }
    filter.close(proto);
    filter.close(tuple);
    let nest = filter.nest(CTA_FILTER);
    filter.attr(CTA_FILTER_ORIG_FLAGS, &flags.to_ne_bytes());
    filter.close(nest);
    filter.bytes
}

#[cfg(test)]
mod tests;
