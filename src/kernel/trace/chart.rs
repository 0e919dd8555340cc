//! What is known of the chains and rules that a story names.

use nix::net::if_::if_nametoindex;

use crate::firewall::{
    self, Answer, Backend, Client, Connection, Interface, Rulesets, Spot, Table, Traffic, text,
};
use crate::mapping::{MappingSet, Port, PortRange, Service};
use crate::story::{
    Base, Chart, Leg, Opening, Origin, Outcome, Place, Said, Story, Untraced, Written,
};

/// Looks them up. What has been removed since is left out. `mapping` says where a connection was to
/// be sent that was lost on its way.
pub fn chart(rulesets: &Rulesets, story: &Story, mapping: &MappingSet) -> Chart {
    let mut chart = Chart::default();
    for passage in &story.passages {
        let Some(table) = table(rulesets, &passage.place) else { continue };
        if let Some(base) = table.chain(&passage.place.chain).and_then(|chain| chain.base.as_ref())
        {
            let base = Base { hook: base.hook.name(), priority: base.priority };
            chart.bases.insert(passage.place.clone(), base);
        }
        for word in &passage.words {
            let Said::Rule { handle, .. } = word.said else { continue };
            let place = passage.place_of(word);
            let rules = table.chain(&place.chain).map_or(&[][..], |chain| &chain.rules);
            let Some(at) = rules.iter().position(|rule| rule.handle == handle) else { continue };
            let rule = &rules[at];
            let (text, comment) = (Some(text(table, rule)), rule.comment.clone());
            chart.rules.insert((place, handle), Written { position: at + 1, text, comment });
        }
    }
    chart.opening = opening(rulesets, story);
    chart.untraced = untraced(rulesets, story, mapping);
    chart
}

/// The kernel traces no rules of legacy iptables: what they do with such a connection is judged.
fn untraced(rulesets: &Rulesets, story: &Story, mapping: &MappingSet) -> Option<Untraced> {
    let is_legacy = |table: &Table| table.backend == Backend::Legacy;
    if story.outcome != Outcome::Lost || !rulesets.tables.iter().any(is_legacy) {
        return None;
    }
    let connection = connection(story, mapping)?;
    let judgement = firewall::judge(rulesets, &connection);
    let deciding = judgement.deciding.filter(|_| matches!(judgement.answer, Answer::Blocks(_)))?;
    if !is_legacy(&rulesets.tables[deciding.spot.table]) {
        return None;
    }
    let one = |port| PortRange::one(port);
    let Service { protocol, port } = connection.service;
    let traffic = Traffic {
        protocol,
        ports: one(port),
        targets: connection.target.map(one),
        is_local: connection.client == Client::Here,
    };
    let commands = firewall::remedy(rulesets, &deciding, &traffic);
    let opening = Opening { owner: deciding.owner.name(), commands };
    Some(Untraced { text: deciding.text, opening })
}

/// The same connection, made once more.
fn connection(story: &Story, mapping: &MappingSet) -> Option<Connection> {
    let client = match &story.origin {
        Origin::Here => Client::Here,
        Origin::Outside { interface } => {
            let name = interface.clone()?;
            // That of a probe has gone by now; legacy iptables asks for names alone.
            let index = if_nametoindex(name.as_str()).unwrap_or(0);
            let source = Some(story.client.ip().into());
            Client::Outside { interface: Interface { name, index }, source }
        }
    };
    let service = Service { protocol: story.protocol, port: Port::new(story.asked.port())? };
    let target = match (story.is_translated(), mapping.of(service)) {
        (true, _) => Port::new(story.reached.port()),
        (false, []) => None,
        (false, [only]) if only.selector.matches().is_none() => Some(only.to.port()),
        // It depends on what they select.
        (false, _) => return None,
    };
    Some(Connection { client, address: story.asked.ip(), service, target })
}

fn traffic(story: &Story) -> Option<Traffic> {
    let one = |port| Port::new(port).map(PortRange::one);
    Some(Traffic {
        protocol: story.protocol,
        ports: one(story.asked.port())?,
        targets: if story.is_translated() { Some(one(story.reached.port())?) } else { None },
        is_local: story.origin == Origin::Here,
    })
}

/// What to type to the owner of the table that decided against the connection.
fn opening(rulesets: &Rulesets, story: &Story) -> Option<Opening> {
    let (Outcome::Rejected(by) | Outcome::Dropped(by)) = &story.outcome else { return None };
    let passage = story.passage_of(by)?;
    let at = rulesets.tables.iter().position(|table| is_it(table, &by.place))?;
    let table = &rulesets.tables[at];
    let hook = table.chain(&passage.place.chain)?.base.as_ref()?.hook;
    let chain = table.chains.iter().position(|chain| chain.name == by.place.chain)?;
    let is_that = |handle| table.chains[chain].rules.iter().position(|r| r.handle == handle);
    // The rule may have gone since.
    let rule = match by.rule {
        Some(handle) => Some(is_that(handle)?),
        None => None,
    };
    let leg = match passage.leg {
        Leg::Request => firewall::Leg::Open,
        Leg::Answer => firewall::Leg::Answer,
    };
    let deciding = firewall::deciding(rulesets, Spot { table: at, chain, rule }, leg, hook);
    let commands = firewall::remedy(rulesets, &deciding, &traffic(story)?);
    Some(Opening { owner: deciding.owner.name(), commands })
}

fn table<'r>(rulesets: &'r Rulesets, place: &Place) -> Option<&'r Table> {
    rulesets.tables.iter().find(|table| is_it(table, place))
}

fn is_it(table: &Table, place: &Place) -> bool {
    // The kernel traces no rules of legacy iptables, whose tables may have the same names.
    table.backend == Backend::Nftables
        && table.family.name() == place.family
        && table.name == place.table
}
