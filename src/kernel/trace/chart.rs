//! What is known of the chains and rules that a story names.

use std::collections::BTreeSet;

use nix::libc;

use super::event::{family_name, family_number};
use crate::kernel::Error;
use crate::kernel::netlink::socket::Socket;
use crate::kernel::netlink::wire::{Attrs, Malformed, be_u32, be_u64, text};
use crate::kernel::nft::abi::*;
use crate::kernel::nft::{query, sets};
use crate::story::{Base, Chart, Place, Said, Story, Written};

/// Reads them. What has been removed since is left out.
pub fn read(socket: &mut Socket, story: &Story) -> Result<Chart, Error> {
    let mut chart = Chart::default();
    bases(socket, &mut chart)?;
    let passages = story.passages.iter();
    let places: BTreeSet<Place> = passages
        .flat_map(|passage| passage.words.iter().map(move |word| (passage, word)))
        .filter(|(_, word)| matches!(word.said, Said::Rule { .. }))
        .map(|(passage, word)| passage.place_of(word))
        .collect();
    for place in places {
        match rules(socket, &place, &mut chart) {
            Ok(()) | Err(Error::Kernel { errno: libc::ENOENT }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(chart)
}

fn bases(socket: &mut Socket, chart: &mut Chart) -> Result<(), Error> {
    let any = libc::NFPROTO_UNSPEC as u8;
    query::dump_of(any, socket, libc::NFT_MSG_GETCHAIN, &[], |message| {
        let attrs = message.attrs()?;
        let Some(hook) = attrs.find(NFTA_CHAIN_HOOK)?.map(Attrs) else { return Ok(()) };
        let family = message.family().ok_or(Malformed)?;
        let word = |attribute| attrs.find(attribute)?.map(text).transpose()?.ok_or(Malformed);
        let number = |attribute| hook.find(attribute)?.map(be_u32).transpose()?.ok_or(Malformed);
        let place = Place {
            family: family_name(family),
            table: word(NFTA_CHAIN_TABLE)?.to_owned(),
            chain: word(NFTA_CHAIN_NAME)?.to_owned(),
        };
        let base = Base {
            hook: hook_name(family, number(NFTA_HOOK_HOOKNUM)?),
            priority: number(NFTA_HOOK_PRIORITY)? as i32,
        };
        chart.bases.insert(place, base);
        Ok(())
    })
}

/// Hooks of netdev tables are numbered on their own (`enum nf_dev_hooks`).
fn hook_name(family: u8, number: u32) -> &'static str {
    match (i32::from(family), number) {
        (libc::NFPROTO_NETDEV, 0) => "ingress",
        (libc::NFPROTO_NETDEV, 1) => "egress",
        (_, 0) => "prerouting",
        (_, 1) => "input",
        (_, 2) => "forward",
        (_, 3) => "output",
        (_, 4) => "postrouting",
        (_, 5) => "ingress",
        _ => "?",
    }
}

fn rules(socket: &mut Socket, place: &Place, chart: &mut Chart) -> Result<(), Error> {
    let Some(family) = family_number(place.family) else { return Ok(()) };
    let attrs = [(NFTA_RULE_TABLE, &*place.table), (NFTA_RULE_CHAIN, &*place.chain)];
    let mut position = 0;
    query::dump_of(family, socket, libc::NFT_MSG_GETRULE, &attrs, |message| {
        let attrs = message.attrs()?;
        let is = |attribute, name: &str| {
            attrs.find(attribute).map(|found| found.map(text) == Some(Ok(name)))
        };
        if !is(NFTA_RULE_TABLE, &place.table)? || !is(NFTA_RULE_CHAIN, &place.chain)? {
            return Ok(());
        }
        position += 1;
        let handle = be_u64(attrs.find(NFTA_RULE_HANDLE)?.ok_or(Malformed)?)?;
        // A comment that is no text is no comment.
        let userdata = attrs.find(NFTA_RULE_USERDATA)?.unwrap_or(&[]);
        let comment = sets::read_comment(userdata).ok().flatten().map(str::to_owned);
        let written = Written { position, text: None, comment };
        chart.rules.insert((place.clone(), handle), written);
        Ok(())
    })
}
